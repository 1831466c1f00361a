"""Image files, read whole or refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mono3d.data.images import read_image
from mono3d.errors import DataError

RED_GREEN_BLUE = (200, 90, 30)


def write(path: Path) -> Path:
    cv2.imwrite(str(path), np.full((8, 16, 3), RED_GREEN_BLUE[::-1], np.uint8))
    return path


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPG"])
def test_pixels_are_rgb(tmp_path: Path, name: str) -> None:
    image = read_image(write(tmp_path / name))
    assert image.shape == (8, 16, 3)
    assert image[4, 4].tolist() == pytest.approx(RED_GREEN_BLUE, abs=3)


@pytest.mark.parametrize("shape", [(8, 16), (8, 16, 4)])
def test_grey_and_transparent_images_become_rgb(tmp_path: Path, shape: tuple[int, ...]) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full(shape, 90, np.uint8))
    image = read_image(tmp_path / "a.png")
    assert image.shape == (8, 16, 3)
    assert (image == 90).all()


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_image_cut_short_is_refused(tmp_path: Path, name: str, share: float) -> None:
    path = write(tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=f"{name}: image is cut short or empty"):
        read_image(path)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"text" * 10 + b"\xff\xd9")
    with pytest.raises(DataError, match="not a readable image"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path / "missing.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path / "folder.jpg")
