import numpy as np
import pytest

from mono3d.data.synthetic.street import build_light, build_street


def test_streets_differ_in_slope_crest_bend_and_crossing() -> None:
    terrains = [build_street(np.random.default_rng(seed)).terrain for seed in range(60)]
    assert min(t.curve for t in terrains) < -4e-4
    assert max(t.curve for t in terrains) > 8e-4
    assert {abs(t.cross_x) < 100 for t in terrains} == {True, False}
    assert {t.bend == 0 for t in terrains} == {True, False}
    assert {round(t.half_driven / t.lane) for t in terrains} == {1, 2}


def test_no_crest_hides_what_is_labelled() -> None:
    """The ground is drawn behind everything, which is right while no crest hides a foot."""
    lowest_camera_m = 1.3
    for seed in range(200):
        curve = build_street(np.random.default_rng(seed)).terrain.curve
        if curve < 0:
            assert np.sqrt(2 * lowest_camera_m / -curve) > 60


def test_light_is_day_overcast_dusk_or_night() -> None:
    lights = [build_light(np.random.default_rng(seed)) for seed in range(80)]
    brightness = np.array([sum(light.direct) + sum(light.ambient) for light in lights])
    assert brightness.min() < 0.5 * brightness.max()
    for light in lights:
        assert np.linalg.norm(light.sun) == pytest.approx(1)
        assert light.sun[2] > 0.15
