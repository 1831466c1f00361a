"""The map of a scene as nuScenes keeps it: a mask of streets and pavements seen from above."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from mono3d.data.synthetic.terrain import PAVEMENT_M, Terrain

MAP_M = 200.0
"""Side of the square map; its south-west corner is the origin of the global frame."""
_CELL_M = 0.1
"""Size of a cell, which nuscenes-devkit takes for granted."""


def write_map_mask(
    path: Path, terrain: Terrain, global_from_world: Float[NDArray[np.float64], "4 4"]
) -> None:
    """Write streets and pavements as 255 and the rest as 0, north up.

    Args:
        path: PNG file.
        terrain: The street.
        global_from_world: Pose of the world frame in nuScenes' global frame.
    """
    side = round(MAP_M / _CELL_M)
    mask = np.zeros((side, side), dtype=np.uint8)
    reach, end = terrain.half_road + PAVEMENT_M, MAP_M
    xs = np.linspace(-end, end, 100)
    left, right = (
        np.array([terrain.on_road(float(x), way * reach) for x in xs]) for way in (1, -1)
    )
    streets = [np.concatenate([left, right[::-1]])]
    if abs(terrain.cross_x) < end:
        west, east = (terrain.cross_x + s * (terrain.half_cross + PAVEMENT_M) for s in (-1, 1))
        streets.append(np.array([[west, -end], [east, -end], [east, end], [west, end]]))
    for outline in streets:
        cv2.fillPoly(mask, [_to_cells(outline, global_from_world)], 255)
    path.write_bytes(cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())


def _to_cells(
    points: NDArray[np.float64], global_from_world: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Cells (column, row) of world points; rows count down from the north."""
    turned = points @ global_from_world[:2, :2].T + global_from_world[:2, 3]
    turned[:, 1] = MAP_M - turned[:, 1]
    cells: NDArray[np.int32] = np.round(turned / _CELL_M).astype(np.int32)
    return cells
