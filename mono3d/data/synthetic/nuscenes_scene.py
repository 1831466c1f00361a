"""One world written as one nuScenes scene: pictures, sweeps, a map mask, and rows for the tables.

nuScenes' global frame is the world frame turned by an angle of the scene's own and moved so that
the map mask starts at the origin. Boxes are (width, length, height) with unit quaternions.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mono3d.data.synthetic.lidar import Sweep, scan
from mono3d.data.synthetic.nuscenes_map import MAP_M, write_map_mask
from mono3d.data.synthetic.nuscenes_rig import LIDAR_CHANNEL
from mono3d.data.synthetic.nuscenes_tables import TABLE_NAMES, Row, Tables, token, visibility_token
from mono3d.data.synthetic.render import Picture, render_cameras
from mono3d.data.synthetic.rig import Sensor, rotation_ypr
from mono3d.data.synthetic.shading import SAMPLES
from mono3d.data.synthetic.visibility import visible_shares
from mono3d.data.synthetic.world import Snapshot, World

_EPOCH_US = 1_600_000_000_000_000
_SCENE_US = 60_000_000
_MAX_LABEL_M = 60.0
_MIN_SEEN_PX = 4
_JPEG_QUALITY = 92


@dataclass(frozen=True, kw_only=True)
class SceneName:
    """What a scene is called.

    Attributes:
        name: Unique within the data set.
        index: Number within the data set; decides the time of day of its first sample.
        version: Version folder of the data set.
    """

    name: str
    index: int
    version: str

    def token(self, *parts: object) -> str:
        """A token of this scene's."""
        return token(self.version, self.name, *parts)


def write_scene(
    root: Path,
    scene: SceneName,
    world: World,
    image_size: tuple[int, int],
    rng: np.random.Generator,
) -> Tables:
    """Write the blobs of one scene and return its rows.

    Args:
        root: The data set's folder.
        scene: Its name.
        world: What to record.
        image_size: Width and height of the pictures; those that the world's rig was built for.
        rng: Draws the scene's heading and the LiDAR's noise.

    Returns:
        Rows of all tables; empty lists for those that scenes share.
    """
    recorder = _Recorder(root, scene, world, image_size, float(rng.uniform(-np.pi, np.pi)))
    for index, time_s in enumerate(world.times_s.tolist()):
        snapshot = world.snapshot(time_s)
        pictures = render_cameras(world, snapshot, image_size)
        recorder.add_sample(index, snapshot, pictures, scan(world, snapshot, rng))
    return recorder.finish()


class _Recorder:
    """Collects the rows of a scene, sample by sample."""

    def __init__(
        self,
        root: Path,
        scene: SceneName,
        world: World,
        image_size: tuple[int, int],
        heading: float,
    ) -> None:
        self._root, self._scene, self._world, self._image_size = root, scene, world, image_size
        self._global_from_world = np.eye(4)
        self._global_from_world[:3, :3] = rotation_ypr(heading, 0.0, 0.0)
        self._global_from_world[:2, 3] = MAP_M / 2
        self._heading = heading
        self._rows: Tables = {name: [] for name in TABLE_NAMES}
        self._sensors = [*world.rig.cameras, world.rig.lidar]
        self._rows["calibrated_sensor"] = [self._calibration(sensor) for sensor in self._sensors]

    def add_sample(
        self, index: int, snapshot: Snapshot, pictures: dict[str, Picture], sweep: Sweep
    ) -> None:
        """Write the blobs of a keyframe and add its rows."""
        self._rows["sample"].append(
            {
                "token": self._scene.token("sample", index),
                "timestamp": self._timestamp(index),
                "prev": "",
                "next": "",
                "scene_token": self._scene.token("scene"),
            }
        )
        for sensor in self._sensors:
            self._add_blob(index, sensor.channel, snapshot)
        for channel, picture in pictures.items():
            path = self._root / self._filename(index, channel)
            quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
            path.write_bytes(cv2.imencode(".jpg", picture.image, quality)[1].tobytes())
        sweep.points.tofile(self._root / self._filename(index, LIDAR_CHANNEL))
        shares = visible_shares(self._world, snapshot, pictures, self._image_size)
        seen = np.sum([picture.seen for picture in pictures.values()], axis=0)[1:]
        num_points = np.bincount(sweep.owners, minlength=len(self._world.objects) + 1)[1:]
        distances = np.linalg.norm(snapshot.centers[:, :2] - snapshot.world_from_ego[:2, 3], axis=1)
        is_noticed = (seen >= _MIN_SEEN_PX * SAMPLES**2) | (num_points > 0)
        for i in np.flatnonzero(is_noticed & (distances < _MAX_LABEL_M)).tolist():
            self._add_label(index, i, snapshot, float(shares[i]), int(num_points[i]))

    def finish(self) -> Tables:
        """Add the rows of the scene itself, link neighbours, and draw the map."""
        scene, rows = self._scene, self._rows
        map_name = f"maps/{scene.token('map')}.png"
        write_map_mask(self._root / map_name, self._world.street.terrain, self._global_from_world)
        rows["log"] = [
            {
                "token": scene.token("log"),
                "logfile": scene.name,
                "vehicle": "synthetic",
                "date_captured": "2020-09-13",
                "location": scene.name,
            }
        ]
        rows["map"] = [
            {
                "token": scene.token("map"),
                "log_tokens": [scene.token("log")],
                "category": "semantic_prior",
                "filename": map_name,
            }
        ]
        rows["scene"] = [
            {
                "token": scene.token("scene"),
                "log_token": scene.token("log"),
                "nbr_samples": len(rows["sample"]),
                "first_sample_token": rows["sample"][0]["token"],
                "last_sample_token": rows["sample"][-1]["token"],
                "name": scene.name,
                "description": f"Synthetic street, {len(self._world.objects)} objects",
            }
        ]
        _link(rows["sample"], "scene_token")
        _link(rows["sample_data"], "calibrated_sensor_token")
        _link(rows["sample_annotation"], "instance_token")
        rows["instance"] = self._instances()
        return rows

    def _timestamp(self, index: int) -> int:
        since_start = float(self._world.times_s[index] - self._world.times_s[0])
        return _EPOCH_US + self._scene.index * _SCENE_US + round(since_start * 1e6)

    def _filename(self, index: int, channel: str) -> str:
        ending = "pcd.bin" if channel == LIDAR_CHANNEL else "jpg"
        stem = f"{self._scene.name}__{channel}__{self._timestamp(index)}"
        return f"samples/{channel}/{stem}.{ending}"

    def _calibration(self, sensor: Sensor) -> Row:
        intrinsic = [] if sensor.intrinsic is None else sensor.intrinsic.tolist()
        return {
            "token": self._scene.token("calibrated_sensor", sensor.channel),
            "sensor_token": token("sensor", sensor.channel),
            "translation": sensor.translation.tolist(),
            "rotation": _quaternion(sensor.rotation),
            "camera_intrinsic": intrinsic,
        }

    def _add_blob(self, index: int, channel: str, snapshot: Snapshot) -> None:
        """A sensor's file at a keyframe, and the pose of the car at that time."""
        is_camera = channel != LIDAR_CHANNEL
        width, height = self._image_size if is_camera else (0, 0)
        pose = self._global_from_world @ snapshot.world_from_ego
        blob_token = self._scene.token("sample_data", index, channel)
        self._rows["ego_pose"].append(
            {
                "token": blob_token,
                "timestamp": self._timestamp(index),
                "rotation": _quaternion(pose[:3, :3]),
                "translation": pose[:3, 3].tolist(),
            }
        )
        self._rows["sample_data"].append(
            {
                "token": blob_token,
                "sample_token": self._scene.token("sample", index),
                "ego_pose_token": blob_token,
                "calibrated_sensor_token": self._scene.token("calibrated_sensor", channel),
                "timestamp": self._timestamp(index),
                "fileformat": "jpg" if is_camera else "pcd",
                "is_key_frame": True,
                "height": height,
                "width": width,
                "filename": self._filename(index, channel),
                "prev": "",
                "next": "",
            }
        )

    def _add_label(
        self, index: int, i: int, snapshot: Snapshot, visible_share: float, num_points: int
    ) -> None:
        thing = self._world.objects[i]
        length, width, height = thing.size_lwh
        center = self._global_from_world[:3, :3] @ snapshot.centers[i]
        center = center + self._global_from_world[:3, 3]
        half_turn = (self._heading + float(snapshot.yaws[i])) / 2
        attributes = [token("attribute", thing.attribute)] if thing.attribute else []
        self._rows["sample_annotation"].append(
            {
                "token": self._scene.token("sample_annotation", index, i),
                "sample_token": self._scene.token("sample", index),
                "instance_token": self._scene.token("instance", i),
                "visibility_token": visibility_token(visible_share),
                "attribute_tokens": attributes,
                "translation": [round(value, 4) for value in center.tolist()],
                "size": [width, length, height],
                "rotation": [float(np.cos(half_turn)), 0.0, 0.0, float(np.sin(half_turn))],
                "prev": "",
                "next": "",
                "num_lidar_pts": num_points,
                "num_radar_pts": 0,
            }
        )

    def _instances(self) -> list[Row]:
        """One row for each object that has a label anywhere in the scene."""
        labels: dict[str, list[str]] = {}
        for row in self._rows["sample_annotation"]:
            labels.setdefault(row["instance_token"], []).append(row["token"])
        names = {
            self._scene.token("instance", i): thing.kind.category
            for i, thing in enumerate(self._world.objects)
        }
        return [
            {
                "token": instance,
                "category_token": token("category", names[instance]),
                "nbr_annotations": len(tokens),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
            for instance, tokens in labels.items()
        ]


def _link(rows: list[Row], group: str) -> None:
    """Set prev and next of rows that have the same value in `group`, in their order."""
    last: dict[str, Row] = {}
    for row in rows:
        before = last.get(row[group])
        if before is not None:
            row["prev"], before["next"] = before["token"], row["token"]
        last[row[group]] = row


def _quaternion(rotation: Float[NDArray[np.float64], "3 3"]) -> list[float]:
    """(w, x, y, z), as nuScenes has it."""
    x, y, z, w = Rotation.from_matrix(rotation).as_quat().tolist()
    return [w, x, y, z]
