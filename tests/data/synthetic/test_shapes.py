import numpy as np
import pytest
from nuscenes.eval.detection.constants import DETECTION_NAMES
from nuscenes.eval.detection.utils import category_to_detection_name

from mono3d.data.synthetic.catalogue import CLASSES, RARE_CLASSES, RIDER_HEIGHT_M, ObjectClass
from mono3d.data.synthetic.shapes import object_mesh

MOTORISED = [k for k in CLASSES if k.motion == "vehicle"]


def _names(kinds: list[ObjectClass]) -> list[str]:
    return [kind.name for kind in kinds]


def test_classes_are_the_benchmarks() -> None:
    assert sorted(kind.name for kind in CLASSES) == sorted(DETECTION_NAMES)
    assert all(category_to_detection_name(kind.category) == kind.name for kind in CLASSES)
    rare = [kind for kind in CLASSES if kind.name in RARE_CLASSES]
    assert len(rare) == 5
    assert all(kind.train_count > kind.natural_count for kind in rare)


@pytest.mark.parametrize("kind", CLASSES, ids=_names(list(CLASSES)))
@pytest.mark.parametrize("seed", range(3))
def test_shapes_fill_their_box_and_stay_inside(kind: ObjectClass, seed: int) -> None:
    mesh = object_mesh(kind.name, kind.size_lwh_m, np.random.default_rng(seed))
    extent = np.abs(mesh.quads).max(axis=(0, 1)) / (np.array(kind.size_lwh_m) / 2)
    assert (extent < 1).all()
    assert (extent > 0.75).all()


@pytest.mark.parametrize("name", ["bicycle", "motorcycle"])
def test_riders_add_to_a_cycle(name: str) -> None:
    (kind,) = (kind for kind in CLASSES if kind.name == name)
    size = (*kind.size_lwh_m[:2], RIDER_HEIGHT_M[kind.name])
    alone = object_mesh(kind.name, kind.size_lwh_m, np.random.default_rng(0))
    ridden = object_mesh(kind.name, size, np.random.default_rng(0), has_rider=True)
    assert len(ridden.glow) > len(alone.glow)
    assert size[2] > kind.size_lwh_m[2]


@pytest.mark.parametrize("kind", MOTORISED, ids=_names(MOTORISED))
def test_rears_show_red_lamps_and_fronts_do_not(kind: ObjectClass) -> None:
    mesh = object_mesh(kind.name, kind.size_lwh_m, np.random.default_rng(0))
    red = (mesh.glow > 0) & (mesh.colors[:, 0] > 3 * mesh.colors[:, 1])
    white = (mesh.glow > 0) & (mesh.colors.min(axis=1) > 200)
    assert red.sum() >= 2
    assert (mesh.normals[red, 0] < -0.9).all()
    if kind.name not in ("trailer", "construction_vehicle"):
        assert white.sum() >= 2
        assert (mesh.normals[white, 0] > 0.9).all()


@pytest.mark.parametrize("kind", CLASSES, ids=_names(list(CLASSES)))
def test_colours_are_colours(kind: ObjectClass) -> None:
    mesh = object_mesh(kind.name, kind.size_lwh_m, np.random.default_rng(1))
    assert mesh.colors.min() >= 0
    assert mesh.colors.max() <= 275  # a highlight on a light colour; light clips it


def test_low_trucks_are_pickups() -> None:
    low = object_mesh("truck", (5.8, 2.2, 1.95), np.random.default_rng(0))
    high = object_mesh("truck", (6.9, 2.5, 2.9), np.random.default_rng(0))
    # Only the box truck has doors with a red and white marking behind.
    assert len(high.glow) > len(low.glow) + 5
