import numpy as np
import pytest
from numpy.typing import NDArray

from mono3d.data.synthetic.raster import Pinhole, empty_buffers
from mono3d.data.synthetic.shading import SAMPLES, Backdrop, Light, ShadowMap, shade
from tests.data.synthetic.test_terrain import FLAT

CAMERA = Pinhole(
    rotation=np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]),
    position=np.array([0.0, -4.0, 1.5]),
    fx=60.0,
    fy=60.0,
    cx=40.0,
    cy=30.0,
)
LIGHT = Light(
    sun=(0.0, 0.0, 1.0),
    direct=(0.0, 0.0, 0.0),
    ambient=(1.0, 1.0, 1.0),
    horizon=(200.0, 200.0, 200.0),
    zenith=(0.0, 0.0, 255.0),
    cloud=(0.0, 0.0, 255.0),
    fog_m=1e9,
    grain=0.0,
)


def _shade(
    light: Light = LIGHT, *, darkness: float = 0.0, covered: bool = False
) -> NDArray[np.uint8]:
    shadow = ShadowMap(
        cells=np.full((50, 50), darkness, dtype=np.float32),
        cell_m=4.0,
        corner_x=-100.0,
        corner_y=-100.0,
    )
    noise = np.zeros((256, 256), dtype=np.float32)
    buffers = empty_buffers(60 * SAMPLES, 80 * SAMPLES, 1)
    if covered:
        # The left half of pixel (10, 20) and all of (40, 30), 25 m away.
        buffers.faces[10 * SAMPLES : 11 * SAMPLES, 20 * SAMPLES] = 0
        buffers.faces[40 * SAMPLES : 41 * SAMPLES, 30 * SAMPLES : 31 * SAMPLES] = 0
        buffers.inverse_depth[buffers.faces == 0] = 1 / 25
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    colors = np.array([[100.0, 50.0, 0.0]])
    shade(CAMERA, Backdrop(FLAT, light, shadow, noise), buffers, colors, image)
    return image


def test_sky_is_above_the_horizon_and_street_below() -> None:
    image = _shade()
    # BGR: the zenith is blue; straight ahead and below lies grey asphalt.
    assert image[0, 40, 0] > image[0, 40, 2] + 20
    assert np.ptp(image[50, 45].astype(int)) == 0
    assert image[50, 45, 0] == pytest.approx(100, abs=1)


def test_a_covered_pixel_has_the_quads_colour_and_a_half_covered_one_the_mean() -> None:
    plain, image = _shade(), _shade(covered=True)
    assert image[40, 30].tolist() == [0, 50, 100]
    expected = (plain[10, 20] + np.array([0.0, 50.0, 100.0])) / 2
    assert image[10, 20] == pytest.approx(expected, abs=1)


def test_fog_takes_half_at_its_distance() -> None:
    image = _shade(LIGHT._replace(fog_m=25.0), covered=True)
    # BGR halfway from (0, 50, 100) to 200.
    assert image[40, 30].tolist() == [100, 125, 150]


def test_shadow_darkens_the_ground_and_not_the_sky() -> None:
    light, dark = _shade().astype(float), _shade(darkness=0.5).astype(float)
    assert dark[50, 45] == pytest.approx(0.5 * light[50, 45], abs=1)
    assert np.array_equal(light[:20], dark[:20])
