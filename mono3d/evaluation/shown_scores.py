"""From which score on a detection is worth showing: what an evaluation found, class by class."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.codec.nuscenes_names import threshold_name

UNMEASURED = 0.2
"""For classes that no benchmark has measured."""


def shown_scores(
    class_names: Sequence[str], metrics: Mapping[str, float], *, prefix: str = ""
) -> Float[Tensor, " classes"]:
    """Least score of each class, from metrics whose names begin with the prefix."""
    names = (prefix + threshold_name(name) for name in class_names)
    return torch.tensor([metrics.get(name, UNMEASURED) for name in names])
