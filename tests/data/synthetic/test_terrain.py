import numpy as np
import pytest

from mono3d.data.synthetic.terrain import (
    Terrain,
    ground_color,
    height_at,
    ray_depths,
    value_noise,
)

HILLS = Terrain(
    slope_x=0.02,
    slope_y=-0.01,
    curve=1 / 900,
    bend=0.004,
    half_road=9.5,
    half_driven=7.0,
    lane=3.5,
    cross_x=30.0,
    half_cross=4.0,
    asphalt=100.0,
    paving=160.0,
    green=1.0,
)
FLAT = HILLS._replace(slope_x=0.0, slope_y=0.0, curve=0.0, bend=0.0)


def test_height_is_the_quadric_in_both_forms() -> None:
    assert HILLS.height(30.0, 10.0) == pytest.approx(0.6 - 0.1 + 0.5)
    assert height_at(HILLS, 30.0, 10.0) == pytest.approx(HILLS.height(30.0, 10.0))


def test_rays_meet_the_ground_where_it_is() -> None:
    position = np.array([3.0, -2.0, HILLS.height(3.0, -2.0) + 1.6])
    angles = np.linspace(0, 2 * np.pi, 12)
    rays = np.stack([np.cos(angles), np.sin(angles), np.full(12, -0.1)], axis=1)
    for ray, depth in zip(rays, ray_depths(HILLS, position, rays), strict=True):
        x, y, z = position + depth * ray
        assert depth > 0
        assert z == pytest.approx(HILLS.height(x, y), abs=1e-6)


def test_a_ray_to_the_sky_meets_no_flat_ground_and_a_level_one_meets_the_next_hill() -> None:
    position = np.array([0.0, 0.0, 1.5])
    rays = np.array([[1.0, 0.0, 0.1], [1.0, 0.0, 0.0]])
    assert (ray_depths(FLAT, position, rays) < 0).all()
    hill = FLAT._replace(curve=1 / 300)
    # 1.5 = x^2 / 600.
    assert ray_depths(hill, position, rays)[1] == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("x", "side", "greenest", "level"),
    [
        (2.0, 0.14, False, 170),  # the double centre line is yellow
        (2.0, 7.0, False, 215),  # the edge line is white
        (2.0, 5.0, False, 100),  # asphalt
        (2.0, 9.6, False, 186),  # kerb
        (2.0, -40.0, True, 118),  # grass
        (30.0, 40.0, False, 100),  # asphalt of the street that crosses
    ],
)
def test_ground_is_painted_as_a_street(x: float, side: float, greenest: bool, level: int) -> None:
    noise = np.zeros((256, 256), dtype=np.float32)
    red, green, blue = ground_color(FLAT, noise, x, side, 0.01, 0.01)
    assert (green > red and green > blue) == greenest
    assert green == pytest.approx(level, abs=16)


def test_lines_follow_the_bend_of_the_road() -> None:
    bent, noise = FLAT._replace(bend=0.01), np.zeros((256, 256), dtype=np.float32)
    x, y = bent.on_road(-20.0, 0.14)
    assert y == pytest.approx(2.14)
    red, _, blue = ground_color(bent, noise, x, y, 0.01, 0.01)
    assert red > 1.5 * blue
    assert np.tan(bent.heading(-20.0)) == pytest.approx(-0.2)


def test_noise_is_centred_and_the_same_every_time() -> None:
    noise = value_noise()
    assert noise.shape == (256, 256)
    assert abs(float(noise.mean())) < 0.02
    assert 0.3 < float(noise.std()) < 0.5
    assert float(np.abs(noise).max()) <= 1
    value_noise.cache_clear()
    assert np.array_equal(noise, value_noise())
