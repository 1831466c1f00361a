"""Box files for Waymo's metrics: both formats, what they say, and what is refused."""

import json
import math
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mono3d
from mono3d.cli.metrics_waymo import waymo
from mono3d.errors import DataError
from mono3d.evaluation.waymo_format import VEHICLE_CAMERA, read_waymo
from mono3d.evaluation.waymo_metrics import BANDS, waymo_metrics
from mono3d.evaluation.waymo_protobuf import Objects

BOX_FIELDS = ("center_x", "center_y", "center_z", "length", "width", "height", "heading")
BOX = (20.0, 1.0, 0.5, 4.0, 2.0, 1.5, 0.25)
Box = Sequence[float]


def write_objects(path: Path, objects: Sequence[Mapping[str, Any]]) -> Path:
    """A file of objects, each given by its fields; `box` is of vehicles unless `type` says else."""
    message = Objects()
    for fields in objects:
        item = message.objects.add(context_name="segment", frame_timestamp_micros=7)
        item.object.type = 1
        for name, value in fields.items():
            if name in {"box", "camera_synced_box"}:
                target = getattr(item.object, name)
                target.SetInParent()
                for field, number in zip(BOX_FIELDS, value, strict=True):
                    setattr(target, field, number)
            elif name in item.DESCRIPTOR.fields_by_name:
                setattr(item, name, value)
            else:
                setattr(item.object, name, value)
    path.write_bytes(message.SerializeToString())
    return path


def label(box: Box = BOX, **fields: Any) -> dict[str, Any]:
    """A label that counts for all metrics."""
    return {
        "box": box,
        "camera_synced_box": box,
        "most_visible_camera_name": "FRONT",
        "num_lidar_points_in_box": 9,
        "num_top_lidar_points_in_box": 8,
    } | fields


def kitti_line(box: Box = BOX, kind: str = "Car", *last: float) -> str:
    """A line of a box that is given in x forward, y left, z up around the camera."""
    x, y, z, length, width, height, heading = box
    place = (-y, height / 2 - z, x, -heading - math.pi / 2)
    values = (0, 0, -10, 0, 0, 50, 50, height, width, length, *place, *last)
    return " ".join([kind, *(f"{value:.12g}" for value in values)])


def write_kitti(folder: Path, frames: Mapping[str, Sequence[str]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, lines in frames.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.fixture
def objects(tmp_path: Path) -> tuple[Path, Path]:
    """Good ground truth and detections in Waymo's files."""
    return (
        write_objects(tmp_path / "labels.bin", [label(), label(type=4)]),
        write_objects(tmp_path / "detections.bin", [{"box": BOX, "score": 0.5}]),
    )


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Good ground truth and detections in KITTI text."""
    lines = [kitti_line(BOX, "Car", 9), kitti_line(BOX, "cyclist", 3)]
    return (
        write_kitti(tmp_path / "labels", {"000001": lines, "000002": []}),
        write_kitti(
            tmp_path / "detections", {"000001": [kitti_line(BOX, "Car", 0.5)], "000002": []}
        ),
    )


def test_objects_are_read_as_columns(tmp_path: Path) -> None:
    moved = (21.0, *BOX[1:])
    labels = [
        label(camera_synced_box=moved, num_lidar_points_in_box=4),
        label(type=3, detection_difficulty_level=2, frame_timestamp_micros=8),
        label(type=0),
        label(most_visible_camera_name=""),
        label(num_lidar_points_in_box=0),
    ]
    found = [
        {"box": moved, "score": 0.25, "frame_timestamp_micros": 8},
        {"box": BOX, "score": 1.0, "overlap_with_nlz": True, "type": 2, "context_name": "other"},
        {"box": BOX, "score": 0.0, "type": 0},
    ]
    data = read_waymo(
        write_objects(tmp_path / "labels.bin", labels), write_objects(tmp_path / "d.bin", found)
    )
    assert data.labels.frames.tolist() == [0, 1, 0]
    assert data.labels.types.tolist() == [0, 2, 0]
    assert data.labels.levels.tolist() == [2, 2, 1]
    assert data.labels.boxes[0].tolist() == list(BOX)
    assert data.camera_labels is not None
    assert data.camera_labels.types.tolist() == [0, 2, 0]
    assert data.camera_labels.levels.tolist() == [1, 2, 1]
    assert data.camera_labels.boxes[0].tolist() == list(moved)
    assert data.detections.frames.tolist() == [1, 2]
    assert data.detections.types.tolist() == [0, 1]
    assert data.detections.scores.tolist() == [0.25, 1.0]
    assert data.detections.is_excused.tolist() == [False, True]
    assert data.camera is VEHICLE_CAMERA
    assert data.levels == (1, 2)


def test_bytes_of_a_message_mean_what_waymo_says(tmp_path: Path) -> None:
    def part(number: int, content: bytes) -> bytes:
        length = [len(content) & 127 | 128, len(content) >> 7]
        return bytes([number << 3 | 2, *length]) + content

    def whole(number: int, value: int) -> bytes:
        return bytes([number << 3, value])

    def box(*values: float) -> bytes:
        """x, y, z, width, length, height, heading, in the order of label.proto."""
        return b"".join(
            struct.pack("<Bd", number << 3 | 1, value) for number, value in enumerate(values, 1)
        )

    ours, synced = box(20, 1, 0.5, 2, 4, 1.5, 0.25), box(21, 1, 0.5, 2, 4, 1.5, 0.25)
    place = part(4, b"segment") + whole(5, 7)
    points = whole(7, 9) + whole(13, 3)
    camera = part(11, b"FRONT") + part(12, synced)
    labels, results = tmp_path / "labels.bin", tmp_path / "results.bin"
    one = part(1, part(1, ours) + whole(3, 2) + whole(5, 0) + points + camera) + place
    hard = part(1, part(1, ours) + whole(3, 4) + whole(5, 2) + points) + place
    labels.write_bytes(part(1, one) + part(1, hard))
    found = part(1, part(1, ours) + whole(3, 2)) + struct.pack("<Bf", 2 << 3 | 5, 0.5)
    results.write_bytes(part(1, found + whole(3, 1) + place))
    data = read_waymo(labels, results)
    assert data.labels.types.tolist() == [1, 3]
    assert data.labels.levels.tolist() == [1, 2]
    assert data.labels.boxes.tolist() == [list(BOX)] * 2
    assert data.camera_labels is not None
    assert data.camera_labels.levels.tolist() == [2]
    assert data.camera_labels.boxes.tolist() == [[21.0, *BOX[1:]]]
    assert data.detections.boxes.tolist() == [list(BOX)]
    assert data.detections.frames.tolist() == [0]
    assert data.detections.scores.tolist() == [0.5]
    assert data.detections.is_excused.tolist() == [True]


def test_objects_of_cameras_are_in_frames_of_their_own(tmp_path: Path) -> None:
    labels = [label(), label(camera_name=1), label(camera_name=2)]
    data = read_waymo(
        write_objects(tmp_path / "labels.bin", labels),
        write_objects(tmp_path / "d.bin", [{"box": BOX, "score": 1.0, "camera_name": 2}]),
    )
    assert data.labels.frames.tolist() == [0, 1, 2]
    assert data.detections.frames.tolist() == [2]


def test_kitti_boxes_are_turned_to_forward_left_and_up(tmp_path: Path) -> None:
    # 2 m right of and 30 m before the camera, standing 1.5 m below it, 1 m high; facing right.
    line = "Pedestrian 0 0 -10 0 0 9 9 1.0 0.5 0.8 2.0 1.5 30.0 0.0"
    labels = write_kitti(
        tmp_path / "labels", {"a": ["DontCare -1 -1 -10 0 0 9 9 -1 -1 -1 0 0 0 0", line]}
    )
    results = write_kitti(tmp_path / "results", {"a": [f"{line} 0.75", f"Misc {line[11:]} 0.5"]})
    data = read_waymo(labels, results)
    box = [30.0, -2.0, -1.0, 0.8, 0.5, 1.0, -math.pi / 2]
    assert data.labels.boxes == pytest.approx(np.array([box]))
    assert data.detections.boxes == pytest.approx(np.array([box]))
    assert data.labels.types.tolist() == data.detections.types.tolist() == [1]
    assert data.detections.scores.tolist() == [0.75]
    assert data.camera.tolist() == [0, 0, 0]


def test_kitti_classes_in_any_case(tmp_path: Path) -> None:
    kinds = ["CAR", "van", "Truck", "vehicle", "Pedestrian", "SIGN", "Cyclist", "Tram", "Person"]
    labels = write_kitti(tmp_path / "labels", {"a": [kitti_line(BOX, kind) for kind in kinds]})
    data = read_waymo(labels, write_kitti(tmp_path / "results", {"a": []}))
    assert data.labels.types.tolist() == [0, 0, 0, 0, 1, 2, 3]


def test_kitti_labels_with_points_have_levels_and_others_only_the_first(tmp_path: Path) -> None:
    results = write_kitti(tmp_path / "results", {"a": [kitti_line(BOX, "Car", 1.0)]})
    lines = [kitti_line(BOX, "Car", points) for points in (6, 5, 0)]
    data = read_waymo(write_kitti(tmp_path / "with", {"a": lines}), results)
    assert data.levels == (1, 2)
    assert data.labels.levels.tolist() == [1, 2]
    data = read_waymo(write_kitti(tmp_path / "without", {"a": [kitti_line()]}), results)
    assert data.levels == (1,)
    assert data.labels.levels.tolist() == [1]
    for table in waymo_metrics(data).values():
        first = table["VEHICLE"]["LEVEL_1"]["all"]
        assert first is not None
        assert first.ap == 1
        assert table["VEHICLE"]["LEVEL_2"] == dict.fromkeys(BANDS)


def test_both_formats_give_the_same_numbers(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels: dict[str, list[Any]] = {"objects": []}
    results: dict[str, list[Any]] = {"objects": []}
    for frame in range(6):
        labels[str(frame)], results[str(frame)] = [], []
        for _ in range(8):
            # Around the camera; distances from it and from the vehicle are in the same band.
            distance, side = generator.choice([15, 40, 70]), generator.uniform(-0.1, 0.1)
            box = np.array([distance, distance * side, 0, 4, 2, 1.5, generator.uniform(-4, 4)])
            near = box + generator.normal(0, 0.1, 7) * (generator.random() < 0.8)
            near[:2] *= generator.normal(1, 0.02)
            points, score = int(generator.integers(0, 12)), float(generator.random())
            time = {"frame_timestamp_micros": frame}
            offset = np.append(VEHICLE_CAMERA, np.zeros(4))
            count = {"num_lidar_points_in_box": points, "num_top_lidar_points_in_box": points}
            labels["objects"].append(label((box + offset).tolist(), **time, **count))
            results["objects"].append({"box": (near + offset).tolist(), "score": score} | time)
            labels[str(frame)].append(kitti_line(box.tolist(), "Car", points))
            results[str(frame)].append(kitti_line(near.tolist(), "Car", score))
    messages = read_waymo(
        write_objects(tmp_path / "labels.bin", labels.pop("objects")),
        write_objects(tmp_path / "results.bin", results.pop("objects")),
    )
    texts = read_waymo(
        write_kitti(tmp_path / "labels", labels), write_kitti(tmp_path / "results", results)
    )
    of_messages, of_texts = waymo_metrics(messages), waymo_metrics(texts)
    for name, table in of_messages.items():
        for level, bands in table["VEHICLE"].items():
            for band, score in bands.items():
                other = of_texts[name]["VEHICLE"][level][band]
                assert score is not None
                assert other is not None
                assert asdict(score) == pytest.approx(asdict(other), abs=1e-9), (name, level, band)
                assert score.ap > 0


def test_tolerant_scores_need_labels_that_name_a_camera(tmp_path: Path) -> None:
    bare = {"box": BOX, "num_lidar_points_in_box": 9}
    data = read_waymo(
        write_objects(tmp_path / "labels.bin", [bare]),
        write_objects(tmp_path / "d.bin", [{"box": BOX, "score": 1.0}]),
    )
    tables = waymo_metrics(data)
    assert tables["let"]["VEHICLE"] == {
        "LEVEL_1": dict.fromkeys(BANDS),
        "LEVEL_2": dict.fromkeys(BANDS),
    }
    assert tables["std"]["VEHICLE"]["LEVEL_2"]["all"] is not None


def test_only_listed_frames_count(folders: tuple[Path, Path], tmp_path: Path) -> None:
    frames = tmp_path / "frames.txt"
    frames.write_text("000001\n")
    (folders[0] / "000002.txt").write_text("broken, but not asked for")
    assert len(read_waymo(*folders, frames).labels.types) == 2
    labels = [label(frame_timestamp_micros=time) for time in (1, 2, 3)]
    found = [{"box": BOX, "score": 1.0, "frame_timestamp_micros": time} for time in (2, 3, 4)]
    objects = (
        write_objects(tmp_path / "labels.bin", labels),
        write_objects(tmp_path / "found.bin", found),
    )
    frames.write_text("segment/4\nsegment/2\n")
    data = read_waymo(*objects, frames)
    assert data.labels.frames.tolist() == [1]
    assert data.detections.frames.tolist() == [1, 3]


def test_an_empty_file_has_no_detections(objects: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "none.bin").write_bytes(b"")
    assert len(read_waymo(objects[0], tmp_path / "none.bin").detections.scores) == 0


Change = Callable[[Path], object]


def with_objects(*objects: Mapping[str, Any]) -> Change:
    return lambda path: write_objects(path, objects)


@pytest.mark.parametrize(
    ("broken", "change", "message"),
    [
        (0, Path.unlink, "labels.bin: no such file or folder"),
        (1, Path.unlink, "detections.bin: no such file or folder"),
        (0, lambda path: path.write_bytes(path.read_bytes()[:-5]), "labels.bin: cut short, or no"),
        (
            1,
            lambda path: path.write_text("Car 0 0 1\n"),
            "detections.bin: cut short, or no file of",
        ),
        (0, lambda path: path.write_bytes(b"\x10\x01"), "labels.bin: 2 bytes, but no Waymo box"),
        (1, with_objects({"box": BOX}), "detections.bin: object 0 has no score"),
        (
            1,
            with_objects({"box": BOX, "score": 0.5}, {"box": BOX, "score": 1.5}),
            "detections.bin: object 1 has score 1.5, not in [0, 1]",
        ),
        (1, with_objects({"box": BOX, "score": math.nan}), "object 0 has score nan, not in [0, 1]"),
        (1, with_objects({"score": 0.5}), "detections.bin: object 0 has no box"),
        (
            0,
            with_objects(label((math.inf, *BOX[1:]))),
            "labels.bin: object 0 has a box that is not",
        ),
        (
            0,
            with_objects(label(), label((*BOX[:3], -1.0, *BOX[4:]))),
            "labels.bin: object 1 has length, width, height [-1.0, 2.0, 1.5] below 0",
        ),
        (0, with_objects(label(), label(type=5)), "object 1 has type 5; Waymo's are 0 to 4"),
        (0, with_objects({"box": BOX}), "labels.bin: no label has num_lidar_points_in_box"),
    ],
)
def test_broken_objects_are_refused(
    objects: tuple[Path, Path], broken: int, change: Change, message: str
) -> None:
    change(objects[broken])
    with pytest.raises(DataError) as refused:
        read_waymo(*objects)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def with_lines(*lines: str) -> Change:
    return lambda folder: write_kitti(folder, {"000001": lines})


@pytest.mark.parametrize(
    ("broken", "change", "message"),
    [
        (
            0,
            lambda folder: folder.rename(folder.with_name("away")),
            "labels: no such file or folder",
        ),
        (1, lambda folder: (folder / "000002.txt").unlink(), "detections/000002.txt: no such file"),
        (0, with_lines(kitti_line().rpartition(" ")[0]), "labels/000001.txt:1: 14 values"),
        (
            0,
            with_lines(kitti_line(BOX, "Car", 9), kitti_line()),
            "labels/000001.txt:2: 15 values",
        ),
        (
            0,
            with_lines(kitti_line(BOX, "Car", 9), kitti_line(BOX, "Car", 0.87)),
            "labels/000001.txt: object 2: 0.87 is no number of LiDAR points",
        ),
        (0, with_lines(kitti_line(BOX, "Car", -1)), "object 1: -1.0 is no number of LiDAR points"),
        (
            0,
            with_lines(kitti_line((*BOX[:3], -4.0, *BOX[4:]))),
            "labels/000001.txt: object 1: [1.5, 2.0, -4.0] are no height, width, length",
        ),
        (1, with_lines(kitti_line()), "detections/000001.txt:1: 15 values"),
        (1, with_lines(kitti_line(BOX, "Car", math.nan)), "'nan' is not a finite number"),
        (
            1,
            with_lines(kitti_line(BOX, "Car", 0.5), kitti_line(BOX, "Car", 7.5)),
            "detections/000001.txt: object 2: 7.5 is no score in [0, 1]",
        ),
    ],
)
def test_broken_text_is_refused(
    folders: tuple[Path, Path], broken: int, change: Change, message: str
) -> None:
    change(folders[broken])
    with pytest.raises(DataError) as refused:
        read_waymo(*folders)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_formats_are_not_mixed(objects: tuple[Path, Path], folders: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match="one is a folder of KITTI text, the other a file"):
        read_waymo(objects[0], folders[1])
    with pytest.raises(DataError, match="one is a folder of KITTI text, the other a file"):
        read_waymo(folders[0], objects[1])


def test_lists_of_frames_are_checked(
    objects: tuple[Path, Path], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    frames = tmp_path / "frames.txt"
    with pytest.raises(DataError, match=r"frames.txt: no such file"):
        read_waymo(*folders, frames)
    for content, message in [
        ("", "frames.txt: names no frames"),
        ("000001\n000001\n", "frames.txt: frame 000001 is listed twice"),
        ("000001\n000009\n", "labels/000009.txt: no such file"),
    ]:
        frames.write_text(content)
        with pytest.raises(DataError, match=message):
            read_waymo(*folders, frames)
    frames.write_text("segment/7\nsegment/8\n")
    with pytest.raises(DataError, match=r"labels.bin: no object of the listed frame segment/8"):
        read_waymo(*objects, frames)


def test_the_command_shows_percent_and_writes_json(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waymo(ground_truth=folders[0], detections=folders[1], output=tmp_path / "out.json")
    shown = capsys.readouterr().out
    assert "VEHICLE" in shown
    assert "100.00" in shown
    assert "PEDESTRIAN" not in shown
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["std"]["VEHICLE"]["LEVEL_1"]["[0, 30)"] == {
        "num_labels": 1, "ap": 1.0, "aph": 1.0, "apl": None,
    }  # fmt: skip
    assert content["let"]["CYCLIST"]["LEVEL_2"]["all"]["apl"] == 0
    with pytest.raises(DataError, match=r"--json .*: cannot be written"):
        waymo(ground_truth=folders[0], detections=folders[1], output=tmp_path / "no" / "out.json")


def test_nothing_slow_is_imported() -> None:
    modules = ("cli.metrics_waymo", "evaluation.waymo_format", "evaluation.waymo_metrics")
    program = (
        f"import sys; {'; '.join(f'import mono3d.{module}' for module in modules)}; "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    root = Path(mono3d.__path__[0]).parent
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
