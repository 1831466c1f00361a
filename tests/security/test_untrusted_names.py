"""Names in data sets, checkpoints and stores lead nowhere but into their own folder."""

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mono3d.comparison.study_record import StudyRecord
from mono3d.config.load import load_recipe
from mono3d.data.images import read_image, read_image_size
from mono3d.data.kitti import KittiDataset
from mono3d.errors import CheckpointError, ConfigError, DataError
from mono3d.storage.location import write_bytes
from mono3d.training.checkpoint import read_student, verify
from mono3d.training.checkpoint_files import MANIFEST, read_tensors, read_verified, tensors_of
from mono3d.training.run_record import run_location
from tests.support.kitti_folder import write_kitti
from tests.support.nuscenes_tables import edit_table, open_tiny, write_tables
from tests.support.training import save_untrained, tiny_config

OUTSIDE = ("../../../etc/passwd", "/etc/passwd", "samples/../../x", "..", "", "a\0b")


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("key", ["filename", "token"])
def test_a_nuscenes_table_that_leads_out_of_its_folder_is_refused(
    key: str, name: str, tmp_path: Path
) -> None:
    """Files are read by the one, pictures and result files are written by the other."""

    def change(rows: list[dict[str, Any]]) -> None:
        rows[0][key] = name

    root = write_tables(tmp_path / "data")
    edit_table(root, "sample_data", change)
    # A token that is looked for elsewhere may be missed before it is looked at.
    with pytest.raises(DataError, match=r"lies outside the data set|do not fit together"):
        open_tiny(root, tmp_path)


def test_every_token_of_a_frame_is_looked_at(tmp_path: Path) -> None:
    """All tables agree on it, so that nothing else is wrong."""
    root = write_tables(tmp_path / "data")
    version = next(path for path in root.iterdir() if (path / "sample.json").exists())
    token = json.loads((version / "sample.json").read_text())[0]["token"]
    for table in version.glob("*.json"):
        table.write_text(table.read_text().replace(token, "../../written"))
    with pytest.raises(DataError, match=r"\.json: '\.\./\.\./written.*' lies outside"):
        open_tiny(root, tmp_path)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "a/../../../b", ".."])
@pytest.mark.parametrize("split", ["train", "list.txt"])
def test_a_kitti_list_that_leads_out_of_its_folder_is_refused(
    split: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_kitti(tmp_path / "kitti")
    for path in (root / "ImageSets" / "train.txt", tmp_path / "list.txt"):
        path.write_text(f"000000\n{name}\n")
    with pytest.raises(DataError, match=f"{split}.*: '{name}' lies outside the data set"):
        KittiDataset(root, split=split, class_names=["Car"])


@pytest.mark.parametrize("version", ["../other", "/etc", "a/b", "..", ""])
def test_a_version_is_the_name_of_a_folder(version: str) -> None:
    """It is part of the name of a file in the cache."""
    with pytest.raises(ConfigError, match=r"data\.version="):
        load_recipe("demo", [f"data.version={version!r}"])


@pytest.mark.parametrize("name", ["../../x", "/x", "..", ".hidden", "a/b", "", "a\nb", "x" * 101])
def test_a_run_s_name_is_the_name_of_a_folder(name: str) -> None:
    with pytest.raises(ConfigError, match="run name"):
        run_location(tiny_config(), name)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tiny_config(), tmp_path_factory.mktemp("saved") / "step_00000001")


Change = Callable[[dict[str, Any]], object]
DIGEST = "0" * 64
MANIFESTS: dict[str, Change] = {
    "a parent": lambda m: m["files"].update({"../x": {"size": 1, "sha256": DIGEST}}),
    "an absolute path": lambda m: m["files"].update({"/etc/x": {"size": 1, "sha256": DIGEST}}),
    "a folder": lambda m: m["files"].update({"a/x": {"size": 1, "sha256": DIGEST}}),
    "the folder itself": lambda m: m["files"].update({".": {"size": 1, "sha256": DIGEST}}),
    "the manifest": lambda m: m["files"].update({MANIFEST: {"size": 1, "sha256": DIGEST}}),
    "a path for a digest": lambda m: m["files"]["ema.safetensors"].update(sha256="/dev/zero"),
    "a digest in capitals": lambda m: m["files"]["ema.safetensors"].update(sha256="A" * 64),
    "no digest": lambda m: m["files"]["ema.safetensors"].pop("sha256"),
    "no size": lambda m: m["files"]["ema.safetensors"].pop("size"),
    "words for a size": lambda m: m["files"]["ema.safetensors"].update(size="big"),
    "a list for an entry": lambda m: m["files"].update({"ema.safetensors": [1]}),
    "a list of files": lambda m: m.update(files=["ema.safetensors"]),
    "a list within lists": lambda m: m.update(files=json.loads("[" * 400 + "]" * 400)),
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_that_says_more_than_its_own_files_is_refused(
    change: Change, checkpoint: Path, tmp_path: Path
) -> None:
    """A digest is the name of a file in the cache: one that is a path would be read."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in checkpoint.iterdir():
        os.link(path, copy / path.name)
    manifest = json.loads((copy / MANIFEST).read_text())
    change(manifest)
    (copy / MANIFEST).unlink()
    (copy / MANIFEST).write_text(json.dumps(manifest))
    for read in (verify, read_student):
        with pytest.raises(CheckpointError, match=r"manifest\.json: "):
            read(copy)


@pytest.mark.services
def test_a_digest_in_a_store_does_not_name_a_file_of_this_machine(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    private = tmp_path / "private"
    private.write_bytes(b"of this machine")
    os.utime(private, (0, 0))
    entry = {"size": 15, "sha256": str(private)}
    write_bytes(
        f"{store}/evil/{MANIFEST}", json.dumps({"format": 1, "files": {"x": entry}}).encode()
    )
    with pytest.raises(CheckpointError, match="must be a file of this folder"):
        read_verified(f"{store}/evil", "x")
    assert private.stat().st_mtime == 0  # a file of the cache would have been touched


HEADERS = {
    "a header of 2^60 bytes": (2**60).to_bytes(8, "little") + b"{}",
    "a header beyond the file": (1000).to_bytes(8, "little") + b"{}",
    "no header": b"",
    "tensors of 2^62 bytes": None,
    "pickle": b"\x80\x04cposix\nsystem\n(S'true'\ntR.",
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_weights_that_lie_about_their_size_are_refused(
    content: bytes | None, tmp_path: Path
) -> None:
    if content is None:
        entry = {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}
        header = json.dumps({"x": entry}).encode()
        content = len(header).to_bytes(8, "little") + header
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_tensors(path)
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        tensors_of(content, "x")


def test_a_small_file_that_says_it_is_a_huge_image_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow and OpenCV have limits, and say so in exceptions of their own."""
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 2**26)  # nuscenes-devkit raises it for maps
    path = tmp_path / "bomb.png"
    assert cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
    content = bytearray(path.read_bytes())
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    for read in (read_image, read_image_size):
        with pytest.raises(DataError, match="not a readable image"):
            read(path)


def test_a_link_in_the_folder_for_temporary_files_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who shares the machine can guess the name of a study's lock."""
    shared, victim, results = tmp_path / "shared", tmp_path / "victim", tmp_path / "study.json"
    shared.mkdir()
    victim.write_text("precious")
    monkeypatch.setattr("tempfile.tempdir", str(shared))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = hashlib.sha256(str(results.resolve()).encode()).hexdigest()[:16]
    (shared / f"mono3d-study-{name}.lock").symlink_to(victim)
    with StudyRecord(results).locked():
        pass
    assert victim.read_text() == "precious"
