"""What a user can get wrong: each is one line that names the thing, and exit code 2.

A row of the table breaks a copy of a good folder, run or recipe, and runs a command on it.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from mono3d.cli.main import main
from mono3d.config.load import load_recipe
from mono3d.storage.digests import sha256
from mono3d.training.local import train_locally
from tests.conftest import READER_KEY, READER_SECRET
from tests.support.kitti_folder import CALIBRATION, CAR, P2, write_kitti
from tests.support.nuscenes_tables import VERSION, write_tables

SHRUNK = (
    "train.epochs=1", "evaluation.every_epochs=1", "input.image_height_px=64",
    "input.image_width_px=192", "model.backbone.width=16", "model.channels=8",
    "train.batch_size=1",
)  # fmt: skip
BY_DEPTH = ("checkpoint.metric=val/centers_depth_abs_rel", "checkpoint.mode=min")
"""The recipe ranks by KITTI's metric, which other data do not have."""
CAMERA = "--camera=721.5,721.5,609.5,172.9"


@dataclass(frozen=True)
class World:
    """Copies of good things, to be broken."""

    kitti: Path
    nuscenes: Path
    run: Path
    """A finished run on the KITTI folder."""
    free: Path
    """Nothing yet."""

    @property
    def checkpoint(self) -> Path:
        return next((self.run / "checkpoints").iterdir())

    def part(self, name: str) -> Path:
        return self.kitti / "training" / name

    @property
    def label(self) -> Path:
        return self.part("label_2/000000.txt")

    @property
    def calibration(self) -> Path:
        return self.part("calib/000000.txt")

    def table(self, name: str) -> Path:
        return self.nuscenes / VERSION / f"{name}.json"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("good")
    kitti = write_kitti(folder / "kitti")
    nuscenes = write_tables(folder / "nuscenes")
    config = load_recipe(
        "kitti_overfit", [f"data.root={kitti}", *SHRUNK, f"cluster.storage={folder}"]
    )
    train_locally(config, name="run")
    return World(kitti=kitti, nuscenes=nuscenes, run=folder / "run", free=folder / "free")


@pytest.fixture
def world(good: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Copies that share their files with the good ones until they are written anew."""
    names = ("kitti", "nuscenes", "run")
    for name in names:
        shutil.copytree(getattr(good, name), tmp_path / name, copy_function=os.link)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_", "RAY_"))]:
        monkeypatch.delenv(name)
    return World(**{name: tmp_path / name for name in names}, free=tmp_path / "free")


def put(path: Path, content: str | bytes) -> None:
    """New content, and not that of the file that this one is a link to."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    put(path, content[: int(len(content) * share)])


def verify(world: World, *options: str) -> list[str]:
    return ["data", "verify", str(world.kitti), *options]


def verify_nuscenes(world: World, *options: str) -> list[str]:
    return ["data", "verify", str(world.nuscenes), "--version", VERSION, *options]


def train(world: World, *overrides: str, recipe: str = "kitti_overfit") -> list[str]:
    root = f"data.root={world.kitti}"
    return ["train", recipe, "--local", "--name", "new", root, *SHRUNK, *overrides]


def evaluate(world: World, *overrides: str) -> list[str]:
    return ["evaluate", str(world.checkpoint), f"data.root={world.kitti}", *overrides]


def predict(world: World, *arguments: str) -> list[str]:
    return ["predict", str(world.run), *arguments]


def labelled(line: str) -> Callable[[World], list[str]]:
    """`data verify` with this line in a label file."""

    def broken(world: World) -> list[str]:
        put(world.label, f"{CAR}\n{line}\n")
        return verify(world)

    return broken


def calibrated(content: str) -> Callable[[World], list[str]]:
    def broken(world: World) -> list[str]:
        put(world.calibration, content)
        return verify(world)

    return broken


def with_file(
    name: Callable[[World], Path],
    content: str | bytes | None,
    command: Callable[[World], list[str]] = verify,
) -> Callable[[World], list[str]]:
    """A command with one file's content replaced; None removes the file."""

    def broken(world: World) -> list[str]:
        path = name(world)
        if content is None:
            path.unlink()
        else:
            put(path, content)
        return command(world)

    return broken


def with_cut(
    name: Callable[[World], Path], command: Callable[[World], list[str]], share: float = 0.5
) -> Callable[[World], list[str]]:
    def broken(world: World) -> list[str]:
        cut(name(world), share)
        return command(world)

    return broken


def image(world: World) -> Path:
    return world.part("image_2/000000.png")


def sweep(world: World) -> Path:
    return world.part("velodyne/000000.bin")


def with_points(world: World) -> list[str]:
    return verify(world, "--points")


def of_list(world: World) -> list[str]:
    return verify(world, "--split", "train")


def of_own_list(world: World) -> list[str]:
    return verify(world, "--split", "mine")


def own_list(world: World) -> Path:
    return world.kitti / "ImageSets" / "mine.txt"


def weights(world: World) -> Path:
    return world.checkpoint / "ema.safetensors"


def manifest(world: World) -> Path:
    return world.checkpoint / "manifest.json"


def predict_frame(world: World) -> list[str]:
    return predict(world, str(image(world)), CAMERA)


def seen_by(camera: str) -> Callable[[World], list[str]]:
    """`predict` with this text as the camera."""
    return lambda world: predict(world, str(image(world)), f"--camera={camera}")


def without_sweep(world: World, *overrides: str) -> list[str]:
    """`train` on data one of whose sweeps is missing."""
    (world.part("velodyne") / "000000.bin").unlink()
    return train(world, *overrides)


def overridden(*overrides: str) -> Callable[[World], list[str]]:
    """`train` with these overrides."""
    return lambda world: train(world, *overrides)


def show(world: World, frames: str) -> list[str]:
    return [
        "data",
        "show",
        "kitti_overfit",
        f"data.root={world.kitti}",
        *SHRUNK,
        f"--frames={frames}",
    ]


def camera_image_missing(world: World) -> list[str]:
    next((world.nuscenes / "samples" / "CAM_BACK").iterdir()).unlink()
    return verify_nuscenes(world)


def no_such_camera(world: World) -> list[str]:
    data = f"{{kind: nuscenes, root: {world.nuscenes}, version: {VERSION}, cameras: [CAM_UP]}}"
    return train(world, f"data={data}", "data.train_split=all", "data.val_split=all", *BY_DEPTH)


def merged(world: World, *overrides: str) -> list[str]:
    """`train` on the one folder twice, once as labelled data and once without labels."""
    sets = (
        f"{{a: {{kind: kitti, root: {world.kitti}}}, b: {{kind: kitti, root: {world.kitti}, "
        "train_split: test, val_split: null, has_labels: false}}"
    )
    data = f"data={{kind: merged, class_names: [Car, Pedestrian], sets: {sets}}}"
    command = ["train", "kitti_overfit", "--local", "--name", "new", *SHRUNK, *BY_DEPTH]
    return [*command, data, *overrides]


def run_of_another_config(world: World) -> list[str]:
    name, storage = ("--name", "run"), f"cluster.storage={world.run.parent}"
    return ["train", "kitti_overfit", "--local", *name, f"data.root={world.kitti}", storage]


def without_objects(world: World) -> list[str]:
    put(world.label, "")
    return train(world)


def recipe_of(text: str) -> Callable[[World], list[str]]:
    def broken(world: World) -> list[str]:
        put(world.free / "mine.yaml", text)
        return ["train", str(world.free / "mine.yaml"), "--local"]

    return broken


def other_weights(world: World) -> list[str]:
    """A tensor of another shape, under a manifest that fits: not damaged, but another network's."""
    path = world.checkpoint / "ema.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    put(path, b"")
    save_file({**tensors, name: tensors[name][:1].clone()}, path)
    manifest_path = world.checkpoint / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    entry = manifest["files"]["ema.safetensors"]
    entry.update(size=path.stat().st_size, sha256=sha256(path))
    put(manifest_path, json.dumps(manifest))
    return evaluate(world)


def flipped_bit(world: World) -> list[str]:
    path = world.checkpoint / "ema.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    put(path, bytes(content))
    return evaluate(world)


def blocked_storage(world: World) -> list[str]:
    """A file where a folder should be: refused to every user, root too."""
    put(world.free, "a file")
    return train(world, f"cluster.storage={world.free}")


def s3(world: World) -> list[str]:
    return ["evaluate", "s3://mono3d/nothing"]


def without_server(world: World) -> list[str]:
    os.environ.update(AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_ACCESS_KEY_ID="a")
    os.environ.update(AWS_SECRET_ACCESS_KEY="b", AWS_DEFAULT_REGION="us-east-1")
    return s3(world)


Row = tuple[str, Callable[[World], list[str]], str]
LABELS: list[Row] = [
    ("label with too few values", labelled("Car 0.00 0 1.85"), "000000.txt:2: 4 values; a label"),
    ("label with a score", labelled(f"{CAR} 0.9"), "000000.txt:2: 16 values; a label has 15"),
    ("label with NaN", labelled(CAR.replace("58.49", "nan")), "000000.txt:2: nan is not finite"),
    ("label with infinity", labelled(CAR.replace("58.49", "inf")), "000000.txt:2: inf is not"),
    ("word for a number", labelled(CAR.replace("58.49", "far")), "'far' is not a number"),
    ("negative size", labelled(CAR.replace("1.67", "-1.67")), "a box needs sizes above 0"),
    ("zero size", labelled(CAR.replace("1.67", "0")), "a box needs sizes above 0"),
    ("unknown class", labelled(CAR.replace("Car", "Rickshaw")), "type Rickshaw is neither KITTI's"),
    (
        "label file missing",
        with_file(lambda w: w.label, None),
        "label_2/000000.txt: cannot be read",
    ),
    ("label file not text", with_file(lambda w: w.label, b"\xff\xfe\x00"), "not a text file"),
    (
        "label map to no class",
        overridden("data.label_map={Van: Lorry}"),
        "label_map Van: Lorry: must be null or one of the classes",
    ),
    (
        "own class without a size",
        overridden("data.class_names=[Car, Rickshaw]"),
        "data.mean_dims_hwl",
    ),
]
CALIBRATIONS: list[Row] = [
    (
        "no calibration",
        with_file(lambda w: w.calibration, None),
        "calib/000000.txt: cannot be read",
    ),
    ("no P2", calibrated(f"P0: {P2}\n"), "calib/000000.txt: no P2"),
    ("P2 too short", calibrated("P2: 1 2 3\n"), "P2 has 3 values; it is a 3x4 matrix"),
    ("P2 with NaN", calibrated(CALIBRATION.replace("609.5", "nan")), "P2: nan is not finite"),
    (
        "focal length zero",
        calibrated(CALIBRATION.replace("721.5 0 609.5", "0 0 609.5")),
        "focal lengths must be above 0",
    ),
    (
        "P2 of no camera",
        calibrated(f"P2: {P2.replace('0 0 1 ', '0 1 1 ')}\n"),
        "the last row 0 0 1",
    ),
    ("broken Tr", calibrated(f"P2: {P2}\nR0_rect: 1\nTr_velo_to_cam: 1\n"), "R0_rect has 1 values"),
    ("empty calibration", calibrated(""), "calib/000000.txt: no P2"),
]
FRAMES: list[Row] = [
    ("image missing", with_file(image, None, of_list), "image_2/000000.png: cannot be read"),
    ("image cut short", with_cut(image, verify), "image_2/000000.png: image is cut short"),
    ("image empty", with_file(image, b""), "image_2/000000.png"),
    ("image not an image", with_file(image, "hello"), "image_2/000000.png"),
    ("sweep missing", with_file(sweep, None, with_points), "velodyne/000000.bin: cannot be read"),
    ("sweep cut short", with_cut(sweep, with_points, 0.501), "velodyne/000000.bin"),
    ("sweep with NaN", with_file(sweep, b"\xff" * 64, with_points), "velodyne/000000.bin"),
    ("no such folder", lambda w: ["data", "info", str(w.free)], "free: no such folder"),
    ("folder of nothing", lambda w: [*verify(w), "--split", "mine"], "split mine: neither"),
    (
        "empty list of frames",
        with_file(own_list, "", of_own_list),
        "mine.txt: names no frame",
    ),
    (
        "list of frames that are not there",
        with_file(own_list, "7\n", of_own_list),
        "7.txt: cannot be read",
    ),
]
NUSCENES: list[Row] = [
    (
        "no such version",
        lambda w: ["data", "info", str(w.nuscenes), "--version", "v9"],
        "v9",
    ),
    ("table missing", with_file(lambda w: w.table("ego_pose"), None, verify_nuscenes), "ego_pose"),
    ("table cut short", with_cut(lambda w: w.table("sample_data"), verify_nuscenes), "sample_data"),
    (
        "table not a list",
        with_file(lambda w: w.table("sample"), "{}", verify_nuscenes),
        "sample.json",
    ),
    ("no such split", lambda w: verify_nuscenes(w, "--split", "mine"), "mine"),
    ("no such class", lambda w: verify_nuscenes(w, "--class", "rickshaw"), "rickshaw"),
    (
        "camera image missing",
        camera_image_missing,
        "CAM_BACK",
    ),
    (
        "no such camera",
        no_such_camera,
        "CAM_UP",
    ),
]
CONFIG: list[Row] = [
    ("no such recipe", lambda _: ["train", "nope"], "recipe 'nope': neither a file nor"),
    ("unknown key", overridden("optim.lrr=3"), "unknown key optim.lrr; did you mean optim.lr?"),
    ("unknown section", overridden("modle.channels=3"), "unknown key modle"),
    ("not an override", overridden("optim.lr"), "override 'optim.lr': must be PATH=VALUE"),
    ("wrong type", overridden("optim.lr=fast"), "optim.lr='fast'"),
    ("out of range", overridden("optim.lr=-1"), "optim.lr=-1"),
    ("not a number", overridden("mining.sharpness=nan"), "mining.sharpness"),
    ("unknown kind", overridden("mining.kind=magic"), "mining"),
    ("key of another kind", overridden("model.strides_px=[4]"), "model.strides_px"),
    ("settings at odds", overridden("loss.depth_loss=laplace"), "needs model.has_uncertainty"),
    (
        "another benchmark's metric",
        lambda w: merged(w, "checkpoint.metric=val/kitti_3d_moderate"),
        "val/kitti_3d_moderate is not measured with data.kind=merged",
    ),
    (
        "a metric that is not measured",
        overridden("checkpoint.metric=val/nuscenes_map"),
        "checkpoint.metric=val/nuscenes_map",
    ),
    ("recipe is no YAML", recipe_of("a: [1"), "mine.yaml"),
    ("recipe is no mapping", recipe_of("- 1\n- 2\n"), "mine.yaml"),
    ("recipe is empty", recipe_of(""), "mine.yaml"),
    ("recipe without data", recipe_of("seed: 1\n"), "data"),
    (
        "no such backbone",
        overridden("model.backbone={kind: config, model_type: resnext9}"),
        "model.backbone.model_type=resnext9",
    ),
    (
        "no such weights",
        overridden("model.backbone={kind: pretrained, source: ./nowhere}"),
        "model.backbone.source=./nowhere",
    ),
    ("a set's split", lambda w: merged(w, "data.sets.a.train_split=trian"), "split trian: neither"),
    (
        "a set's label map",
        lambda w: merged(w, "data.sets.a.label_map={Van: Lorry}"),
        "kitti: label_map Van: Lorry: must be null",
    ),
    (
        "unlabelled frames to evaluate on",
        lambda w: merged(w, "data.sets.b.val_split=val"),
        "data.sets.b: val_split=val: frames without labels",
    ),
    (
        "a set that is not there",
        lambda w: merged(w, "data.sets.c={kind: kitti, root: ./nowhere, train_split: all}"),
        "nowhere/training/image_2: no images",
    ),
    ("more frames a step than there are", overridden("train.batch_size=99"), "train.batch_size"),
]
CHECKPOINTS: list[Row] = [
    (
        "start from no checkpoint",
        lambda w: train(w, f"train.init_from={w.kitti}"),
        "no complete checkpoint, it has no manifest.json",
    ),
    (
        "start from another network",
        lambda w: train(
            w, f"train.init_from={w.run}", "model.channels=16", "model.backbone.width=32"
        ),
        "nothing of it fits this run",
    ),
    (
        "no teacher",
        overridden("distillation={kind: add}"),
        "distillation.teacher",
    ),
    (
        "nobody of that name to teach",
        overridden("distillation={kind: add, teacher: nowhere}"),
        "checkpoint 'nowhere': no such folder",
    ),
    (
        "a teacher that sees no more than its student",
        lambda w: train(w, f"distillation={{kind: add, teacher: {w.run}}}"),
        "model.depth_input=none; a teacher reads true depth",
    ),
    (
        "nothing to learn from a teacher",
        lambda w: train(
            w, f"distillation={{kind: add, teacher: {w.run}, feature: 0, object: 0, response: 0}}"
        ),
        "feature, object and response are all 0",
    ),
    (
        "a teacher of LiDAR depth without LiDAR",
        lambda w: without_sweep(w, "model.depth_input=lidar"),
        "model.depth_input=objects needs none",
    ),
    (
        "nothing to start from",
        overridden("train.init_from=nowhere"),
        "checkpoint 'nowhere': no such folder",
    ),
    (
        "no such checkpoint",
        lambda _: ["evaluate", "nowhere"],
        "checkpoint 'nowhere': no such folder",
    ),
    (
        "no manifest",
        with_file(manifest, None, evaluate),
        "no complete checkpoint",
    ),
    ("manifest broken", with_cut(manifest, evaluate), "manifest.json"),
    ("weights cut short", with_cut(weights, evaluate), "ema.safetensors"),
    ("weights missing", with_file(weights, None, evaluate), "ema.safetensors"),
    ("a flipped bit", flipped_bit, "ema.safetensors"),
    ("state broken", with_cut(lambda w: w.checkpoint / "state.json", evaluate), "state.json"),
    ("weights of another shape", other_weights, "this model needs"),
    ("another architecture", lambda w: evaluate(w, "model.channels=16"), "this model needs"),
    ("another family", lambda w: evaluate(w, "model={kind: dense}"), "ema.safetensors"),
    ("a run of another config", run_of_another_config, "run"),
    (
        "an oracle of nothing",
        lambda w: [*evaluate(w), "--oracle", "luck"],
        "--oracle: 'luck' is none of",
    ),
    ("storage that cannot be written", blocked_storage, "free"),
]
SERVICES: list[Row] = [
    ("no S3 server", without_server, "http://127.0.0.1:9"),
    ("no S3 keys", s3, "s3://mono3d"),
    ("a run id without MLflow", lambda _: ["evaluate", "0" * 32], "needs MLFLOW_TRACKING_URI"),
    (
        "S3 for --local",
        overridden("cluster.storage=s3://mono3d/runs"),
        "--local needs a folder",
    ),
]
PREDICTIONS: list[Row] = [
    ("no such image", lambda w: predict(w, "nowhere.png", CAMERA), "nowhere.png: no such image"),
    ("camera of three numbers", seen_by("1,2,3"), "--camera=1,2,3"),
    ("camera of words", seen_by("wide"), "--camera=wide"),
    (
        "camera without focal length",
        seen_by("0,0,600,170"),
        "focal lengths must be above 0",
    ),
    (
        "folder without images",
        lambda w: predict(w, str(w.nuscenes / VERSION), CAMERA),
        "holds no PNG or JPEG",
    ),
    ("image cut short to predict", with_cut(image, predict_frame), "image is cut short"),
    ("frames that are no numbers", lambda w: show(w, "a"), "--frames=a"),
    ("a frame that is not there", lambda w: show(w, "99"), "frame 99"),
]
TABLE = [*LABELS, *CALIBRATIONS, *FRAMES, *NUSCENES, *CONFIG, *CHECKPOINTS, *SERVICES, *PREDICTIONS]


def line_of_failure(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """What the command says when it ends with exit code 2: one line of its own."""
    monkeypatch.setattr(sys, "argv", ["mono3d", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    printed = capsys.readouterr()
    assert exit_.value.code == 2, printed
    assert "Traceback" not in printed.err
    lines = [line for line in printed.err.splitlines() if line.startswith("mono3d: ")]
    lines += [line for line in printed.out.splitlines() if line.startswith("broken ")]
    assert len(lines) == 1, printed
    return lines[0]


@pytest.fixture
def environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_the_table_has_forty_kinds() -> None:
    names = [name for name, _, _ in TABLE]
    assert len(set(names)) == len(names) >= 40


@pytest.mark.parametrize(("arrange", "said"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE])
def test_bad_input_is_one_line_and_exit_code_2(
    arrange: Callable[[World], list[str]],
    said: str,
    world: World,
    environment: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert said in line_of_failure(arrange(world), monkeypatch, capsys)


def as_reader(world: World) -> list[str]:
    os.environ.update(AWS_ACCESS_KEY_ID=READER_KEY, AWS_SECRET_ACCESS_KEY=READER_SECRET)
    return ["train", "kitti_overfit", f"data.root={world.kitti}", "cluster.storage=s3://mono3d/new"]


def with_wrong_secret(_: World) -> list[str]:
    os.environ["AWS_SECRET_ACCESS_KEY"] = "not-the-secret"
    return ["evaluate", "s3://mono3d/run"]


STORES: list[Row] = [
    ("no such bucket", lambda _: ["evaluate", "s3://nobucket/run"], "the bucket does not exist"),
    ("no such checkpoint in S3", s3, "s3://mono3d/nothing: no complete checkpoint"),
    ("wrong secret", with_wrong_secret, "AWS_SECRET_ACCESS_KEY"),
    ("storage for reading only", as_reader, "cannot write s3://mono3d/new"),
]


@pytest.mark.services
@pytest.mark.parametrize(
    ("arrange", "said"), [row[1:] for row in STORES], ids=[r[0] for r in STORES]
)
def test_what_a_store_refuses_is_one_line_and_exit_code_2(
    arrange: Callable[[World], list[str]],
    said: str,
    world: World,
    environment: None,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = line_of_failure(arrange(world), monkeypatch, capsys)
    assert said in line
    for secret in (READER_SECRET, "not-the-secret", os.environ["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in line


LEGAL: list[Row] = [
    ("label file empty", with_file(lambda w: w.label, ""), "0 broken, 0 odd"),
    (
        "no object is learnt",
        with_file(lambda w: w.label, "Tram" + CAR[3:] + "\n"),
        "0 broken, 0 odd",
    ),
    (
        "frames without objects are trained on",
        without_objects,
        "checkpoint",
    ),
]


@pytest.mark.parametrize(("arrange", "said"), [row[1:] for row in LEGAL], ids=[r[0] for r in LEGAL])
def test_what_is_legal_passes(
    arrange: Callable[[World], list[str]],
    said: str,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["mono3d", *arrange(world)])
    with pytest.raises(SystemExit) as exit_:
        main()
    printed = capsys.readouterr()
    assert not exit_.value.code, printed
    assert said in printed.out
