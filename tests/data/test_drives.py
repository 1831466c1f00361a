"""From which drive KITTI's frames come, by the development kit's lists or by one's own."""

from pathlib import Path

import pytest

from mono3d.data.drives import kitti_drives
from mono3d.data.kitti import KittiDataset
from mono3d.errors import DataError
from tests.support.kitti_folder import write_kitti

MAPPING = """2011_09_26 2011_09_26_drive_0005_sync 0000000109
2011_09_26 2011_09_26_drive_0005_sync 0000000120
2011_09_28 2011_09_28_drive_0034_sync 0000000007
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_kitti(tmp_path / "kitti")


def write_mapping(root: Path, order: str = "3, 1, 2", mapping: str = MAPPING) -> None:
    (root / "mapping").mkdir()
    (root / "mapping" / "train_mapping.txt").write_text(mapping)
    (root / "mapping" / "train_rand.txt").write_text(order)


def opened(root: Path, split: str) -> KittiDataset:
    return KittiDataset(root, split=split, class_names=["Car", "Pedestrian", "Cyclist"])


def test_a_folder_that_does_not_say_is_not_known(root: Path) -> None:
    assert kitti_drives(root) is None
    assert opened(root, "train").drives is None


def test_the_development_kit_says_it_from_one_on(root: Path) -> None:
    write_mapping(root)
    assert kitti_drives(root) == {
        "000000": "2011_09_28_drive_0034_sync",
        "000001": "2011_09_26_drive_0005_sync",
        "000002": "2011_09_26_drive_0005_sync",
    }
    assert opened(root, "val").drives == {"2011_09_26_drive_0005_sync"}


def test_a_list_of_one_s_own_wins(root: Path) -> None:
    write_mapping(root)
    (root / "ImageSets" / "drives.txt").write_text("000000 hill\n000001 hill\n\n000002 bridge\n")
    assert opened(root, "train").drives == {"hill"}
    assert opened(root, "val").drives == {"bridge"}


def test_a_list_without_all_frames_is_not_known(root: Path) -> None:
    (root / "ImageSets" / "drives.txt").write_text("000000 hill\n")
    assert opened(root, "train").drives is None


def test_testing_frames_are_of_other_drives(root: Path) -> None:
    assert opened(root, "test").drives == frozenset()


@pytest.mark.parametrize(
    ("order", "mapping"), [("4, 1", MAPPING), ("1", "2011_09_26 drive\n"), ("0", MAPPING)]
)
def test_lists_that_do_not_fit_are_named(root: Path, order: str, mapping: str) -> None:
    write_mapping(root, order, mapping)
    with pytest.raises(DataError, match=r"train_mapping\.txt: .* do not fit the .*train_rand"):
        kitti_drives(root)


def test_a_line_that_is_no_pair_is_named(root: Path) -> None:
    (root / "ImageSets" / "drives.txt").write_text("000000\n")
    with pytest.raises(DataError, match=r"drives\.txt: line '000000': a frame and its drive"):
        kitti_drives(root)
