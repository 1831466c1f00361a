"""Key frames of the sensors in nuScenes tables: files, calibrations and poses as columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped

from mono3d.errors import DataError

if TYPE_CHECKING:
    from nuscenes import NuScenes

_UNIT_QUATERNION = (1.0, 0.0, 0.0, 0.0)


def text(values: Sequence[str]) -> Shaped[np.ndarray, " r"]:
    """A column of fixed-width UTF-8."""
    return np.array([value.encode() for value in values] or [b""], dtype=np.bytes_)[: len(values)]


class _SensorRow(NamedTuple):
    """One key frame of one sensor; the defaults stand for a key frame that is not there."""

    token: str = ""
    file: str = ""
    size: tuple[int, int] = (0, 0)
    intrinsics: Sequence[Sequence[float]] = np.eye(3).tolist()
    ego_position: Sequence[float] = (0.0, 0.0, 0.0)
    ego_rotation: Sequence[float] = _UNIT_QUATERNION
    mount_position: Sequence[float] = (0.0, 0.0, 0.0)
    mount_rotation: Sequence[float] = _UNIT_QUATERNION


def _sensor_rows(nusc: "NuScenes", channel: str) -> list[_SensorRow]:
    return [_sensor_row(nusc, sample["data"].get(channel)) for sample in nusc.sample]


def _sensor_row(nusc: "NuScenes", token: str | None) -> _SensorRow:
    if token is None:
        return _SensorRow()
    record = nusc.get("sample_data", token)
    ego = nusc.get("ego_pose", record["ego_pose_token"])
    mount = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])
    return _SensorRow(
        token=token,
        file=record["filename"],
        size=(record["height"], record["width"]),
        intrinsics=mount["camera_intrinsic"],
        ego_position=ego["translation"],
        ego_rotation=ego["rotation"],
        mount_position=mount["translation"],
        mount_rotation=mount["rotation"],
    )


def camera_columns(nusc: "NuScenes", channels: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of an index with one row a sample and one entry a camera."""
    rows = [row for channel in channels for row in _sensor_rows(nusc, channel)]
    global_from_ego, ego_from_cam = _poses(rows)
    flat = {
        "camera_tokens": text([row.token for row in rows]),
        "camera_files": text([row.file for row in rows]),
        "image_sizes": np.array([row.size for row in rows], np.int32),
        "intrinsics": np.array([row.intrinsics for row in rows], np.float64),
        "global_from_cam": global_from_ego @ ego_from_cam,
    }
    by_channel = (len(channels), len(nusc.sample))
    return {
        name: np.ascontiguousarray(column.reshape(by_channel + column.shape[1:]).swapaxes(0, 1))
        for name, column in flat.items()
    }


def lidar_columns(nusc: "NuScenes") -> dict[str, np.ndarray]:
    """Columns of an index with one row a sample; the LiDAR's ego pose makes the bev frame.

    Raises:
        DataError: If a sample has no LIDAR_TOP key frame.
    """
    rows = _sensor_rows(nusc, "LIDAR_TOP")
    without = [sample["token"] for sample in nusc.sample if "LIDAR_TOP" not in sample["data"]]
    if without:
        raise DataError(f"sample {without[0]}: no LIDAR_TOP key frame, whose ego pose is needed")
    global_from_bev, bev_from_lidar = _poses(rows)
    files = text([row.file for row in rows])
    return {
        "global_from_bev": global_from_bev,
        "bev_from_lidar": bev_from_lidar,
        "lidar_files": files,
    }


def _poses(
    rows: Sequence[_SensorRow],
) -> tuple[Float64[np.ndarray, "r 4 4"], Float64[np.ndarray, "r 4 4"]]:
    """Global from ego, and ego from sensor."""
    ego = _rigid([row.ego_position for row in rows], [row.ego_rotation for row in rows])
    return ego, _rigid([row.mount_position for row in rows], [row.mount_rotation for row in rows])


def _rigid(
    positions: Sequence[Sequence[float]], rotations_wxyz: Sequence[Sequence[float]]
) -> Float64[np.ndarray, "r 4 4"]:
    transforms = np.tile(np.eye(4), (len(positions), 1, 1))
    transforms[:, :3, :3] = rotation_matrices(np.array(rotations_wxyz, dtype=np.float64))
    transforms[:, :3, 3] = positions
    return transforms


def rotation_matrices(wxyz: Float64[np.ndarray, "r 4"]) -> Float64[np.ndarray, "r 3 3"]:
    """Rotations of quaternions of any norm but zero."""
    from scipy.spatial.transform import Rotation  # not needed once the index exists

    if not len(wxyz):
        return np.zeros((0, 3, 3))
    matrices: np.ndarray = Rotation.from_quat(wxyz[:, [1, 2, 3, 0]]).as_matrix()
    return matrices
