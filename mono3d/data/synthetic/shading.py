"""From buffers to a picture: sky and ground behind, light, fog and noise. Compiled by numba.

Silhouettes are antialiased by SAMPLES x SAMPLES samples a pixel, painted lines by the share of
the pixel that they cover.
"""

from typing import NamedTuple, no_type_check

import numba
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from mono3d.data.synthetic.terrain import (
    Terrain,
    ground_color,
    height_at,
    mix,
    noise_at,
    ray_depth,
)

SAMPLES = 2
"""Samples a pixel in each direction."""
_HORIZON_M = 260.0

Triple = tuple[float, float, float]


class Light(NamedTuple):
    """Light of a scene; colours are RGB, 0 to 255. Tuples, since arrays are slow to pass around.

    Attributes:
        sun: Unit vector to the sun in the world.
        direct: What the sun adds where it shines, a factor for each colour.
        ambient: Light from everywhere, a factor for each colour.
        horizon: Colour of the sky at the horizon, and of the fog.
        zenith: Colour of the sky above.
        cloud: Colour of clouds.
        fog_m: Distance at which fog takes half.
        grain: Amplitude of sensor noise, grey levels.
    """

    sun: Triple
    direct: Triple
    ambient: Triple
    horizon: Triple
    zenith: Triple
    cloud: Triple
    fog_m: float
    grain: float


class ShadowMap(NamedTuple):
    """Darkness of the ground seen from above, 0 to 1, in square cells.

    Attributes:
        cells: Row j is y, column i is x.
        cell_m: Side of a cell.
        corner_x: World x of the first cell's outer corner.
        corner_y: World y of it.
    """

    cells: Float[NDArray[np.float32], "rows columns"]
    cell_m: float
    corner_x: float
    corner_y: float


class Backdrop(NamedTuple):
    """What lies behind all quads, and the light on everything.

    Attributes:
        terrain: The ground.
        light: The light.
        shadow: Where the ground is dark.
        noise: Tileable value noise, the texture of everything.
    """

    terrain: Terrain
    light: Light
    shadow: ShadowMap
    noise: Float[NDArray[np.float32], "size size"]


@numba.njit(cache=True, fastmath=True, error_model="numpy")
@no_type_check
def shade(camera, backdrop, buffers, colors, image):
    """Colour of every pixel: the mean of its samples, with fog and sensor noise.

    Args:
        camera: The Pinhole, in pixels.
        backdrop: The Backdrop.
        buffers: Filled Buffers, SAMPLES times as high and wide as the picture.
        colors: Lit RGB of each quad, (f, 3).
        image: uint8 BGR, (h, w, 3); written.
    """
    height, width, _ = image.shape
    terrain, light, noise = backdrop.terrain, backdrop.light, backdrop.noise
    faces, inverse_depth = buffers.faces, buffers.inverse_depth
    x, y, z = camera.position[0], camera.position[1], camera.position[2]
    above = z - height_at(terrain, x, y)
    mask = noise.shape[0] - 1
    # Sensor noise: jumps through the tile, so that its blobs do not show, from a start that is
    # another one in each picture.
    start_i, start_j = int(1e3 * x), int(1e3 * y)
    step = _ray_step(camera)
    for row in range(height):
        start = _first_ray(camera, row)
        for column in range(width):
            num_open, red, green, blue = _sum_samples(
                row, column, faces, inverse_depth, colors, light
            )
            if num_open > 0:
                ray = (
                    start[0] + column * step[0],
                    start[1] + column * step[1],
                    start[2] + column * step[2],
                )
                depth = ray_depth(terrain, above, x, ray)
                if 0.0 < depth < _HORIZON_M:
                    u, v, across = x + depth * ray[0], y + depth * ray[1], depth / camera.fx
                    paint = ground_color(terrain, noise, u, v, across, across * depth / above)
                    dark = _shadow_at(u, v, backdrop.shadow)
                    behind = _lit_ground(paint, depth, dark, light)
                else:
                    behind = _sky_color(ray, light, noise)
                red += num_open * behind[0]
                green += num_open * behind[1]
                blue += num_open * behind[2]
            i, j = (157 * row + start_i) & mask, (99 * column + start_j) & mask
            speck = 0.5 + light.grain * noise[i, j]
            image[row, column, 0] = _to_byte(blue, speck)
            image[row, column, 1] = _to_byte(green, speck)
            image[row, column, 2] = _to_byte(red, speck)


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _to_byte(total, speck):
    """Mean of the samples of a pixel, with noise, within the range of a byte."""
    return int(min(255.0, max(0.0, total / (SAMPLES * SAMPLES) + speck)))


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _sum_samples(row, column, faces, inverse_depth, colors, light):
    """How many samples of a pixel show no quad, and the summed RGB of the others."""
    num_open, red, green, blue = 0, 0.0, 0.0, 0.0
    top, left = row * SAMPLES, column * SAMPLES
    # One fog for the pixel: its samples are about as far away as its nearest one.
    near = 0.0
    for i in range(top, top + SAMPLES):
        for j in range(left, left + SAMPLES):
            face = faces[i, j]
            if face < 0:
                num_open += 1
                continue
            near = max(near, inverse_depth[i, j])
            red += colors[face, 0]
            green += colors[face, 1]
            blue += colors[face, 2]
    num_hit = SAMPLES * SAMPLES - num_open
    if num_hit > 0:
        clear = _clearness(1.0 / near, light.fog_m)
        veil = num_hit * (1.0 - clear)
        red = clear * red + veil * light.horizon[0]
        green = clear * green + veil * light.horizon[1]
        blue = clear * blue + veil * light.horizon[2]
    return num_open, red, green, blue


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _clearness(depth, fog_m):
    """How much of a thing's own colour comes through the fog."""
    return 1.0 / (1.0 + (depth / fog_m) ** 2)


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _first_ray(camera, row):
    """Direction in the world of the ray through a row's first pixel's centre; one metre deep."""
    right = (0.5 - camera.cx) / camera.fx
    down = (row + 0.5 - camera.cy) / camera.fy
    turn = camera.rotation
    return (
        turn[0, 0] * right + turn[1, 0] * down + turn[2, 0],
        turn[0, 1] * right + turn[1, 1] * down + turn[2, 1],
        turn[0, 2] * right + turn[1, 2] * down + turn[2, 2],
    )


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _ray_step(camera):
    """From the ray of one pixel to that of the next one in the row."""
    turn = camera.rotation
    return turn[0, 0] / camera.fx, turn[0, 1] / camera.fx, turn[0, 2] / camera.fx


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _lit_ground(paint, depth, dark, light):
    """Light, shadow and fog on a colour of the ground."""
    clear, flat = _clearness(depth, light.fog_m), light.sun[2]
    red = paint[0] * (light.ambient[0] + light.direct[0] * flat) * (1.0 - dark)
    green = paint[1] * (light.ambient[1] + light.direct[1] * flat) * (1.0 - dark)
    blue = paint[2] * (light.ambient[2] + light.direct[2] * flat) * (1.0 - dark)
    return mix(light.horizon, clear, (red, green, blue))


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _shadow_at(x, y, shadow):
    """Bilinear look-up in the shadow map; 0 outside."""
    cells = shadow.cells
    u = (x - shadow.corner_x) / shadow.cell_m - 0.5
    v = (y - shadow.corner_y) / shadow.cell_m - 0.5
    i, j = int(np.floor(u)), int(np.floor(v))
    if i < 0 or j < 0 or i + 1 >= cells.shape[1] or j + 1 >= cells.shape[0]:
        return 0.0
    p, q = u - i, v - j
    upper = cells[j, i] * (1 - p) + cells[j, i + 1] * p
    lower = cells[j + 1, i] * (1 - p) + cells[j + 1, i + 1] * p
    return upper * (1 - q) + lower * q


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _sky_color(ray, light, noise):
    """A gradient from the horizon to the zenith, below a flat layer of clouds."""
    up = max(0.02, ray[2] / np.sqrt(ray[0] * ray[0] + ray[1] * ray[1]))
    sky = mix(light.horizon, min(1.0, 1.8 * up), light.zenith)
    scale = 5.0 / max(ray[2], 0.02)
    shade = _smooth_noise(noise, scale * ray[0], scale * ray[1])
    cover = min(1.0, max(0.0, 3.0 * shade)) * min(1.0, 5.0 * up)
    return mix(sky, 0.7 * cover, light.cloud)


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
@no_type_check
def _smooth_noise(noise, u, v):
    """The noise tile between its grid points."""
    p, q = u - np.floor(u), v - np.floor(v)
    upper = noise_at(noise, u, v) * (1 - p) + noise_at(noise, u + 1, v) * p
    lower = noise_at(noise, u, v + 1) * (1 - p) + noise_at(noise, u + 1, v + 1) * p
    return upper * (1 - q) + lower * q
