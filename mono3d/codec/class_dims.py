"""Mean height, width and length of the benchmarks' classes, metres: what sizes are relative to."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

MEAN_DIMS_HWL: Mapping[str, tuple[float, float, float]] = {
    # nuScenes train split, rounded to centimetres.
    "car": (1.74, 1.95, 4.63),
    "truck": (2.84, 2.51, 6.93),
    "trailer": (3.87, 2.90, 12.29),
    "bus": (3.47, 2.94, 10.50),
    "construction_vehicle": (3.19, 2.85, 6.37),
    "bicycle": (1.28, 0.60, 1.70),
    "motorcycle": (1.47, 0.77, 2.11),
    "pedestrian": (1.77, 0.67, 0.73),
    "traffic_cone": (1.07, 0.41, 0.41),
    "barrier": (0.98, 2.53, 0.50),
    # KITTI train split.
    "Car": (1.53, 1.63, 3.88),
    "Van": (2.21, 1.90, 5.06),
    "Truck": (3.25, 2.59, 10.11),
    "Pedestrian": (1.76, 0.66, 0.84),
    "Cyclist": (1.74, 0.60, 1.76),
}


def mean_dims_hwl(
    class_names: Sequence[str], own: Mapping[str, tuple[float, float, float]]
) -> Float[Tensor, "classes 3"]:
    """Mean sizes of a class list; `own` adds to and overrides the benchmarks' table.

    Raises:
        ValueError: If a class is in neither.
    """
    known = {**MEAN_DIMS_HWL, **own}
    missing = [name for name in class_names if name not in known]
    if missing:
        raise ValueError(f"no mean size is known for the classes {missing}")
    return torch.tensor([known[name] for name in class_names])
