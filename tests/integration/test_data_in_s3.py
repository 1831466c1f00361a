"""Data sets in a real store: equal to local ones, fetched once, and what is said when it fails."""

import pickle
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from mono3d.cli.main import app
from mono3d.config.load import load_recipe
from mono3d.data.files import DataPath, data_path
from mono3d.data.kitti import KittiDataset
from mono3d.data.loaders import evaluation_batches
from mono3d.data.nuscenes import NuScenesDataset
from mono3d.errors import DataError, StorageError
from mono3d.storage import s3
from mono3d.storage.location import upload_directory
from mono3d.structures import map_tensors
from mono3d.training.assembly import build_preparation
from mono3d.training.checkpoint_files import MANIFEST
from mono3d.training.datasets import build_dataset
from mono3d.training.evaluate import evaluate_split
from mono3d.training.launch import launch
from mono3d.training.local import train_locally
from mono3d.training.model_assembly import build_codec, build_model
from tests.support.kitti_folder import FRAMES, write_kitti
from tests.support.nuscenes_tables import CLASSES, VERSION, write_tables
from tests.support.s3_proxy import S3Proxy, s3_proxy
from tests.support.training import tiny_config

pytestmark = pytest.mark.services

Dataset = KittiDataset | NuScenesDataset


@dataclass(frozen=True)
class Kind:
    """A kind of data set, where it lies, and how it is opened."""

    local: Path
    uri: str
    open: Callable[[DataPath], Dataset]
    num_files: int
    """All that is read, other than tables and maps."""
    image: str
    """One of them."""


def _kitti(root: DataPath) -> KittiDataset:
    return KittiDataset(root, split="every", class_names=("Car", "Pedestrian"), with_points=True)


def _nuscenes(root: DataPath, **changes: Any) -> NuScenesDataset:
    settings = {"version": VERSION, "split": "all", "class_names": CLASSES, "with_points": True}
    return NuScenesDataset(root, **settings | changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def kinds(
    stack: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Kind]]:
    """Each kind in a folder and in a bucket; nuScenes also with tables here and blobs there."""
    kitti = write_kitti(tmp_path_factory.mktemp("data") / "kitti")
    (kitti / "ImageSets" / "every.txt").write_text("\n".join(FRAMES))
    nuscenes = write_tables(tmp_path_factory.mktemp("data") / "nuscenes")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stack.items():
            patch.setenv(name, value)
        s3.ensure_bucket("s3://mono3d-data")
        upload_directory(kitti, "s3://mono3d-data/kitti")
        upload_directory(nuscenes, "s3://mono3d-data/nuscenes")
    image = "samples/CAM_FRONT/scene-a-sample-0__CAM_FRONT.jpg"
    return {
        "kitti": Kind(
            kitti, "s3://mono3d-data/kitti", _kitti, 4 * 3 + 1, "training/image_2/000000.png"
        ),
        "nuscenes": Kind(nuscenes, "s3://mono3d-data/nuscenes", _nuscenes, 4 * 7, image),
        "nuscenes blobs": Kind(
            nuscenes,
            "s3://mono3d-data/nuscenes",
            lambda blobs: _nuscenes(nuscenes, blob_root=blobs),
            4 * 7,
            image,
        ),
    }


@pytest.fixture(params=["kitti", "nuscenes", "nuscenes blobs"])
def kind(
    request: pytest.FixtureRequest,
    kinds: Mapping[str, Kind],
    stack_environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Kind:
    """One of them, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return kinds[request.param]


@pytest.fixture
def proxy(stack_environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """Between the code under test and the store."""
    with s3_proxy(stack_environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def all_tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, note)
    return found


def assert_same(one: Any, other: Any) -> None:
    """Tensors of two frames or batches, to the last bit."""
    for a, b in zip(all_tensors(one), all_tensors(other), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def kept_bytes(tmp_path: Path) -> int:
    objects = tmp_path / "cache" / "mono3d" / "objects"
    return sum(path.stat().st_size for path in objects.glob("*/*"))


def test_frames_and_identity_are_those_of_the_local_folder(kind: Kind) -> None:
    local, remote = kind.open(kind.local), kind.open(data_path(kind.uri))
    assert remote.fingerprint == local.fingerprint
    assert remote.frame_ids == local.frame_ids
    assert remote.describe() == local.describe()
    for index in range(len(local)):
        assert remote[index].points is not None
        assert_same(remote[index], local[index])


def test_each_file_is_fetched_once(kind: Kind, proxy: S3Proxy) -> None:
    dataset = kind.open(data_path(kind.uri))
    at_opening = len(proxy.listings)
    for index in range(len(dataset)):
        dataset[index]
    files = [path for path in proxy.reads if not path.endswith((".json", "map.png"))]
    assert len(files) == len(set(files)) == kind.num_files
    proxy.reads.clear()
    for again in (dataset, pickle.loads(pickle.dumps(dataset))):
        for index in range(len(again)):
            again[index]
    assert (proxy.reads, len(proxy.listings)) == ([], at_opening)
    opened_again = kind.open(data_path(kind.uri))
    opened_again[0]
    assert proxy.reads == []
    assert len(proxy.listings) <= 2 * at_opening


def test_a_cache_too_small_for_the_data_costs_time_only(kind: Kind, tmp_path: Path) -> None:
    limit = (kind.local / kind.image).stat().st_size * 3 // 2
    local = kind.open(kind.local)
    remote = kind.open(data_path(kind.uri, cache_gib=limit / 1024**3))
    for _ in range(2):
        for index in range(len(local)):
            assert_same(remote[index], local[index])
            assert 0 < kept_bytes(tmp_path) <= limit


def test_loader_processes_read_what_the_parent_has_listed(kind: Kind, proxy: S3Proxy) -> None:
    config = tiny_config()
    codec = build_codec(config)
    how = build_preparation(config, codec, training=False)
    local, remote = kind.open(kind.local), kind.open(data_path(kind.uri))
    before = len(proxy.listings)
    indices = list(range(len(local)))
    batches = [
        list(evaluation_batches(dataset, how, indices, batch_size=1, num_workers=processes))
        for dataset, processes in ((local, 0), (remote, 2))
    ]
    for one, other in zip(*batches, strict=True):
        assert_same(one, other)
    assert len(proxy.listings) == before


def test_a_missing_object_is_named_as_a_missing_file_is(kind: Kind, tmp_path: Path) -> None:
    uri = f"s3://mono3d-data/holes-{tmp_path.name}"
    upload_directory(kind.local, uri)
    s3.delete(f"{uri}/{kind.image}")
    dataset = kind.open(data_path(uri))
    with pytest.raises(DataError) as caught:
        dataset[0]
    assert str(caught.value) == (f"{uri}/{kind.image}: cannot be read (No such file or directory)")
    content = (kind.local / kind.image).read_bytes()
    s3.write_bytes(f"{uri}/{kind.image}", content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"^{uri}/{kind.image}: image is cut short"):
        kind.open(data_path(uri))[0]


def test_a_bucket_that_is_not_there(kind: Kind) -> None:
    with pytest.raises(StorageError, match=r"^cannot list s3://nowhere/.* does not exist; create"):
        kind.open(data_path("s3://nowhere/data"))


def test_wrong_keys(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match=r"^cannot list s3://mono3d-data/.* are not accepted; "):
        kind.open(data_path(kind.uri))


def test_a_store_that_is_away(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """At opening; and in the middle of a run, when what is cached goes on being read."""
    dataset = kind.open(data_path(kind.uri))
    first = dataset[0]
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", away)
        with pytest.raises(StorageError, match=rf"^cannot list .* at {away}: nobody answers there"):
            kind.open(data_path(kind.uri))
        with pytest.raises(StorageError, match=rf"^cannot read {kind.uri}/.* nobody answers there"):
            dataset[len(dataset) - 1]
    assert first.points is not None


@pytest.mark.parametrize("kind", ["kitti", "nuscenes"], indirect=True)
def test_the_commands_take_a_uri(kind: Kind, tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        return CliRunner().invoke(app, [*arguments, "--version", VERSION]).stdout

    here, there = (said("data", "info", str(root)) for root in (kind.local, kind.uri))
    assert "fingerprint" in here
    assert here.partition("┏")[2] == there.partition("┏")[2]  # below the title
    count = len(kind.open(kind.local))
    assert f"{count} frames read: 0 broken, 0 odd" in said("data", "verify", kind.uri, "--points")
    uri = f"s3://mono3d-data/broken-{tmp_path.name}"
    upload_directory(kind.local, uri)
    s3.write_bytes(f"{uri}/{kind.image}", b"")
    text = said("data", "verify", uri)
    assert f"{uri}/{kind.image}: image is cut short or empty (0 bytes" in text
    assert f"{count} frames read: 1 broken, 0 odd" in text
    nothing = CliRunner().invoke(app, ["data", "info", f"{kind.uri}/none"])
    assert str(nothing.exception) == f"{kind.uri}/none: no such folder"


@pytest.mark.parametrize("kind", ["nuscenes", "nuscenes blobs"], indirect=True)
def test_official_metrics_of_data_in_a_store(kind: Kind) -> None:
    """They are read from the local copy of the tables."""
    roots = {"kind": "nuscenes", "root": kind.uri}
    if kind.open is not _nuscenes:
        roots |= {"root": str(kind.local), "blob_root": kind.uri}
    config = tiny_config(
        data={
            **roots, "version": VERSION, "class_names": CLASSES, "val_split": "tiny_val",
            "mean_dims_hwl": {"car": [1.7, 1.9, 4.6]},
        }
    )  # fmt: skip
    torch.manual_seed(0)
    dataset = build_dataset(config, "val")
    evaluation = evaluate_split(config, build_model(config), None, dataset)
    assert evaluation.metrics["nuscenes_map"] >= 0
    assert len(evaluation.answers) == 12


SMALL = (
    "train.epochs=2", "evaluation.every_epochs=2", "input.image_height_px=64",
    "input.image_width_px=192", "model.backbone.width=16", "model.channels=8",
    "model.has_depth_map=true", "train.batch_size=1", "checkpoint.keep=5",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kitti"], indirect=True)
def test_a_run_goes_on_when_its_data_have_moved_to_a_store(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends where it would have ended."""
    monkeypatch.chdir(tmp_path)

    def run(root: Path | str, name: str) -> Path:
        config = load_recipe("kitti_overfit", [f"data.root={root}", *SMALL])
        return Path(train_locally(config, name=name).last_checkpoint)

    whole, moved = run(kind.local, "whole"), run(kind.local, "moved")
    (moved.parents[1] / "result.json").unlink()
    (moved / MANIFEST).unlink()  # as if killed in the second epoch
    again = run(kind.uri, "moved")
    assert again == moved
    weights = [(folder / "model.safetensors").read_bytes() for folder in (whole, again)]
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["kitti"], indirect=True)
def test_workers_of_a_cluster_and_their_loaders_share_one_cache(kind: Kind, tmp_path: Path) -> None:
    changes = (
        "train.epochs=1", "data.train_split=train", "cluster.workers=2",
        "input.loader_processes=1", "cluster.storage=s3://mono3d-data/runs",
    )  # fmt: skip
    config = load_recipe("kitti_overfit", [f"data.root={kind.uri}", *SMALL, *changes])
    result = launch(config, name=tmp_path.name)
    assert result.metrics["val/centers_depth_abs_rel"] > 0
    # Training reads its list; validation image, calibration, labels and sweep of all three frames.
    assert len(list((tmp_path / "cache/mono3d/objects").glob("*/*"))) == 1 + 3 * 4
