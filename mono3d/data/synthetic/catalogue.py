"""The ten nuScenes detection classes: categories, real size statistics, how often and how fast.

Sizes are means and standard deviations of nuScenes annotations (Caesar et al., CVPR 2020), rounded.
"""

from dataclasses import dataclass
from typing import Literal

ClassName = Literal[
    "car", "truck", "bus", "trailer", "construction_vehicle", "pedestrian", "motorcycle",
    "bicycle", "traffic_cone", "barrier",
]  # fmt: skip
Motion = Literal["vehicle", "cycle", "pedestrian", "none"]
"""Which family of nuScenes attributes a class carries."""


@dataclass(frozen=True, kw_only=True)
class ObjectClass:
    """One detection class.

    Attributes:
        name: nuScenes detection name.
        category: nuScenes category name in the tables.
        size_lwh_m: Mean length, width, height.
        spread_lwh_m: Standard deviations of the three; draws are cut at two of them.
        motion: Family of its attributes.
        natural_count: Mean number in a validation scene.
        train_count: Mean number in a training scene; rare classes are more frequent there.
    """

    name: ClassName
    category: str
    size_lwh_m: tuple[float, float, float]
    spread_lwh_m: tuple[float, float, float]
    motion: Motion
    natural_count: float
    train_count: float


CLASSES = (
    ObjectClass(
        name="car",
        category="vehicle.car",
        size_lwh_m=(4.62, 1.95, 1.73),
        spread_lwh_m=(0.42, 0.14, 0.18),
        motion="vehicle",
        natural_count=12.5,
        train_count=13.0,
    ),
    ObjectClass(
        name="truck",
        category="vehicle.truck",
        size_lwh_m=(6.93, 2.51, 2.84),
        spread_lwh_m=(1.2, 0.22, 0.45),
        motion="vehicle",
        natural_count=2.2,
        train_count=2.8,
    ),
    ObjectClass(
        name="bus",
        category="vehicle.bus.rigid",
        size_lwh_m=(11.2, 2.93, 3.47),
        spread_lwh_m=(1.1, 0.14, 0.25),
        motion="vehicle",
        natural_count=0.5,
        train_count=1.4,
    ),
    ObjectClass(
        name="trailer",
        category="vehicle.trailer",
        size_lwh_m=(12.28, 2.92, 3.87),
        spread_lwh_m=(1.4, 0.2, 0.3),
        motion="vehicle",
        natural_count=0.7,
        train_count=1.3,
    ),
    ObjectClass(
        name="construction_vehicle",
        category="vehicle.construction",
        size_lwh_m=(6.37, 2.73, 3.19),
        spread_lwh_m=(0.9, 0.3, 0.4),
        motion="vehicle",
        natural_count=0.5,
        train_count=1.3,
    ),
    ObjectClass(
        name="pedestrian",
        category="human.pedestrian.adult",
        size_lwh_m=(0.73, 0.67, 1.77),
        spread_lwh_m=(0.12, 0.08, 0.11),
        motion="pedestrian",
        natural_count=7.0,
        train_count=7.5,
    ),
    ObjectClass(
        name="motorcycle",
        category="vehicle.motorcycle",
        size_lwh_m=(2.11, 0.77, 1.47),
        spread_lwh_m=(0.18, 0.07, 0.1),
        motion="cycle",
        natural_count=0.6,
        train_count=1.8,
    ),
    ObjectClass(
        name="bicycle",
        category="vehicle.bicycle",
        size_lwh_m=(1.70, 0.60, 1.28),
        spread_lwh_m=(0.12, 0.06, 0.08),
        motion="cycle",
        natural_count=0.6,
        train_count=2.2,
    ),
    ObjectClass(
        name="traffic_cone",
        category="movable_object.trafficcone",
        size_lwh_m=(0.41, 0.41, 1.07),
        spread_lwh_m=(0.05, 0.05, 0.12),
        motion="none",
        natural_count=2.8,
        train_count=3.0,
    ),
    ObjectClass(
        name="barrier",
        category="movable_object.barrier",
        size_lwh_m=(0.50, 2.53, 0.98),
        spread_lwh_m=(0.06, 0.25, 0.07),
        motion="none",
        natural_count=3.6,
        train_count=3.4,
    ),
)
RARE_CLASSES: tuple[ClassName, ...] = (
    "bus",
    "bicycle",
    "trailer",
    "construction_vehicle",
    "motorcycle",
)
"""Classes that are promised to some scene of each split, however few scenes there are."""
CLASS_BY_NAME: dict[ClassName, ObjectClass] = {kind.name: kind for kind in CLASSES}
RIDER_HEIGHT_M: dict[ClassName, float] = {"bicycle": 1.75, "motorcycle": 1.65}
"""Mean box height of a cycle with its rider, who belongs to the box."""
