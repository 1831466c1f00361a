"""Boxes of a detector as labels: written exactly, read back as frames, and learnt from."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from typer.testing import CliRunner

from mono3d.cli.main import app, main
from mono3d.config.load import apply_overrides, load_recipe, parse
from mono3d.config.schema import RunConfig
from mono3d.data.files import data_path
from mono3d.data.kitti import KittiDataset
from mono3d.data.merged import MergedDataset
from mono3d.data.pseudo_labels import Folder, PseudoLabelled, read_pseudo_labels
from mono3d.data.sampling import FrameDataset
from mono3d.errors import ConfigError, DataError, Mono3dError
from mono3d.storage import s3
from mono3d.structures import Boxes3D, Detections, Frame
from mono3d.training.checkpoint import read_metadata
from mono3d.training.loop import train_step
from mono3d.training.parts import Place, build_parts, open_splits
from mono3d.training.predict import Detector
from mono3d.training.pseudo_label import STAGING, Unlabelled, open_unlabelled, pseudo_label
from tests.support.detections import perfect_detections
from tests.support.kitti_folder import FRAMES, write_kitti
from tests.support.nuscenes_tables import open_tiny, write_tables
from tests.support.small_grids import save_fresh
from tests.support.training import tiny_config

CLASSES = ("car", "pedestrian")
KITTI_MAP = {"Car": "car", "Van": "car", "Pedestrian": "pedestrian"}
TEACHER = {"checkpoint": "runs/teacher", "step": 7}


class PerfectDetector(Detector):
    """Says what is labelled, as a detector of images or of moments does."""

    class_names = CLASSES

    def __init__(self, labelled: FrameDataset, *, stops_after: int | None = None) -> None:
        self.config = tiny_config()
        self._labelled = labelled
        self._index = {name: number for number, name in enumerate(labelled.frame_ids)}
        self._stops_after = stops_after

    def detect_all(
        self,
        frames: Iterable[Frame],
        *,
        min_score: float | None = None,
        flip: bool | None = None,
    ) -> Iterator[tuple[Frame, Detections]]:
        for number, frame in enumerate(frames):
            assert frame.boxes_bev is None
            if number == self._stops_after:
                raise KeyboardInterrupt
            truth = self._labelled[self._index[frame.frame_id]]
            assert truth.boxes_cam is not None
            assert truth.boxes_bev is not None
            boxes = truth.boxes_bev if len(frame.images) > 1 else truth.boxes_cam[0]
            yield frame, perfect_detections(boxes)


def write(
    detector: Any, folder: Folder, path: Path | str, *, raised_m: float = 0.0, score: float = 0.5
) -> None:
    config = tiny_config(data__train_split="all")
    unlabelled = Unlabelled(config=config, dataset=folder, folder=folder, raised_m=raised_m)
    pseudo_label(
        detector,
        unlabelled,
        str(path),
        teacher=TEACHER,
        min_scores=torch.full((2,), score),
        on_frame=lambda done, total: None,
    )


def kitti(root: Path, **changes: Any) -> KittiDataset:
    settings = {"split": "all", "class_names": CLASSES, "label_map": KITTI_MAP} | changes
    return KittiDataset(root, **settings)


def same_boxes(found: Boxes3D, wanted: Boxes3D) -> None:
    """In any order; numbers are rounded to millimetres."""

    def in_order(boxes: Boxes3D) -> torch.Tensor:
        table = torch.cat(
            [boxes.centers, boxes.dims_hwl, boxes.yaw[:, None].sin(), boxes.yaw[:, None].cos(),
             boxes.labels[:, None].float()], dim=1,
        )  # fmt: skip
        return table[table[:, 0].argsort()]

    torch.testing.assert_close(in_order(found), in_order(wanted), rtol=0, atol=2e-3)


def check_same(found: PseudoLabelled, wanted: FrameDataset) -> None:
    objects = 0
    for index in range(len(wanted)):
        mine, truth = found[index], wanted[index]
        assert mine.boxes_cam is not None
        assert mine.boxes_bev is not None
        assert truth.boxes_cam is not None
        for own, labelled in zip(mine.boxes_cam, truth.boxes_cam, strict=True):
            same_boxes(own, labelled)
            objects += len(own)
        labels = wanted.frame_labels(index)
        assert labels is not None
        assert sorted(found.frame_labels(index)) == sorted(labels)
        assert torch.equal(mine.images, truth.images)
    assert objects >= 3


def test_what_is_found_in_kitti_is_learnt_as_labels(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti")
    labelled, bare = kitti(root), kitti(root, has_labels=False)
    write(PerfectDetector(labelled), bare, tmp_path / "found.jsonl")
    labels = read_pseudo_labels(tmp_path / "found.jsonl", CLASSES)
    assert labels.header.teacher == TEACHER
    check_same(PseudoLabelled(bare, labels), labelled)


@pytest.mark.parametrize("looks_around", [True, False], ids=["moments", "images"])
@pytest.mark.parametrize("reads_moments", [True, False], ids=["to moments", "to images"])
def test_what_is_found_in_nuscenes_is_learnt_by_detectors_of_images_and_of_moments(
    tmp_path: Path, looks_around: bool, reads_moments: bool
) -> None:
    root = write_tables(tmp_path / "data")

    def opened(surround: bool, has_labels: bool) -> FrameDataset:
        return open_tiny(
            root, tmp_path, class_names=CLASSES, surround=surround, has_labels=has_labels
        )

    finder, bare = PerfectDetector(opened(looks_around, True)), opened(looks_around, False)
    assert isinstance(bare, Folder)
    write(finder, bare, tmp_path / "found.jsonl")
    labels = read_pseudo_labels(tmp_path / "found.jsonl", CLASSES)
    student = opened(reads_moments, False)
    assert isinstance(student, Folder)
    check_same(PseudoLabelled(student, labels), opened(reads_moments, True))


def test_killed_it_goes_on_to_the_same_file(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti")
    labelled, bare = kitti(root), kitti(root, has_labels=False)
    write(PerfectDetector(labelled), bare, tmp_path / "once.jsonl")
    with pytest.raises(KeyboardInterrupt):
        write(PerfectDetector(labelled, stops_after=2), bare, tmp_path / "twice.jsonl")
    assert not (tmp_path / "twice.jsonl").exists()
    with pytest.raises(ConfigError, match=r"unfinished work of another call \(min_scores changed"):
        write(PerfectDetector(labelled), bare, tmp_path / "twice.jsonl", score=0.7)
    write(PerfectDetector(labelled), bare, tmp_path / "twice.jsonl")
    assert (tmp_path / "twice.jsonl").read_bytes() == (tmp_path / "once.jsonl").read_bytes()
    assert not (tmp_path / "twice.jsonl.part").exists()


def test_weak_boxes_and_other_classes_are_left_out(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti")
    bare = kitti(root, has_labels=False)
    path = tmp_path / "found.jsonl"
    write(PerfectDetector(kitti(root)), bare, path)
    cars = read_pseudo_labels(path, ["car"])
    both = read_pseudo_labels(path, ["pedestrian", "car"])
    assert 0 < len(cars.boxes) < len(both.boxes)
    assert not cars.boxes.labels.any()
    assert int((both.boxes.labels == 1).sum()) == len(cars.boxes)
    assert cars.digest != both.digest
    path.write_text(path.read_text().replace('"score": 1.0', '"score": 0.4', 1))
    strong = read_pseudo_labels(path, ["pedestrian", "car"], min_score=0.5)
    assert len(strong.boxes) == len(both.boxes) - 1
    assert PseudoLabelled(bare, cars).fingerprint != PseudoLabelled(bare, both).fingerprint
    with pytest.raises(ConfigError, match=r"class bus: its detector looked for car, pedestrian al"):
        read_pseudo_labels(path, ["car", "bus"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-9], r"found\.jsonl: its last line is cut short; run mono3d pseudo-l"),
        (lambda text: "", r"found\.jsonl:1: Invalid JSON"),
        (lambda text: text.replace("labels 1", "labels 9"), r":1: call\.format='mono3d pse"),
        (lambda text: text.replace('"score": 1.0', '"score": 1.5', 1), r":2: boxes\.0\.score=1"),
        (lambda text: text.replace('"dims_hwl_m": [', '"dims_hwl_m": [-', 1), r":2: .*dims_hwl_m"),
        (lambda text: text.replace('"yaw_rad": ', '"yaw_rad": NaN, "x": ', 1), r":2: .*yaw_rad"),
        (lambda text: text.replace("000001", "000009", 1), r"has no line for 1 of the 3 fr"),
        (lambda text: text.replace("image_2", "image_9"), r"camera image_2: was not looked at"),
        (lambda text: text.replace('["image_2"]}]', '["image_3"]}]', 1), r":2: camera image_3: i"),
        (lambda text: text.replace('"class": "car"', '"class": "cra"', 1), r"class=cra: is none"),
        (lambda text: text + text.splitlines()[-1] + "\n", r":5: frame 000002: there is a line of"),
        (lambda text: text.replace('ness": {"image_2": ', 'ness": {"image_2": 9'), r"000000: was"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_in_a_line(tmp_path: Path, change: Any, message: str) -> None:
    root = write_kitti(tmp_path / "kitti")
    bare, path = kitti(root, has_labels=False), tmp_path / "found.jsonl"
    write(PerfectDetector(kitti(root)), bare, path)
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message) as error:
        PseudoLabelled(bare, read_pseudo_labels(path, CLASSES))
    assert "\n" not in str(error.value)


def test_labels_of_other_frames_of_the_same_names_are_refused(tmp_path: Path) -> None:
    """KITTI's training and testing frames have the same names."""
    root = write_kitti(tmp_path / "kitti")
    write(PerfectDetector(kitti(root)), kitti(root, has_labels=False), tmp_path / "found.jsonl")
    labels = read_pseudo_labels(tmp_path / "found.jsonl", CLASSES)
    image = root / "testing" / "image_2" / "000000.png"
    assert cv2.imwrite(str(image), cv2.imread(str(image)) // 2)
    with pytest.raises(DataError, match=r"frame 000000: was another image, in .*its image_2 had a"):
        PseudoLabelled(kitti(root, split="test"), labels)


def test_a_finished_file_is_kept(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti")
    labelled, bare, path = kitti(root), kitti(root, has_labels=False), tmp_path / "found.jsonl"
    write(PerfectDetector(labelled), bare, path)
    written = path.read_bytes()
    write(PerfectDetector(labelled, stops_after=0), bare, path)  # nobody is asked
    with pytest.raises(
        ConfigError, match=r"has labels of another call \(min_scores changed\), whi"
    ):
        write(PerfectDetector(labelled), bare, path, score=0.7)
    assert path.read_bytes() == written


def test_where_the_file_lay_and_who_wrote_it_do_not_change_its_labels(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti")
    path = tmp_path / "found.jsonl"
    write(PerfectDetector(kitti(root)), kitti(root, has_labels=False), path)
    digests = []
    for text in (path.read_text(), path.read_text().replace("runs/teacher", "s3://b/teacher")):
        path.write_text(text)
        digests.append(read_pseudo_labels(path, CLASSES).digest)
    assert digests[0] == digests[1]


def test_a_bucket_is_written_and_read(
    store_environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in store_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    s3.ensure_bucket("s3://labels")
    root = write_kitti(tmp_path / "kitti")
    labelled, bare = kitti(root), kitti(root, has_labels=False)
    write(PerfectDetector(labelled), bare, "s3://labels/a/found.jsonl")
    assert not [*STAGING.iterdir()]
    labels = read_pseudo_labels(data_path("s3://labels/a/found.jsonl"), CLASSES)
    check_same(PseudoLabelled(bare, labels), labelled)
    for output, message in (
        ("s3://labels", r"--output=s3://labels: names a bucket; name a file in it"),
        ("s3://nowhere/found.jsonl", r"s3://nowhere"),
        (str(tmp_path), r"is a folder; name a file"),
    ):
        with pytest.raises(Mono3dError, match=message) as error:
            write(PerfectDetector(labelled, stops_after=0), bare, output)
        assert "\n" not in str(error.value)


SMALL = (
    "input.image_height_px=64", "input.image_width_px=96", "model.backbone.width=16",
    "model.channels=8", "train.epoch_frames=2", "train.batch_size=2", "train.precision=float32",
)  # fmt: skip


def run(root: Path, *, raw: dict[str, Any]) -> RunConfig:
    """A dense detector on labelled frames for validation, and frames without labels."""
    tree = load_recipe("kitti_overfit", SMALL).model_dump(mode="json")
    common = {"kind": "kitti", "root": str(root), "label_map": KITTI_MAP}
    tree["data"] = {
        "kind": "merged",
        "class_names": CLASSES,
        "sets": {
            "seen": {**common, "train_split": None, "val_split": "val"},
            "raw": {
                **common,
                **{"train_split": "train", "val_split": None, "has_labels": False},
                **raw,
            },
        },
    }  # fmt: skip
    tree["checkpoint"] = {"metric": "val/centers_depth_abs_rel", "mode": "min"}
    return parse(apply_overrides(tree, ()), source="test")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = write_kitti(tmp_path / "kitti")
    (root / "ImageSets" / "drives.txt").write_text("000000 hill\n000001 bridge\n000002 sea\n")
    return root


def test_a_detector_learns_from_the_file_and_its_checkpoints_say_so(
    root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "found.jsonl"
    write(PerfectDetector(kitti(root)), kitti(root, has_labels=False), path)
    config = run(root, raw={"pseudo_labels": str(path)})
    train, _ = open_splits(config, None)
    boxes = train[0].boxes_bev
    truth = kitti(root)[0].boxes_bev
    assert boxes is not None
    assert truth is not None
    same_boxes(
        boxes, Boxes3D(**(vars(truth) | {"centers": truth.centers + torch.tensor([0, 0, 1.73])}))
    )
    parts = build_parts(config, Place())
    assert parts.facts.data["train"]["pseudo_labels"] == {"raw": TEACHER}
    batch = next(iter(parts.loader.epoch(0)))
    assert batch.has_labels.all()
    output = train_step(
        parts.state, [batch], max_grad_norm=35.0, progress=0.0, with_statistics=False
    )
    assert output.terms["depth"] > 0
    with pytest.raises(ConfigError, match=r"raw: pseudo_labels=x: the set has labels of its own"):
        run(root, raw={"pseudo_labels": "x", "has_labels": True})


def test_drives_that_are_measured_on_are_refused_with_a_file_too(
    root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "found.jsonl"
    write(PerfectDetector(kitti(root)), kitti(root, has_labels=False), path)
    (root / "ImageSets" / "drives.txt").write_text("000000 sea\n000001 bridge\n000002 sea\n")
    with pytest.raises(ConfigError, match=r"drives are in seen's val_split too \(1\): sea; "):
        open_splits(run(root, raw={"pseudo_labels": str(path)}), None)


def test_frames_of_merged_data_are_written_in_their_own_frame(root: Path, tmp_path: Path) -> None:
    """Where a merged run has raised them, the file has not."""
    unlabelled = open_unlabelled(run(root, raw={}))
    assert unlabelled.raised_m == pytest.approx(1.73)
    assert isinstance(unlabelled.dataset, MergedDataset)
    labelled = kitti(root, split="train")

    class Raised(PerfectDetector):
        def detect_all(self, frames: Iterable[Frame], **kept: Any) -> Any:
            for frame in frames:
                own = labelled[labelled.frame_ids.index(frame.frame_id.removeprefix("raw/"))]
                assert own.boxes_cam is not None
                yield frame, perfect_detections(own.boxes_cam[0])

    path = tmp_path / "found.jsonl"
    pseudo_label(
        Raised(labelled),
        unlabelled, str(path), teacher=TEACHER, min_scores=torch.zeros(2),
        on_frame=lambda done, total: None,
    )  # fmt: skip
    labels = read_pseudo_labels(path, CLASSES)
    check_same(PseudoLabelled(kitti(root, split="train", has_labels=False), labels), labelled)


@pytest.mark.parametrize(
    ("changes", "set_name", "message"),
    [
        ((), "raw", r"--set raw: for merged data, and these are one set"),
        (("merged",), "sky", r"--set sky: is none of seen, raw"),
        (("merged",), "seen", r"--set seen: data\.sets\.seen\.train_split is null"),
        (("merged", "labelled"), None, r"--set is missing: one of seen, raw"),
    ],
)
def test_it_must_be_clear_which_frames(
    root: Path, changes: tuple[str, ...], set_name: str | None, message: str
) -> None:
    config = load_recipe("kitti_overfit", [f"data.root={root}"])
    if "merged" in changes:
        config = run(root, raw={"has_labels": "labelled" in changes})
    with pytest.raises(ConfigError, match=message):
        open_unlabelled(config, set_name)


LIDAR = (
    "input.image_height_px=64", "input.image_width_px=96", "model.lifted_channels=16",
    "model.bev_channels=[8, 8]", "model.bev_layers=1", "train.batch_size=1",
    "train.precision=float32", "train.epoch_frames=2",
)  # fmt: skip


def test_the_command_asks_a_lidar_detector(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_recipe("lidar_pillars_kitti_small", [f"data.root={root}", *LIDAR])
    save_fresh(config, Path("teacher"))
    words = ["pseudo-label", "teacher", "data.train_split=test"]
    result = CliRunner().invoke(app, [*words, "--min-score", "0", "-o", "out/found.jsonl"])
    assert result.exit_code == 0, result.output
    assert "in 1 frames: out/found.jsonl" in result.output
    head, line = map(json.loads, Path("out/found.jsonl").read_text().splitlines())
    assert head["call"]["teacher"]["data"] == read_metadata("teacher").data
    assert head["call"]["frames"]["name"] == "kitti/test"
    assert line["frame"] == FRAMES[0]
    assert line["brightness"].keys() == {"image_2"}
    assert {"image_2"} == {name for box in line["boxes"] for name in box["cameras"]}
    monkeypatch.setattr("sys.argv", ["mono3d", *words, "-o", "/proc/no/found.jsonl"])
    with pytest.raises(SystemExit, match="2"):
        main()


def test_a_teacher_that_is_told_labels_is_refused(root: Path, tmp_path: Path) -> None:
    config = load_recipe(
        "kitti_overfit", [f"data.root={root}", *SMALL, "model.depth_input=objects"]
    )
    save_fresh(config, tmp_path / "teacher")
    result = CliRunner().invoke(app, ["pseudo-label", str(tmp_path / "teacher")])
    assert isinstance(result.exception, ConfigError)
    assert "it is a teacher, which reads more than LiDAR points" in str(result.exception)
