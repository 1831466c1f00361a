"""Names and fixed numbers of the nuScenes detection benchmark, in the order of nuscenes-devkit."""

from collections.abc import Mapping

DETECTION_CLASSES = (
    "car",
    "truck",
    "bus",
    "trailer",
    "construction_vehicle",
    "pedestrian",
    "motorcycle",
    "bicycle",
    "traffic_cone",
    "barrier",
)

CATEGORY_CLASSES: Mapping[str, str | None] = {
    "animal": None,
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.personal_mobility": None,
    "human.pedestrian.police_officer": "pedestrian",
    "human.pedestrian.stroller": None,
    "human.pedestrian.wheelchair": None,
    "movable_object.barrier": "barrier",
    "movable_object.debris": None,
    "movable_object.pushable_pullable": None,
    "movable_object.trafficcone": "traffic_cone",
    "static_object.bicycle_rack": None,
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.emergency.ambulance": None,
    "vehicle.emergency.police": None,
    "vehicle.motorcycle": "motorcycle",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}
"""Detection class of each category of nuScenes' annotations; None: not in the benchmark."""

CLASS_RANGE_M: Mapping[str, float] = {
    "car": 50.0,
    "truck": 50.0,
    "bus": 50.0,
    "trailer": 50.0,
    "construction_vehicle": 50.0,
    "pedestrian": 40.0,
    "motorcycle": 40.0,
    "bicycle": 40.0,
    "traffic_cone": 30.0,
    "barrier": 30.0,
}
"""Ground distance from the ego vehicle beyond which a class is not evaluated."""

ATTRIBUTES = (
    "pedestrian.moving",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "cycle.with_rider",
    "cycle.without_rider",
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
)

_VEHICLE_ATTRIBUTES = ("vehicle.moving", "vehicle.parked", "vehicle.stopped")
_CYCLE_ATTRIBUTES = ("cycle.with_rider", "cycle.without_rider")
CLASS_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "car": _VEHICLE_ATTRIBUTES,
    "truck": _VEHICLE_ATTRIBUTES,
    "bus": _VEHICLE_ATTRIBUTES,
    "trailer": _VEHICLE_ATTRIBUTES,
    "construction_vehicle": _VEHICLE_ATTRIBUTES,
    "pedestrian": ("pedestrian.moving", "pedestrian.sitting_lying_down", "pedestrian.standing"),
    "motorcycle": _CYCLE_ATTRIBUTES,
    "bicycle": _CYCLE_ATTRIBUTES,
    "traffic_cone": (),
    "barrier": (),
}
"""Attributes that an object of the class can have."""

DEFAULT_ATTRIBUTE: Mapping[str, str] = {
    "car": "vehicle.parked",
    "truck": "vehicle.parked",
    "bus": "vehicle.moving",
    "trailer": "vehicle.parked",
    "construction_vehicle": "vehicle.parked",
    "pedestrian": "pedestrian.moving",
    "motorcycle": "cycle.without_rider",
    "bicycle": "cycle.without_rider",
    "traffic_cone": "",
    "barrier": "",
}
"""The most frequent attribute of each class, submitted where a detector predicts none."""

CAMERAS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_RIGHT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_FRONT_LEFT",
)
"""The six cameras, clockwise from the front."""


def threshold_name(class_name: str) -> str:
    """Name of the metric that holds the score from which detections of a class are best shown."""
    return f"nuscenes_{class_name}_threshold"
