"""What KITTI's annotators would have written about a picture of a world.

Measured on KITTI's own training labels: a rectangle surrounds the part of the projected 3D box that
lies inside the image, up to the centres of its outermost pixels; and truncation is the share of the
whole projection's rectangle that is outside of that one, for boxes that cross the camera plane too.
Occlusion is a word there; its levels here are shares that are seen. Regions named DontCare hold
objects that one sees and cannot label: too small, too far for the LiDAR, or all but hidden.
"""

from dataclasses import dataclass

import numpy as np
import shapely
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from torch import Tensor

from mono3d.data.kitti_format import DONT_CARE
from mono3d.data.synthetic.catalogue import ClassName
from mono3d.data.synthetic.layout import WorldObject
from mono3d.data.synthetic.render import Picture
from mono3d.data.synthetic.shading import SAMPLES
from mono3d.data.synthetic.world import Snapshot, World
from mono3d.geometry.angles import alpha_from_yaw
from mono3d.geometry.boxes import (
    BOX_EDGES,
    corners_bev,
    cut_at_camera_plane,
    yaw_cam_from_bev,
)
from mono3d.geometry.camera import MIN_DEPTH_M, project, transform_points

_TYPES: dict[ClassName, str] = {
    "car": "Car",
    "truck": "Truck",
    "pedestrian": "Pedestrian",
    "bus": "Misc",
    "trailer": "Misc",
    "construction_vehicle": "Misc",
}
"""KITTI has no buses; trailers are its own example of Misc."""
_MIN_VAN_HEIGHT_M = 1.95
"""One in a hundred of KITTI's cars is taller, and three of four of its vans."""
_MIN_SEEN_PX = 4
_MIN_SEEN_SHARE = 0.1
"""Of what lies in the picture: less than that shows nobody where the object ends."""
_MIN_HEIGHT_SHARE = 0.04
"""Of the image's height: 15 of 375 pixels, less than which one in a hundred of KITTI's cars has."""
_MAX_DEPTH_M = 80.0
_SEEN_OF_LEVELS = (0.8, 0.4)
"""Least share seen of what is fully visible, and of what is partly occluded; halfway between those
that `visibility_of` reads from the levels."""
_UNKNOWN_LEVEL = 3
_JUDGED_TRUNCATION = 0.8
"""Beyond it too little lies in the picture to say how much of the object is hidden."""
_NO_OBJECT = "-1 -1 -1 -1000 -1000 -1000 -10"


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """The objects that are to be labelled or fenced in, one a row.

    Attributes:
        types: KITTI's.
        visible: Share of what lies in the picture that is seen.
        truncated: Share of the rectangle that lies outside the picture.
        rectangles: Left, top, right and bottom of the projected boxes inside the picture.
        regions: The same of what is seen of the objects.
        dims_hwl: Metres.
        centers: Geometric centres in the camera frame.
        yaw: rotation_y.
    """

    types: tuple[str, ...]
    visible: Float[NDArray[np.float64], " n"]
    truncated: Float[NDArray[np.float64], " n"]
    rectangles: Float[NDArray[np.float64], "n 4"]
    regions: Float[NDArray[np.float64], "n 4"]
    dims_hwl: Float[Tensor, "n 3"]
    centers: Float[Tensor, "n 3"]
    yaw: Float[Tensor, " n"]


def kitti_type(thing: WorldObject) -> str | None:
    """KITTI's type of an object; None for what it does not label."""
    match thing.kind.motion:
        case "none":
            return None
        case "cycle":
            return "Cyclist" if thing.attribute == "cycle.with_rider" else "Misc"
        case _ if thing.kind.name == "car" and thing.size_lwh[2] >= _MIN_VAN_HEIGHT_M:
            return "Van"
        case _:
            return _TYPES[thing.kind.name]


def label_lines(
    world: World,
    snapshot: Snapshot,
    picture: Picture,
    *,
    projection: Float[NDArray[np.float64], "3 4"],
    cam_from_ego: Float[NDArray[np.float64], "4 4"],
) -> list[str]:
    """Lines of a label file: objects in the order of the world, then regions.

    Args:
        world: The scene.
        snapshot: The moment that was rendered.
        picture: The picture.
        projection: P2.
        cam_from_ego: To the rectified camera frame.
    """
    cam_from_world = cam_from_ego @ np.linalg.inv(snapshot.world_from_ego)
    seen = _look(world, snapshot, picture, projection, cam_from_world)
    heights, depth = np.diff(seen.rectangles[:, 1::2])[:, 0], seen.centers[:, 2].numpy()
    is_clear = seen.visible >= _MIN_SEEN_SHARE
    is_clear &= heights >= _MIN_HEIGHT_SHARE * picture.image.shape[0]
    is_object = (is_clear & (depth > MIN_DEPTH_M) & (depth < _MAX_DEPTH_M)).tolist()
    objects, regions = _object_lines(seen), _region_lines(seen)
    return [
        *(line for line, is_labelled in zip(objects, is_object, strict=True) if is_labelled),
        *(line for line, is_labelled in zip(regions, is_object, strict=True) if not is_labelled),
    ]


def image_rectangles(
    corners: Float[Tensor, "n 8 3"], projection: Float[Tensor, "3 4"], image_size: tuple[int, int]
) -> tuple[Float[NDArray[np.float64], "n 4"], Float[NDArray[np.float64], "n 4"]]:
    """Rectangles around projected boxes, and around what of the projections is in the image.

    Args:
        corners: From `corners_cam`, of boxes that lie before the camera at least in part.
        projection: P2.
        image_size: Height and width in pixels.

    Returns:
        Left, top, right and bottom: of all that lies before the camera plane, however far out; and
        of its part in the image, NaN where there is none.
    """
    edges, is_before = cut_at_camera_plane(corners[:, torch.tensor(BOX_EDGES)])
    pixels = project(edges, projection).numpy()
    owners = np.broadcast_to(np.arange(len(corners))[:, None, None], pixels.shape[:3])
    kept = is_before.numpy()
    points = shapely.multipoints(pixels[kept].reshape(-1, 2), indices=owners[kept].ravel())
    outlines = shapely.convex_hull(points)
    height, width = image_size
    inside = shapely.intersection(outlines, shapely.box(0, 0, width - 1, height - 1))
    return shapely.bounds(outlines), shapely.bounds(inside)


def area(rectangles: Float[NDArray[np.float64], "n 4"]) -> Float[NDArray[np.float64], " n"]:
    """Areas of rectangles given by left, top, right and bottom."""
    areas: NDArray[np.float64] = (rectangles[:, 2:] - rectangles[:, :2]).prod(axis=1)
    return areas


def _look(
    world: World,
    snapshot: Snapshot,
    picture: Picture,
    projection: NDArray[np.float64],
    cam_from_world: NDArray[np.float64],
) -> _Seen:
    types = [kitti_type(thing) for thing in world.objects]
    regions = _regions(picture.object_ids, len(types))
    is_seen = (picture.seen[1:] >= _MIN_SEEN_PX * SAMPLES**2) & (area(regions) > 0)
    rows = [i for i, name in enumerate(types) if name is not None and is_seen[i]]
    sizes = torch.tensor([world.objects[i].size_lwh for i in rows], dtype=torch.float64)
    dims_hwl = sizes.reshape(-1, 3)[:, [2, 1, 0]]
    centers, yaws = torch.from_numpy(snapshot.centers[rows]), torch.from_numpy(snapshot.yaws[rows])
    cam = torch.from_numpy(cam_from_world)
    # Upright in the world, as the object stands; the label's box is upright in the camera frame.
    corners = transform_points(corners_bev(centers, dims_hwl, yaws), cam)
    height, width = picture.image.shape[:2]
    whole, inside = image_rectangles(corners, torch.from_numpy(projection), (height, width))
    return _Seen(
        types=tuple(name for i in rows if (name := types[i]) is not None),
        visible=picture.seen[1:][rows] / np.maximum(picture.alone[1:][rows], 1),
        truncated=1 - area(inside) / area(whole),
        rectangles=inside,
        regions=regions[rows],
        dims_hwl=dims_hwl,
        centers=transform_points(centers, cam),
        yaw=yaw_cam_from_bev(yaws, cam),
    )


def _regions(object_ids: Int[NDArray[np.int16], "hs ws"], count: int) -> NDArray[np.float64]:
    """Rectangle, in pixels, around the samples that show each object; 0 where there are none."""
    rectangles = np.zeros((count, 4))
    for i, found in enumerate(find_objects(object_ids, max_label=count)):
        if found is not None:
            rows, columns = found
            rectangles[i] = (columns.start, rows.start, columns.stop, rows.stop)
    # Samples count from the outer edge of the first pixel, labels from its centre.
    limit = np.array(object_ids.shape[::-1]) / SAMPLES - 1
    clipped: NDArray[np.float64] = np.clip(rectangles / SAMPLES - 0.5, 0.0, np.tile(limit, 2))
    return clipped


def _object_lines(seen: _Seen) -> list[str]:
    levels = np.searchsorted(-np.array(_SEEN_OF_LEVELS), -seen.visible)
    levels = np.where(seen.truncated > _JUDGED_TRUNCATION, _UNKNOWN_LEVEL, levels)
    bottoms = seen.centers.clone()
    bottoms[:, 1] += seen.dims_hwl[:, 0] / 2
    alpha = alpha_from_yaw(seen.yaw, seen.centers)
    numbers = np.column_stack([alpha, seen.rectangles, seen.dims_hwl, bottoms, seen.yaw])
    return [
        f"{name} {truncated:.2f} {level} {_decimals(row)}"
        for name, truncated, level, row in zip(
            seen.types, seen.truncated.tolist(), levels.tolist(), numbers.tolist(), strict=True
        )
    ]


def _region_lines(seen: _Seen) -> list[str]:
    return [f"{DONT_CARE} -1 -1 -10 {_decimals(row)} {_NO_OBJECT}" for row in seen.regions.tolist()]


def _decimals(values: list[float]) -> str:
    """Two decimals, as KITTI has them, and no negative zeros."""
    return " ".join(f"{round(value, 2) + 0.0:.2f}" for value in values)
