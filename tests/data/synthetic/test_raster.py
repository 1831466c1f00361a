import numpy as np
import pytest
from numpy.typing import NDArray

from mono3d.data.synthetic.raster import (
    Buffers,
    Pinhole,
    clear_buffers,
    empty_buffers,
    identify,
    rasterise,
)

# Looks along world z: camera axes are the world's. Focal length 100 samples, centre of 100 x 80.
CAMERA = Pinhole(rotation=np.eye(3), position=np.zeros(3), fx=100.0, fy=100.0, cx=50.0, cy=40.0)


def _square(x: float, y: float, z: float, side: float) -> NDArray[np.float64]:
    """A square that faces the camera, centred on (x, y, z)."""
    half = side / 2
    corners = [(-half, -half), (half, -half), (half, half), (-half, half)]
    return np.array([(x + dx, y + dy, z) for dx, dy in corners])


def _draw(quads: list[NDArray[np.float64]], owners: list[int]) -> Buffers:
    buffers = empty_buffers(80, 100, max(owners) + 1)
    rasterise(np.array(quads), np.array(owners, dtype=np.int16), CAMERA, buffers)
    return buffers


def test_a_square_covers_the_samples_of_its_projection_at_its_depth() -> None:
    buffers = _draw([_square(0, 0, 5.0, 1.0)], [1])
    rows, columns = np.nonzero(buffers.faces == 0)
    # One metre at 5 m is 20 samples.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (30, 49, 40, 59)
    assert buffers.inverse_depth[buffers.faces == 0] == pytest.approx(0.2)
    assert buffers.areas.tolist() == [0, 400]
    assert (buffers.inverse_depth[buffers.faces < 0] == 0).all()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearest_wins_whatever_the_order(order: tuple[int, int]) -> None:
    quads = [_square(0, 0, 5.0, 1.0), _square(0, 0, 10.0, 3.0)]
    buffers = _draw([quads[i] for i in order], [1 + i for i in order])
    ids, counts = np.zeros((80, 100), dtype=np.int16), np.zeros(3, dtype=np.int64)
    identify(buffers, np.array([1 + i for i in order], dtype=np.int16), ids, counts)
    assert ids[40, 50] == 1
    assert counts.tolist() == [80 * 100 - 900, 400, 500]
    assert buffers.areas.tolist() == [0, 400, 900]


def test_inverse_depth_of_a_slanted_quad_is_exact() -> None:
    # The plane z = 4 + x.
    quad = np.array([(-1.0, -1, 3), (1, -1, 5), (1, 1, 5), (-1, 1, 3)])
    buffers = _draw([quad], [0])
    for row, column in ((40, 40), (45, 60), (30, 52)):
        slope = (column + 0.5 - 50) / 100
        assert buffers.inverse_depth[row, column] == pytest.approx((1 - slope) / 4, rel=1e-5)


def test_a_quad_that_reaches_behind_the_camera_is_cut() -> None:
    # A floor one metre below, from 10 m behind to 10 m ahead: all rows below z = 10.
    floor = np.array([(-50.0, 1, -10), (50, 1, -10), (50, 1, 10), (-50, 1, 10)])
    buffers = _draw([floor], [0])
    assert (buffers.faces[:50] == -1).all()
    assert (buffers.faces[50:] == 0).all()
    assert buffers.inverse_depth[60, 50] == pytest.approx(0.205)


def test_what_lies_behind_or_beside_the_picture_is_not_drawn() -> None:
    buffers = _draw([_square(0, 0, -5.0, 1.0), _square(30, 0, 5.0, 1.0)], [1, 2])
    assert (buffers.faces == -1).all()
    assert buffers.areas.tolist() == [0, 0, 0]


def test_an_object_of_two_quads_counts_its_silhouette_once() -> None:
    buffers = _draw([_square(0, 0, 5.0, 1.0), _square(0.05, 0, 5.0, 1.0)], [1, 1])
    assert buffers.areas[1] == 20 * 21


def test_cleared_buffers_are_as_new() -> None:
    buffers = _draw([_square(0, 0, 5.0, 1.0)], [1])
    clear_buffers(buffers)
    for cleared, fresh in zip(buffers, empty_buffers(80, 100, 2), strict=True):
        assert np.array_equal(cleared, fresh)
