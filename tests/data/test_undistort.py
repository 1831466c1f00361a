"""Lens distortion: without it, what OpenCV projects through a lens lies where a pinhole says."""

import math

import cv2
import numpy as np
import pytest

from mono3d.data.undistort import Distortion, undistort
from mono3d.errors import DataError

PROJECTION = np.array([[400.0, 0, 319.5, 0], [0, 390.0, 239.5, 0], [0, 0, 1, 0]])
SIZE = (480, 640)
POINTS = np.array(
    [(x, y, 10.0) for x in (-6.5, -3.0, 0.0, 3.0, 6.5) for y in (-4.8, -2.0, 1.0, 4.8)]
)
LENSES = {
    "four": Distortion((-0.28, 0.07, 0.001, -0.002)),
    "plumb_bob": Distortion((-0.28, 0.07, 0.001, -0.002, 0.01)),
    "rational": Distortion((0.4, -0.3, 0.0005, 0.0002, -0.05, 0.8, -0.35, -0.1)),
    "fisheye": Distortion((-0.02, 0.01, -0.004, 0.001), fisheye=True),
}


def through_lens(points: np.ndarray, lens: Distortion) -> np.ndarray:
    """Pixels of points in an image taken through the lens, by OpenCV."""
    coefficients = np.array(lens.coefficients)
    matrix, still = PROJECTION[:, :3], np.zeros(3)
    if lens.fisheye:
        pixels, _ = cv2.fisheye.projectPoints(points[:, None], still, still, matrix, coefficients)
    else:
        pixels, _ = cv2.projectPoints(points, still, still, matrix, coefficients)
    return np.asarray(pixels).reshape(-1, 2)


def with_dots(pixels: np.ndarray) -> np.ndarray:
    """A black image with a soft white dot at each place."""
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.zeros(SIZE)
    for x, y in pixels:
        image += 255 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * 2.0**2))
    return np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def dot_near(image: np.ndarray, place: np.ndarray, reach: int = 8) -> np.ndarray:
    """Centre of brightness around a place."""
    left, top = (place.round().astype(int) - reach).tolist()
    window = image[top : top + 2 * reach + 1, left : left + 2 * reach + 1, 0].astype(float)
    assert window.sum() > 1000
    v, u = np.mgrid[: window.shape[0], : window.shape[1]]
    return np.array([(u * window).sum(), (v * window).sum()]) / window.sum() + (left, top)


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_dots_lie_where_the_pinhole_says(lens: Distortion) -> None:
    seen = through_lens(POINTS, lens)
    wanted = POINTS[:, :2] / 10 * (400, 390) + (319.5, 239.5)
    moved = np.linalg.norm(seen - wanted, axis=1)
    assert moved.max() > 8  # this lens does something
    straight = undistort(with_dots(seen), PROJECTION, lens)
    found = np.array([dot_near(straight, place) for place in wanted])
    # Worst where a dot is stretched most: its brightest point stays, its middle moves a little.
    assert np.linalg.norm(found - wanted, axis=1).max() < 0.5


def test_a_lens_that_does_nothing_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    same = undistort(image, PROJECTION, Distortion((0.0, 0.0, 0.0, 0.0)))
    np.testing.assert_array_equal(same, image)


def test_each_size_and_camera_has_its_own_lookup() -> None:
    lens = LENSES["plumb_bob"]
    image = with_dots(through_lens(POINTS, lens))
    whole = undistort(image, PROJECTION, lens)
    smaller = undistort(image[:, :600], PROJECTION, lens)
    np.testing.assert_array_equal(smaller[:, :550], whole[:, :550])
    tele = PROJECTION * [[1.1], [1.1], [1]]
    assert not np.array_equal(undistort(image, tele, lens), whole)


@pytest.mark.parametrize(
    ("coefficients", "fisheye", "said"),
    [
        ((0.1, 0.2, 0.3), False, "^3 distortion coefficients; a lens has 4 or 5 or 8 or 12 or 14"),
        ((0.1,) * 5, True, "^5 distortion coefficients; a fisheye lens has 4$"),
        ((0.1, math.nan, 0.0, 0.0), False, "a coefficient is not finite"),
    ],
)
def test_what_is_no_lens_is_refused(
    coefficients: tuple[float, ...], fisheye: bool, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        Distortion(coefficients, fisheye=fisheye)


def test_a_skewed_camera_has_no_lens() -> None:
    skewed = PROJECTION.copy()
    skewed[0, 1] = 3.0
    with pytest.raises(DataError, match="a camera with a lens has no skew"):
        undistort(np.zeros((*SIZE, 3), np.uint8), skewed, LENSES["four"])
