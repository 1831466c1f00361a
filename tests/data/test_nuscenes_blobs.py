"""Images and sweeps that are missing or broken."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from mono3d.errors import DataError
from tests.support.nuscenes_tables import cut_short, edit_table, open_tiny, write_tables


def image_path(root: Path) -> Path:
    return root / "samples/CAM_FRONT/scene-a-sample-0__CAM_FRONT.jpg"


def sweep_path(root: Path) -> Path:
    return root / "samples/LIDAR_TOP/scene-a-sample-0__LIDAR_TOP.pcd.bin"


BROKEN_BLOBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing image": (lambda r: image_path(r).unlink(), r"CAM_FRONT\.jpg: cannot be read"),
    "cut image": (lambda r: cut_short(image_path(r)), r"CAM_FRONT\.jpg: image is cut short"),
    "empty image": (lambda r: image_path(r).write_bytes(b""), "0 bytes"),
    "no image": (lambda r: image_path(r).write_bytes(b"text \xff\xd9"), "not a readable image"),
    "missing sweep": (lambda r: sweep_path(r).unlink(), r"LIDAR_TOP\.pcd\.bin: cannot be read"),
    "cut sweep": (
        lambda r: cut_short(sweep_path(r)),
        "33 bytes are no whole number of 20-byte points",
    ),
    "NaN": (lambda r: np.full(5, np.nan, "f4").tofile(sweep_path(r)), "a point is not finite"),
    "size": (
        lambda r: edit_table(r, "sample_data", lambda rows: [x.update(width=65) for x in rows]),
        r"its table says \[36, 65\]",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN_BLOBS.values(), ids=BROKEN_BLOBS)
def test_broken_blob_is_named(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    root = write_tables(tmp_path / "data")
    spoil(root)
    dataset = open_tiny(root, tmp_path, with_points=True)
    with pytest.raises(DataError, match=message) as caught:
        dataset[0]
    assert "\n" not in str(caught.value)


def test_cameras_of_one_frame_must_have_one_size(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "data")
    path = root / "samples/CAM_BACK/scene-a-sample-0__CAM_BACK.jpg"
    cv2.imwrite(str(path), np.zeros((18, 32, 3), np.uint8))
    edit_table(root, "sample_data", lambda rows: rows[3].update(height=18, width=32))
    assert open_tiny(root, tmp_path)[3].images.shape == (1, 3, 18, 32)
    with pytest.raises(DataError, match=r"CAM_BACK\.jpg: another size than .*CAM_FRONT"):
        open_tiny(root, tmp_path, surround=True)[0]
