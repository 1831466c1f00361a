import numpy as np
import pytest

from mono3d.data.synthetic.mesh import (
    Face,
    block,
    decal,
    disc,
    fitted,
    frustum,
    merge,
    placed,
    recolored,
)

RED = (200, 0, 0)
BOX = block((-2.0, 2.0, -1.0, 1.0), (0.0, 1.5), RED)


def test_faces_of_a_box_have_the_normals_of_their_names() -> None:
    expected = {
        Face.FRONT: (1, 0, 0),
        Face.REAR: (-1, 0, 0),
        Face.LEFT: (0, 1, 0),
        Face.RIGHT: (0, -1, 0),
        Face.TOP: (0, 0, 1),
    }
    for face, normal in expected.items():
        assert BOX.normals[face] == pytest.approx(normal)
    assert BOX.quads[Face.FRONT][:, 0] == pytest.approx(2.0)


def test_a_slanted_face_points_up_and_out() -> None:
    cabin = frustum((-2.0, 2.0, -1.0, 1.0), (-1.0, 1.0, -1.0, 1.0), (0.0, 1.0), RED)
    assert cabin.normals[Face.FRONT] == pytest.approx(np.array([1, 0, 1]) / np.sqrt(2))


def test_a_decal_floats_outside_the_part_of_the_face_that_it_names() -> None:
    # On the left side u runs along x and v up.
    window = decal(BOX, Face.LEFT, (0.25, 0.75), (0.5, 1.0), (0, 0, 0), glow=1.0)
    corners = window.quads[0]
    assert corners[:, 0] == pytest.approx([-1, 1, 1, -1])
    assert corners[:, 2] == pytest.approx([0.75, 0.75, 1.5, 1.5])
    assert (corners[:, 1] > 1.0).all()
    assert (corners[:, 1] < 1.02).all()
    assert window.glow.tolist() == [1.0]


def test_a_disc_is_as_large_as_its_radius_and_faces_its_side() -> None:
    wheel = disc((1.0, 0.8, 0.4), 0.4, -1, RED)
    assert np.ptp(wheel.quads[..., 0]) == pytest.approx(0.8, abs=0.01)
    assert wheel.quads[..., 2].min() == pytest.approx(0.0, abs=0.01)
    assert (wheel.normals[:, 1] < -0.99).all()


def test_recolouring_changes_only_the_named_face() -> None:
    changed = recolored(BOX, {Face.TOP: (1, 2, 3)})
    assert changed.colors[Face.TOP].tolist() == [1, 2, 3]
    assert (changed.colors[: Face.TOP] == RED).all()
    assert (BOX.colors == RED).all()


def test_a_fitted_shape_is_centred_inside_its_box() -> None:
    mesh = fitted(merge([BOX]), (4.0, 2.0, 1.5))
    extent = np.abs(mesh.quads).max(axis=(0, 1))
    assert extent == pytest.approx([1.98, 0.98, 0.73])


def test_placing_turns_to_the_left_and_moves() -> None:
    moved = placed(BOX, np.array([10.0, 0.0, 1.0]), np.pi / 2)
    assert moved.normals[Face.FRONT] == pytest.approx([0, 1, 0])
    assert moved.quads[Face.FRONT][:, 1] == pytest.approx(2.0)
    assert moved.quads[..., 0].mean() == pytest.approx(10.0)
