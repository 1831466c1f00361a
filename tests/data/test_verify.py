"""What verification finds in whole data sets."""

from pathlib import Path

import pytest

from mono3d.data.kitti import KittiDataset
from mono3d.data.verify import Finding, verify_frame
from tests.support.kitti_folder import CAR, write_kitti

CLASSES = ("Car", "Pedestrian", "Cyclist")


def findings(root: Path) -> list[Finding]:
    dataset = KittiDataset(root, split="all", class_names=CLASSES)
    return [found for index in range(len(dataset)) for found in verify_frame(dataset, index)]


def test_a_good_folder_has_none(tmp_path: Path) -> None:
    assert findings(write_kitti(tmp_path / "kitti")) == []


def test_a_box_that_the_camera_cannot_see_is_odd(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti")
    behind = CAR.replace("58.49", "-58.49")
    (root / "training" / "label_2" / "000002.txt").write_text(f"{CAR}\n{behind}\n")
    (found,) = findings(root)
    assert not found.is_error
    assert found.frame_id == "000002"
    assert found.text == "1 of 2 labelled boxes lie outside the image_2 image"


@pytest.mark.real_data
def test_real_frames_are_whole_and_the_cropped_one_is_odd(real_data: Path) -> None:
    found = findings(real_data / "kitti")
    assert [(item.frame_id, item.is_error) for item in found] == [("000016", False)]
    assert "leave the 1224x370 image" in found[0].text
