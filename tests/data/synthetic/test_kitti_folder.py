import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mono3d.data.kitti import KittiDataset
from mono3d.data.synthetic.folder import RECORD_NAME
from mono3d.data.synthetic.kitti_folder import SyntheticKittiConfig, write_kitti
from mono3d.data.synthetic.nuscenes_folder import SyntheticConfig, write_nuscenes
from mono3d.data.verify import verify_frame
from mono3d.errors import DataError
from tests.data.synthetic.conftest import KITTI_SIZE

CLASSES = ("Car", "Pedestrian", "Cyclist")


def _digests(root: Path) -> dict[str, str]:
    """Of every file, by its path."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_folder_holds_kittis_files(kitti_root: Path) -> None:
    frames = {"training": ("000000", "000001", "000002"), "testing": ("000000",)}
    endings = {"image_2": "png", "calib": "txt", "velodyne": "bin", "label_2": "txt"}
    expected = {
        f"{part}/{folder}/{name}.{ending}"
        for part, names in frames.items()
        for folder, ending in endings.items()
        if (part, folder) != ("testing", "label_2")
        for name in names
    }
    lists = {f"ImageSets/{split}.txt" for split in ("train", "val", "trainval", "test")}
    assert set(_digests(kitti_root)) == expected | lists | {RECORD_NAME}
    for path in kitti_root.rglob("*.png"):
        assert cv2.imread(str(path)).shape == (KITTI_SIZE[1], KITTI_SIZE[0], 3)


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["000000", "000001"]),
        ("val", ["000002"]),
        ("trainval", ["000000", "000001", "000002"]),
        ("test", ["000000"]),
        ("all", ["000000", "000001", "000002"]),
    ],
)
def test_our_reader_finds_nothing_odd(kitti_root: Path, split: str, names: list[str]) -> None:
    dataset = KittiDataset(kitti_root, split=split, class_names=CLASSES, with_points=True)
    assert dataset.frame_ids == names
    for index in range(len(dataset)):
        assert list(verify_frame(dataset, index)) == []
        assert (dataset[index].boxes_cam is None) == (split == "test")
    assert (sum(dataset.describe().objects.values()) > 0) == (split != "test")


def test_every_line_is_what_kittis_readme_says(kitti_root: Path) -> None:
    width, height = KITTI_SIZE
    types = {"Car", "Van", "Truck", "Pedestrian", "Cyclist", "Misc", "DontCare"}
    lines = [
        line.split(" ")
        for path in sorted((kitti_root / "training" / "label_2").iterdir())
        for line in path.read_text().splitlines()
    ]
    assert len(lines) > 15
    for name, *words in lines:
        values = [float(word) for word in words]
        truncated, occluded, alpha, left, top, right, bottom, *box = values
        assert name in types
        assert len(values) == 14
        assert "-0.00" not in words
        assert 0 <= left < right <= width - 1
        assert 0 <= top < bottom <= height - 1
        if name == "DontCare":
            assert (truncated, occluded, alpha) == (-1, -1, -10)
            assert box == [-1, -1, -1, -1000, -1000, -1000, -10]
            continue
        *dims_hwl, x, _, z, yaw = box
        assert 0 <= truncated <= 1
        assert words[1] in {"0", "1", "2", "3"}
        assert min(dims_hwl) > 0.3
        assert 0 < z < 80
        assert max(abs(alpha), abs(yaw)) <= 3.15
        turn = alpha - (yaw - np.arctan2(x, z))
        assert np.abs((turn + np.pi) % (2 * np.pi) - np.pi) < 0.03


def test_the_record_counts_what_is_there(
    kitti_root: Path, kitti_config: SyntheticKittiConfig
) -> None:
    before = _digests(kitti_root)
    summary = write_kitti(kitti_root, kitti_config, num_processes=1)
    assert not summary.is_new
    assert summary.num_samples == {"train": 2, "val": 1, "test": 1}
    assert summary.num_images == 4
    labels = (kitti_root / "training" / "label_2").iterdir()
    types = [line.split()[0] for path in labels for line in path.read_text().splitlines()]
    assert summary.num_labels == {name: types.count(name) for name in sorted(set(types))}
    assert _digests(kitti_root) == before


def test_other_settings_and_another_format_refuse_the_folder(
    kitti_root: Path, tmp_path: Path, kitti_config: SyntheticKittiConfig
) -> None:
    with pytest.raises(DataError, match=r"synthetic\.json.*\"seed\": 7.*\"seed\": 8"):
        write_kitti(kitti_root, replace(kitti_config, seed=8), num_processes=1)
    nuscenes = SyntheticConfig(
        image_size=KITTI_SIZE, train_scenes=2, val_scenes=1, samples_per_scene=1, seed=7
    )
    with pytest.raises(DataError, match=r"\"format\": \"kitti\".*give a new folder"):
        write_nuscenes(kitti_root, nuscenes, num_processes=1)
    with pytest.raises(ValueError, match="positive"):
        write_kitti(tmp_path / "data", replace(kitti_config, val_scenes=0), num_processes=1)


def test_splits_do_not_share_scenes_and_do_not_change_each_other(
    tmp_path: Path, kitti_root: Path, kitti_config: SyntheticKittiConfig
) -> None:
    """The validation scene alone is the one beside two training scenes; the seed decides it."""
    alone = replace(kitti_config, train_scenes=0, test_scenes=0)
    write_kitti(tmp_path / "alone", alone, num_processes=1)
    write_kitti(tmp_path / "other", replace(alone, seed=8), num_processes=1)
    for folder, ending in (("image_2", "png"), ("velodyne", "bin"), ("label_2", "txt")):
        wanted = (kitti_root / "training" / folder / f"000002.{ending}").read_bytes()
        first = Path("training") / folder / f"000000.{ending}"
        assert (tmp_path / "alone" / first).read_bytes() == wanted
        assert (tmp_path / "other" / first).read_bytes() != wanted
    assert (tmp_path / "alone" / "testing" / "image_2").is_dir()
    calibrations = {path.read_text() for path in kitti_root.glob("*/calib/*.txt")}
    assert len(calibrations) == 4


def test_an_interrupted_run_leaves_nothing(
    tmp_path: Path, kitti_config: SyntheticKittiConfig
) -> None:
    def interrupt(done: int, total: int) -> None:
        assert (done, total) == (1, 1)
        raise KeyboardInterrupt

    config = replace(kitti_config, train_scenes=0, test_scenes=0)
    with pytest.raises(KeyboardInterrupt):
        write_kitti(tmp_path / "data", config, num_processes=1, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_a_scene_follow_each_other(
    tmp_path: Path, kitti_config: SyntheticKittiConfig
) -> None:
    config = replace(kitti_config, train_scenes=0, test_scenes=0, samples_per_scene=2)
    write_kitti(tmp_path / "data", config, num_processes=1)
    training = tmp_path / "data" / "training"
    first, second = (path.read_text() for path in sorted((training / "calib").iterdir()))
    assert first == second
    assert (tmp_path / "data" / "ImageSets" / "val.txt").read_text() == "000000\n000001\n"
    assert json.loads((tmp_path / "data" / RECORD_NAME).read_text())["settings"]["seed"] == 7


@pytest.mark.slow
def test_number_of_processes_changes_no_byte(
    tmp_path: Path, kitti_root: Path, kitti_config: SyntheticKittiConfig
) -> None:
    write_kitti(tmp_path / "data", kitti_config, num_processes=2)
    assert _digests(tmp_path / "data") == _digests(kitti_root)
