"""The nuScenes tables that every data set has: categories, attributes, visibility, sensors."""

import hashlib
from typing import Any

from mono3d.data.synthetic.nuscenes_rig import CAMERA_CHANNELS, LIDAR_CHANNEL

Row = dict[str, Any]
Tables = dict[str, list[Row]]

TABLE_NAMES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample",
    "sample_annotation", "sample_data", "scene", "sensor", "visibility",
)  # fmt: skip
_CATEGORIES = (
    "animal", "human.pedestrian.adult", "human.pedestrian.child",
    "human.pedestrian.construction_worker", "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer", "human.pedestrian.stroller", "human.pedestrian.wheelchair",
    "movable_object.barrier", "movable_object.debris", "movable_object.pushable_pullable",
    "movable_object.trafficcone", "static_object.bicycle_rack", "vehicle.bicycle",
    "vehicle.bus.bendy", "vehicle.bus.rigid", "vehicle.car", "vehicle.construction",
    "vehicle.emergency.ambulance", "vehicle.emergency.police", "vehicle.motorcycle",
    "vehicle.trailer", "vehicle.truck",
)  # fmt: skip
_ATTRIBUTES = (
    "vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider",
    "cycle.without_rider", "pedestrian.sitting_lying_down", "pedestrian.standing",
    "pedestrian.moving",
)  # fmt: skip
_VISIBILITY_PERCENT = ((0, 40), (40, 60), (60, 80), (80, 100))


def token(*parts: object) -> str:
    """A token of 32 hexadecimal digits that depends on nothing but its parts."""
    text = "/".join(str(part) for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def visibility_token(visible_share: float) -> str:
    """Token "1" to "4" of the bin that a share of visible surface, 0 to 1, falls into."""
    return str(1 + sum(100 * visible_share >= low for low, _ in _VISIBILITY_PERCENT[1:]))


def middle_share(visibility: str) -> float:
    """Middle of the bin of visible shares that a visibility token stands for, 0 to 1."""
    low, high = _VISIBILITY_PERCENT[int(visibility) - 1]
    return (low + high) / 200


def common_tables() -> Tables:
    """All tables by name; those that scenes fill are empty."""
    tables: Tables = {name: [] for name in TABLE_NAMES}
    tables["category"] = [_named("category", name) for name in _CATEGORIES]
    tables["attribute"] = [_named("attribute", name) for name in _ATTRIBUTES]
    tables["visibility"] = [
        {
            "token": str(i),
            "level": f"v{low}-{high}",
            "description": f"visibility of whole object is between {low} and {high}%",
        }
        for i, (low, high) in enumerate(_VISIBILITY_PERCENT, start=1)
    ]
    tables["sensor"] = [
        {
            "token": token("sensor", channel),
            "channel": channel,
            "modality": "lidar" if channel == LIDAR_CHANNEL else "camera",
        }
        for channel in (*CAMERA_CHANNELS, LIDAR_CHANNEL)
    ]
    return tables


def _named(table: str, name: str) -> Row:
    return {"token": token(table, name), "name": name, "description": ""}
