"""A tiny genuine nuScenes folder: two scenes of two samples, six cameras, LiDAR, moving ego.

Every pose, calibration and box is drawn so that a wrong transform shows: the ego vehicle drives a
curve, each camera fires at its own time, and boxes stand all round it.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pyquaternion import Quaternion

from mono3d.data.nuscenes import NuScenesDataset

VERSION = "v1.0-tiny"
CLASSES = ("car", "pedestrian", "traffic_cone", "truck")
IMAGE_SIZE = (36, 64)
SAMPLE_INTERVAL_S = 0.5
SCENES = ("scene-a", "scene-b")
SPLITS = {"tiny_train": ["scene-a"], "tiny_val": ["scene-b"]}

TABLES = (
    *("category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor", "ego_pose"),
    *("log", "scene", "sample", "sample_data", "sample_annotation", "map"),
)
_CATEGORIES = (
    "vehicle.car",
    "human.pedestrian.adult",
    "movable_object.trafficcone",
    "vehicle.truck",
    "animal",
)
_ATTRIBUTES = {"vehicle.car": "vehicle.moving", "human.pedestrian.adult": "pedestrian.standing"}
_WLH = {
    "vehicle.car": (1.9, 4.6, 1.7),
    "human.pedestrian.adult": (0.7, 0.8, 1.8),
    "movable_object.trafficcone": (0.4, 0.4, 1.0),
    "vehicle.truck": (2.5, 7.0, 3.0),
    "animal": (0.4, 0.8, 0.6),
}
_CAMERA_YAWS_DEG = {
    "CAM_FRONT": 0,
    "CAM_FRONT_RIGHT": -55,
    "CAM_BACK_RIGHT": -110,
    "CAM_BACK": 180,
    "CAM_BACK_LEFT": 110,
    "CAM_FRONT_LEFT": 55,
}
_EGO_SPEED_MPS = 8.0
_EGO_YAW_RATE = 0.2
_OBJECTS_ROUND_EGO = 10
_LEVELS = ("v0-40", "v40-60", "v60-80", "v80-100")


def write_tables(root: Path, version: str = VERSION) -> Path:
    """Write the folder and return its root."""
    tables = _Tables()
    _write_static(tables)
    for number, scene in enumerate(SCENES):
        _write_scene(tables, root, number, scene)
    folder = root / version
    folder.mkdir(parents=True)
    for name, rows in tables.rows.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    (folder / "splits.json").write_text(json.dumps(SPLITS))
    (root / "maps").mkdir()
    cv2.imwrite(str(root / "maps" / "map.png"), np.zeros((4, 4), np.uint8))
    return root


def open_tiny(root: Path, cache: Path, **changes: Any) -> NuScenesDataset:
    """Every frame of the folder, or as `changes` say."""
    settings: dict[str, Any] = {"version": VERSION, "split": "all", "class_names": CLASSES}
    return NuScenesDataset(root, **settings | {"cache_dir": cache / "cache"} | changes)


def edit_table(root: Path, table: str, change: Any, version: str = VERSION) -> None:
    """Apply `change(rows)` to one table on disk."""
    path = root / version / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


def cut_short(path: Path) -> None:
    """Drop the last bytes of a file."""
    path.write_bytes(path.read_bytes()[:-7])


@dataclass
class _Tables:
    rows: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {name: [] for name in TABLES}
    )

    def add(self, table: str, token: str, **values: Any) -> str:
        self.rows[table].append({"token": token, **values})
        return token


def _write_static(tables: _Tables) -> None:
    for name in _CATEGORIES:
        tables.add("category", f"category-{name}", name=name, description="")
    for name in sorted(set(_ATTRIBUTES.values())):
        tables.add("attribute", f"attribute-{name}", name=name, description="")
    for number, level in enumerate(_LEVELS):
        tables.add("visibility", str(number + 1), level=level, description="")
    for channel in (*_CAMERA_YAWS_DEG, "LIDAR_TOP"):
        modality = "lidar" if channel == "LIDAR_TOP" else "camera"
        tables.add("sensor", f"sensor-{channel}", channel=channel, modality=modality)
    tables.add("map", "map", log_tokens=["log"], category="semantic_prior", filename="maps/map.png")
    tables.add("log", "log", logfile="log", vehicle="v", date_captured="", location="nowhere")


def _calibration(channel: str) -> tuple[list[float], Quaternion, list[list[float]]]:
    if channel == "LIDAR_TOP":
        return [0.9, 0.0, 1.84], Quaternion(axis=[0, 0, 1], degrees=-90), []
    yaw = Quaternion(axis=[0, 0, 1], degrees=_CAMERA_YAWS_DEG[channel])
    axes = Quaternion(matrix=np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]))
    pitch = Quaternion(axis=[1, 0, 0], degrees=1.0)
    focal = 32.0 if channel == "CAM_BACK" else 50.0
    intrinsics = [[focal, 0.0, 32.0], [0.0, focal, 18.0], [0.0, 0.0, 1.0]]
    mounted = yaw.rotate(np.array([1.0, 0.0, 0.0])) + np.array([0.5, 0.0, 1.5])
    return mounted.tolist(), yaw * axes * pitch, intrinsics


def _ego_at(scene: int, seconds: float) -> tuple[np.ndarray, Quaternion]:
    """Position and attitude on a circle, slightly rolled so that ego and world do not coincide."""
    angle = 0.3 + scene + _EGO_YAW_RATE * seconds
    radius = _EGO_SPEED_MPS / _EGO_YAW_RATE
    position = np.array([600.0 + radius * math.sin(angle), 1600.0 - radius * math.cos(angle), 0.0])
    roll = Quaternion(axis=[1, 0, 0], degrees=0.5)
    return position, Quaternion(axis=[0, 0, 1], radians=angle) * roll


def _write_scene(tables: _Tables, root: Path, number: int, scene: str) -> None:
    times = [0.0, SAMPLE_INTERVAL_S]
    samples = [f"{scene}-sample-{i}" for i in range(len(times))]
    tables.add(
        "scene",
        f"token-{scene}",
        name=scene,
        log_token="log",
        nbr_samples=len(samples),
        first_sample_token=samples[0],
        last_sample_token=samples[-1],
        description="",
    )
    for channel in (*_CAMERA_YAWS_DEG, "LIDAR_TOP"):
        translation, rotation, intrinsics = _calibration(channel)
        tables.add(
            "calibrated_sensor",
            f"{scene}-{channel}",
            sensor_token=f"sensor-{channel}",
            translation=translation,
            rotation=rotation.elements.tolist(),
            camera_intrinsic=intrinsics,
        )
    for i, (sample, seconds) in enumerate(zip(samples, times, strict=True)):
        links = {"prev": samples[0] if i else "", "next": "" if i else samples[1]}
        stamp = int(seconds * 1e6)
        tables.add("sample", sample, timestamp=stamp, scene_token=f"token-{scene}", **links)
        for delay, channel in enumerate((*_CAMERA_YAWS_DEG, "LIDAR_TOP")):
            moment = seconds - 0.01 * (6 - delay)
            _write_sensor(tables, root, scene=number, sample=sample, channel=channel, at=moment)
    _write_objects(tables, number, scene, samples, times)


def _write_sensor(
    tables: _Tables, root: Path, *, scene: int, sample: str, channel: str, at: float
) -> None:
    position, rotation = _ego_at(scene, at)
    token = f"{sample}-{channel}"
    stamp = int(at * 1e6)
    tables.add(
        "ego_pose",
        token,
        timestamp=stamp,
        translation=position.tolist(),
        rotation=rotation.elements.tolist(),
    )
    suffix = "pcd.bin" if channel == "LIDAR_TOP" else "jpg"
    name = f"samples/{channel}/{sample}__{channel}.{suffix}"
    height, width = (0, 0) if channel == "LIDAR_TOP" else IMAGE_SIZE
    tables.add(
        "sample_data",
        token,
        sample_token=sample,
        ego_pose_token=token,
        calibrated_sensor_token=f"{SCENES[scene]}-{channel}",
        timestamp=stamp,
        fileformat=suffix,
        is_key_frame=True,
        height=height,
        width=width,
        filename=name,
        prev="",
        next="",
    )
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if channel == "LIDAR_TOP":
        points = np.array([[0, 10, -1.84, 255, 0], [3, 0, -1.0, 51, 1]], dtype=np.float32)
        points.tofile(path)
    else:
        blue_green_red = np.full((*IMAGE_SIZE, 3), (30, 90, 200), np.uint8)
        cv2.imwrite(str(path), blue_green_red)


def _write_objects(
    tables: _Tables, number: int, scene: str, samples: list[str], times: list[float]
) -> None:
    ego, _ = _ego_at(number, 0.0)
    for item in range(_OBJECTS_ROUND_EGO):
        name = _CATEGORIES[item % len(_CATEGORIES)]
        bearing = 2 * math.pi * item / _OBJECTS_ROUND_EGO
        distance = 8.0 + 1.3 * item
        start = ego + distance * np.array([math.cos(bearing), math.sin(bearing), 0.0])
        velocity = np.array([1.0, -2.0, 0.0]) if name == "vehicle.car" else np.zeros(3)
        tokens = [f"{scene}-object-{item}-{i}" for i in range(len(samples))]
        instance = tables.add(
            "instance",
            f"{scene}-instance-{item}",
            category_token=f"category-{name}",
            nbr_annotations=len(tokens),
            first_annotation_token=tokens[0],
            last_annotation_token=tokens[-1],
        )
        for i, (sample, seconds) in enumerate(zip(samples, times, strict=True)):
            center = start + velocity * seconds + [0, 0, _WLH[name][2] / 2]
            attribute = _ATTRIBUTES.get(name)
            tables.add(
                "sample_annotation",
                tokens[i],
                sample_token=sample,
                instance_token=instance,
                visibility_token=str(item % 4 + 1),
                attribute_tokens=[f"attribute-{attribute}"] if attribute else [],
                translation=center.tolist(),
                size=list(_WLH[name]),
                rotation=Quaternion(axis=[0, 0, 1], radians=bearing + 0.4).elements.tolist(),
                num_lidar_pts=item,
                num_radar_pts=1,
                prev=tokens[0] if i else "",
                next="" if i else tokens[1],
            )
