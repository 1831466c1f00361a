"""The ground of a synthetic world: its height, its street and the colour of each point of it.

World frame: x along the road at the origin, y left, z up, metres. The road's centre line is
y = bend x^2 / 2, and the height z = slope_x x + slope_y y + curve x^2 / 2: over such ground the
image row does not tell the depth. `Terrain` is a NamedTuple so that compiled code can read it.
"""

from functools import cache
from typing import NamedTuple, TypeVar, no_type_check

import numba
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

KERB_M = 0.3
PAVEMENT_M = 4.5
LINE_M = 0.16
_NOISE_SIZE = 256
_SLAB_M = 1.5

Number = TypeVar("Number", float, NDArray[np.float64])


class Terrain(NamedTuple):
    """Shape of the ground and layout of the street.

    Attributes:
        slope_x: Rise along the road.
        slope_y: Rise to the left.
        curve: Vertical curvature along x, 1/m.
        bend: Curvature of the road's centre line, 1/m.
        half_road: From the centre line to the kerb, metres.
        half_driven: From the centre line to the edge line; beyond it cars park.
        lane: Width of a lane, metres.
        cross_x: Where a street crosses at right angles; far away if none does.
        half_cross: Half the width of that street.
        asphalt: Grey level of the street.
        paving: Grey level of the pavement.
        green: Grass beyond the pavement if 1, a paved yard if 0.
    """

    slope_x: float
    slope_y: float
    curve: float
    bend: float
    half_road: float
    half_driven: float
    lane: float
    cross_x: float
    half_cross: float
    asphalt: float
    paving: float
    green: float

    def height(self, x: Number, y: Number) -> Number:
        """Height of the ground at a world point, or at many."""
        level: Number = self.slope_x * x + self.slope_y * y + 0.5 * self.curve * x * x
        return level

    def on_road(self, x: Number, side: Number) -> tuple[Number, Number]:
        """World point `side` metres left of the centre line, or many."""
        return x, 0.5 * self.bend * x * x + side

    def heading(self, x: Number) -> Number:
        """Direction of the road, radians from the x axis to the left."""
        direction: Number = np.arctan(self.bend * x)
        return direction


@cache
def value_noise() -> Float[NDArray[np.float32], "size size"]:
    """Tileable noise in [-1, 1], half smooth blobs and half single grains; always the same."""
    rng = np.random.default_rng(0)
    grains = rng.normal(size=(_NOISE_SIZE, _NOISE_SIZE))
    frequency = np.fft.fftfreq(_NOISE_SIZE)
    low_pass = np.exp(-144.0 * (frequency[:, None] ** 2 + frequency[None, :] ** 2))
    blobs = np.fft.ifft2(np.fft.fft2(grains) * low_pass).real
    mixed = blobs / blobs.std() + rng.normal(size=grains.shape)
    tile: NDArray[np.float32] = np.clip(mixed / (2.5 * mixed.std()), -1, 1).astype(np.float32)
    return tile


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def noise_at(noise, u, v):
    """The noise tile, repeated for ever, at its nearest grid point."""
    mask = noise.shape[0] - 1
    return noise[int(np.floor(v)) & mask, int(np.floor(u)) & mask]


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def ray_depth(terrain, above, x0, ray):
    """Multiple of a ray at which it meets the ground, negative if it does not.

    Args:
        terrain: The ground.
        above: Height of the ray's origin over the ground below it.
        x0: World x of the origin.
        ray: Direction in the world, any length.
    """
    # Height over the quadric after t: above + fall t - sag t^2.
    sag = 0.5 * terrain.curve * ray[0] * ray[0]
    fall = ray[2] - (terrain.slope_x + terrain.curve * x0) * ray[0] - terrain.slope_y * ray[1]
    root = fall * fall + 4.0 * sag * above
    if root < 0.0:
        return -1.0
    scale = np.sqrt(root) - fall
    return 2.0 * above / scale if scale > 1e-9 else -1.0


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def height_at(terrain, x, y):
    """Height of the ground; Terrain.height for compiled code."""
    return terrain.slope_x * x + terrain.slope_y * y + 0.5 * terrain.curve * x * x


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def ground_color(terrain, noise, x, y, across, along):
    """Unlit RGB of the ground.

    Args:
        terrain: The ground.
        noise: Tileable value noise.
        x: World x, metres.
        y: World y, metres.
        across: Width of the pixel on the ground, across the view, metres.
        along: Its length, along the view.
    """
    side = y - 0.5 * terrain.bend * x * x
    from_kerb = abs(side) - terrain.half_road
    from_cross = abs(x - terrain.cross_x) - terrain.half_cross
    texture = 9.0 * noise_at(noise, 1.3 * x, 1.3 * y)
    texture += 14.0 * noise_at(noise, 23.0 * x, 23.0 * side) * min(1.0, 0.06 / along)
    nearest = min(from_kerb, from_cross)
    if nearest < 0.0:
        paint = _grey(terrain.asphalt + texture, 1.0, 1.0)
        if from_kerb < 0.0 and from_cross > 4.2:
            paint = _with_lines(terrain, x, side, across, paint)
        elif from_kerb < 0.0 and 0.6 < from_cross < 3.8:
            paint = mix(paint, 0.85 * _dash(side + 100.0, 1.0, 0.5, across), (228.0, 228.0, 224.0))
        return paint
    if nearest < KERB_M:
        return _grey(186.0 + texture, 1.0, 1.0)
    if nearest < PAVEMENT_M:
        return _slabs(x, side, along, terrain.paving + texture)
    if terrain.green > 0.5:
        return _grey(118.0 + 2.0 * texture, 0.72, 0.55)
    return _grey(0.8 * terrain.paving + 1.5 * texture, 1.0, 1.0)


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _with_lines(terrain, x, side, across, paint):
    """Centre line, lane lines and edge lines; side is metres left of the centre line."""
    fine, offset = max(across, 0.02), abs(side)
    paint = mix(paint, 0.85 * _cover(offset - 0.14, fine), (214.0, 180.0, 60.0))
    share = 0.85 * _cover(offset - terrain.half_driven, fine)
    if 0.5 * terrain.lane < offset < terrain.half_driven - 0.5 * terrain.lane:
        nearest = offset - terrain.lane * np.floor(offset / terrain.lane + 0.5)
        share = 0.85 * _cover(nearest, fine) * _dash(x, 9.0, 3.5, across)
    return mix(paint, share, (226.0, 226.0, 222.0))


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _slabs(x, side, along, level):
    """Pavement with joints, which fade where a pixel is longer than a joint is wide."""
    joint = min(_modulo(x, _SLAB_M), _modulo(side, _SLAB_M))
    share = 0.3 * min(1.0, 0.05 / along) if joint < 0.06 + along else 0.0
    return _grey(level * (1.0 - share), 1.01, 0.96)


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _cover(distance, across):
    """How much of a pixel `across` metres wide a painted line covers."""
    inside = (0.5 * LINE_M - abs(distance)) / across + 0.5
    return min(1.0, max(0.0, inside)) * min(1.0, LINE_M / across)


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _dash(position, period, length, across):
    """1 on the dashes, their mean where a pixel is wider than half a period."""
    if across > 0.5 * period:
        return length / period
    return 1.0 if _modulo(position, period) < length else 0.0


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _modulo(value, period):
    """Like %, without its handling of signs and infinities: ten times as fast."""
    return value - period * np.floor(value / period)


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _grey(level, red, blue):
    """A tinted grey as RGB; red and blue are relative to green."""
    return level * red, level, level * blue


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def mix(start, share, end):
    """The RGB that lies a share of the way from one colour to another."""
    return (
        start[0] + share * (end[0] - start[0]),
        start[1] + share * (end[1] - start[1]),
        start[2] + share * (end[2] - start[2]),
    )


@numba.njit(cache=True)
@no_type_check
def ray_depths(terrain, position, rays):
    """Multiples of each ray (n, 3) from one position at which it meets the ground; < 0: never."""
    above = position[2] - height_at(terrain, position[0], position[1])
    depths = np.empty(len(rays))
    for i in range(len(rays)):
        depths[i] = ray_depth(terrain, above, position[0], (rays[i, 0], rays[i, 1], rays[i, 2]))
    return depths
