"""Annotated boxes of nuScenes tables as columns, in the global frame."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64

from mono3d.codec.nuscenes_names import ATTRIBUTES
from mono3d.data.nuscenes_sensors import rotation_matrices
from mono3d.errors import DataError
from mono3d.geometry.boxes import corners_cam, hull_2d

if TYPE_CHECKING:
    from nuscenes import NuScenes

_CHUNK = 50_000
_VISIBILITY_LEVEL = re.compile(r"v(\d+)-(\d+)")


class ObjectRow(NamedTuple):
    """One annotation."""

    token: str
    sample: int
    position: Sequence[float]
    rotation_wxyz: Sequence[float]
    size_wlh: Sequence[float]
    velocity: Sequence[float]
    category: int
    attribute: int
    object_id: int
    num_points: int
    visibility: float


def object_rows(nusc: "NuScenes") -> list[ObjectRow]:
    """All annotations, sample by sample."""
    read = _ObjectReader(nusc)
    return [
        read.row(sample, number, token)
        for sample, record in enumerate(nusc.sample)
        for number, token in enumerate(record["anns"])
    ]


class _ObjectReader:
    """Translates tokens of categories, attributes and visibility levels into numbers."""

    def __init__(self, nusc: "NuScenes") -> None:
        self._nusc = nusc
        self._categories = {row["name"]: number for number, row in enumerate(nusc.category)}
        self._attributes = {
            row["token"]: ATTRIBUTES.index(row["name"])
            for row in nusc.attribute
            if row["name"] in ATTRIBUTES
        }
        self._visibility = {row["token"]: _visible_share(row["level"]) for row in nusc.visibility}

    def row(self, sample: int, number: int, token: str) -> ObjectRow:
        """One annotation."""
        record = self._nusc.get("sample_annotation", token)
        known = [self._attributes[t] for t in record["attribute_tokens"] if t in self._attributes]
        return ObjectRow(
            token=token,
            sample=sample,
            position=record["translation"],
            rotation_wxyz=record["rotation"],
            size_wlh=record["size"],
            velocity=self._nusc.box_velocity(token).tolist(),
            category=self._categories[record["category_name"]],
            attribute=known[0] if known else -1,
            object_id=number,
            num_points=record["num_lidar_pts"],
            visibility=self._visibility.get(record["visibility_token"], np.nan),
        )


def _visible_share(level: str) -> float:
    """Middle of a bin such as v40-60, as a share."""
    match = _VISIBILITY_LEVEL.fullmatch(level)
    return (int(match[1]) + int(match[2])) / 200 if match else np.nan


def check_objects(rows: Sequence[ObjectRow], path: Path) -> None:
    """Raise unless every box has a size and a place.

    Raises:
        DataError: Naming the first bad annotation.
    """
    numbers = np.array([(*row.size_wlh, *row.position) for row in rows]).reshape(-1, 6)
    is_good = np.isfinite(numbers).all(1) & (numbers[:, :3] > 0).all(1)
    if not is_good.all():
        row = rows[int(is_good.argmin())]
        raise DataError(
            f"{path}: annotation {row.token}: size {list(row.size_wlh)} at {list(row.position)}: "
            "sizes must be > 0 and all numbers finite"
        )


def object_columns(rows: Sequence[ObjectRow]) -> dict[str, np.ndarray]:
    """Columns of an index, one row an object."""
    table: dict[str, tuple[object, ...]] = dict(
        zip(ObjectRow._fields, zip(*rows, strict=True), strict=False)
    )
    sizes_wlh = _matrix(table.get("size_wlh"), 3)
    rotations = rotation_matrices(_matrix(table.get("rotation_wxyz"), 4))
    return {
        "centers": _matrix(table.get("position"), 3),
        "forward": rotations[:, :, 0].astype(np.float32),
        "velocity": _matrix(table.get("velocity"), 3).astype(np.float32),
        "dims_hwl": sizes_wlh[:, [2, 0, 1]].astype(np.float32),
        "categories": np.array(table.get("category", ()), np.int16),
        "attributes": np.array(table.get("attribute", ()), np.int8),
        "object_ids": np.array(table.get("object_id", ()), np.int16),
        "num_points": np.array(table.get("num_points", ()), np.int32),
        "visibility": np.array(table.get("visibility", ()), np.float32),
    }


def _matrix(values: object, width: int) -> Float64[np.ndarray, "n width"]:
    return np.array(values or (), dtype=np.float64).reshape(-1, width)


def rigid_inverse(pose: Float64[np.ndarray, "*n 4 4"]) -> Float64[np.ndarray, "*n 4 4"]:
    """Inverse of poses; numpy's own wakes a pool of threads for each 4x4 matrix."""
    inverse = np.zeros_like(pose)
    inverse[..., :3, :3] = np.swapaxes(pose[..., :3, :3], -1, -2)
    inverse[..., :3, 3] = -np.einsum("...ij,...i->...j", pose[..., :3, :3], pose[..., :3, 3])
    inverse[..., 3, 3] = 1.0
    return inverse


def boxes_in_camera(
    centers: Float64[np.ndarray, "n 3"],
    forward: Float32[np.ndarray, "n 3"],
    global_from_cam: Float64[np.ndarray, "*n 4 4"],
) -> tuple[Float32[np.ndarray, "n 3"], Float32[np.ndarray, " n"]]:
    """Centres and yaw of global boxes in a camera frame; one pose for all, or one each.

    The yaw is that of the forward axis projected on the camera's ground plane.
    """
    rotation, position = global_from_cam[..., :3, :3], global_from_cam[..., :3, 3]
    moved = np.einsum("...ij,...i->...j", rotation, centers - position)
    turned = np.einsum("...ij,...i->...j", rotation, forward)
    yaw = np.arctan2(-turned[:, 2], turned[:, 0])
    return moved.astype(np.float32), yaw.astype(np.float32)


def is_in_image(
    objects: Mapping[str, np.ndarray],
    views: Mapping[str, np.ndarray],
    sample_of_object: Int64[np.ndarray, " n"],
) -> Bool[np.ndarray, "n c"]:
    """Whether each object's projected hull meets the image of each camera of its sample."""
    sizes = views["image_sizes"][sample_of_object]
    met = np.zeros(sizes.shape[:2], dtype=bool)
    for camera in range(met.shape[1]):
        for size in np.unique(sizes[:, camera], axis=0):
            rows = np.flatnonzero((sizes[:, camera] == size).all(1))
            for chunk in np.array_split(rows, len(rows) // _CHUNK + 1):
                boxes = {name: column[chunk] for name, column in objects.items()}
                at = (sample_of_object[chunk], camera)
                from_camera = views["global_from_cam"][at], views["intrinsics"][at]
                met[chunk, camera] = _meets_image(
                    boxes, *from_camera, image_size=(int(size[0]), int(size[1]))
                )
    return met


def _meets_image(
    boxes: Mapping[str, np.ndarray],
    global_from_cam: Float64[np.ndarray, "n 4 4"],
    intrinsics: Float64[np.ndarray, "n 3 3"],
    image_size: tuple[int, int],
) -> Bool[np.ndarray, " n"]:
    centers, yaw = boxes_in_camera(boxes["centers"], boxes["forward"], global_from_cam)
    placed = (torch.from_numpy(values) for values in (centers, boxes["dims_hwl"], yaw))
    corners = corners_cam(*placed)
    projection = torch.nn.functional.pad(torch.from_numpy(intrinsics).float(), (0, 1))
    met: np.ndarray = hull_2d(corners, projection, image_size)[1].numpy()
    return met
