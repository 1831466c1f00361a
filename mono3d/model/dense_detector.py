"""The dense detector: every point near an object's centre predicts the whole box.

Source: FCOS3D (arXiv:2104.10956) for head, targets and scores; PGD (arXiv:2107.14160) for the
optional depth bins. Ours departs in four ways: plain convolutions (no deformable ones), depth as
focal-normalised logarithm, the axis of the heading as (sin 2a, cos 2a), and channels that tell each
point its viewing ray, so that one network serves cameras of any focal length and pitch.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mono3d.codec.heading import AxisHeading
from mono3d.geometry.camera import focal_px
from mono3d.model.depth_head import DepthHead
from mono3d.model.heads import (
    FOCAL_PRIOR,
    SELECTION_OUTPUTS,
    Branches,
    conv_tower,
    join_levels,
)
from mono3d.model.trunk import Trunk
from mono3d.structures import Inputs, Predictions

_SCALED = ("offset", "log_depth", "log_dims")
_SINGLE = {"centerness_logits", *SELECTION_OUTPUTS}
"""Outputs of one channel that the depth head does not know."""


class DenseDetector(nn.Module):
    """Images and cameras → per-point responses and named feature maps; folds frames and cameras."""

    def __init__(
        self,
        *,
        trunk: Trunk,
        tower_depth: int,
        num_classes: int,
        num_attributes: int,
        depth_head: DepthHead,
        has_depth_map: bool = False,
        has_selection: bool = False,
    ) -> None:
        """Build towers and branches.

        Args:
            trunk: Yields the prediction levels.
            tower_depth: Convolutions in each of the two towers.
            num_classes: Of objects.
            num_attributes: Of objects.
            depth_head: What is said of depth.
            has_depth_map: Predict log depth at every cell of the finest level, for supervision by
                LiDAR in training.
            has_selection: Score each point by how much is to be learnt from its depth; a branch
                that only training computes, and that reads features without shaping them.
        """
        super().__init__()
        channels, strides = trunk.channels, trunk.strides
        self.trunk = trunk
        self.class_tower = conv_tower(channels, channels, tower_depth)
        self.box_tower = conv_tower(channels, channels, tower_depth)
        self.class_branches = Branches(
            channels, {"class_logits": num_classes, "attribute": num_attributes}
        )
        self.class_branches.set_bias("class_logits", -math.log(1 / FOCAL_PRIOR - 1))
        self.box_branches = Branches(
            channels,
            {
                "centerness_logits": 1,
                "offset": 2,
                "log_dims": 3,
                **AxisHeading.channels,
                "velocity": 2,
                **depth_head.channels,
            },
        )
        self.depth_map_branch = nn.Conv2d(channels, 1, 1) if has_depth_map else None
        self.selection_branch = Branches(channels, SELECTION_OUTPUTS) if has_selection else None
        self.depth_head = depth_head
        self.depth_offsets = nn.Parameter(level_depth_offsets(strides, depth_head.codec.std_log))
        self.scales = nn.ParameterDict(
            {name: nn.Parameter(torch.ones(len(strides))) for name in _SCALED}
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.features = trunk.features
        """Name → (channels, stride) of the feature maps that `Predictions.features` holds."""
        self.responses = {**self.class_branches.out_channels, **self.box_branches.out_channels}
        """Name → channels of what `Predictions.responses` says of each point in any mode."""
        self.told_features = trunk.told_features
        """Names of the maps that first know true depth, where it is read."""

    def forward(self, inputs: Inputs) -> Predictions:
        """Responses [n, points, channels] (n = frames x cameras) and feature maps [n, c, h, w]."""
        found = self.trunk(inputs)
        said = [self._level(number, level) for number, level in enumerate(found.levels)]
        depth_map = said[0].pop("depth_map", None)
        responses = join_levels(said)
        for name in _SINGLE & responses.keys():
            responses[name] = responses[name][..., 0]
        responses = self.depth_head(responses, focal_px(inputs.projection.flatten(0, 1)))
        if depth_map is not None:
            responses["depth_map"] = depth_map
        return Predictions(responses=responses, features=found.features)

    def depth_gradient_norm(self) -> Float[Tensor, ""]:
        """Norm of the gradient of the depth branch, for the record."""
        return self.box_branches.gradient_norm("log_depth")

    def _level(self, number: int, level: Tensor) -> dict[str, Tensor]:
        said: dict[str, Tensor] = self.class_branches(self.class_tower(level))
        box_features = self.box_tower(level)
        said = said | self.box_branches(box_features)
        if number == 0 and self.depth_map_branch is not None:
            said["depth_map"] = self.depth_map_branch(box_features)[:, 0]
        if self.selection_branch is not None and self.training:
            said |= self.selection_branch(box_features.detach())
        said |= {name: said[name] * self.scales[name][number] for name in _SCALED}
        said["log_depth"] = said["log_depth"] + self.depth_offsets[number]
        return said


def level_depth_offsets(strides: Sequence[int], std_log: float) -> Float[Tensor, " levels"]:
    """Where each level's log depth starts, in the codec's coordinate.

    Levels share their towers and split objects by their size in pixels, so what looks alike on a
    level of twice the stride is half as far away. DD3D (arXiv:2108.06417) has learnt means too.
    """
    log_strides = torch.tensor(strides, dtype=torch.float32).log()
    return (log_strides.mean() - log_strides) / std_log
