"""The center detector: the cell at an object's projected 3D centre predicts the whole box.

Source: MonoDLE (arXiv:2103.16237) for head and outputs; MonoCon (arXiv:2112.04628) for the
auxiliary keypoints, which only training computes. Ours departs in four ways: any backbone with a
pyramid in place of DLA-34, one tower for all outputs of the box in place of one each (and no
attentive normalisation), depth as focal-normalised logarithm (MonoDLE's 1/sigmoid(x) - 1 = exp(-x)
is log depth too), and channels that tell each cell its viewing ray.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mono3d.codec.center import NUM_KEYPOINTS
from mono3d.codec.heading import BinHeading
from mono3d.geometry.camera import focal_px
from mono3d.model.depth_head import DepthHead
from mono3d.model.heads import FOCAL_PRIOR, SELECTION_OUTPUTS, Branches, conv_tower
from mono3d.model.trunk import Trunk
from mono3d.structures import Inputs, Predictions


class CenterDetector(nn.Module):
    """Images and cameras → responses of the cells of one level; folds frames and cameras."""

    def __init__(
        self,
        *,
        trunk: Trunk,
        tower_depth: int,
        num_classes: int,
        num_attributes: int,
        depth_head: DepthHead,
        has_depth_map: bool = False,
        has_keypoints: bool = False,
        has_selection: bool = False,
    ) -> None:
        """Build towers and branches.

        Args:
            trunk: Yields one level.
            tower_depth: Convolutions in each tower.
            num_classes: Of objects.
            num_attributes: Of objects.
            depth_head: What is said of depth.
            has_depth_map: Predict log depth at every cell, for supervision by LiDAR in training.
            has_keypoints: Learn the projected corners too; a tower that only training computes.
            has_selection: Score each cell by how much is to be learnt from its depth, as in the
                dense detector. With one cell an object there is nothing to choose.
        """
        super().__init__()
        (self.stride,) = trunk.strides
        channels = trunk.channels
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
                "offset": 2,
                "box_2d": 4,
                "log_dims": 3,
                **BinHeading.channels,
                "velocity": 2,
                **depth_head.channels,
            },
        )
        self.depth_map_branch = nn.Conv2d(channels, 1, 1) if has_depth_map else None
        self.depth_head = depth_head
        self.keypoint_branches: nn.Sequential | None = None
        if has_keypoints:
            branches = Branches(
                channels,
                {
                    "keypoint_logits": NUM_KEYPOINTS,
                    "keypoint_offsets": 2 * NUM_KEYPOINTS,
                    "keypoint_rest": 2,
                },
            )
            branches.set_bias("keypoint_logits", -math.log(1 / FOCAL_PRIOR - 1))
            tower = conv_tower(channels, channels, tower_depth)
            self.keypoint_branches = nn.Sequential(tower, branches)
        self.selection_branch = Branches(channels, SELECTION_OUTPUTS) if has_selection else None
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.features = trunk.features
        """Name → (channels, stride) of the feature maps that `Predictions.features` holds."""
        self.responses = {**self.class_branches.out_channels, **self.box_branches.out_channels}
        """Name → channels of what `Predictions.responses` says of each point in any mode."""
        self.told_features = trunk.told_features
        """Names of the maps that first know true depth, where it is read."""

    def forward(self, inputs: Inputs) -> Predictions:
        """Responses [n, cells, channels] (n = frames x cameras) and feature maps [n, c, h, w].

        `class_logits` is the heat map.
        """
        found = self.trunk(inputs)
        (level,) = found.levels
        box_features = self.box_tower(level)
        said = self.class_branches(self.class_tower(level)) | self.box_branches(box_features)
        responses = self.depth_head(said, focal_px(inputs.projection.flatten(0, 1)))
        if self.depth_map_branch is not None:
            responses["depth_map"] = self.depth_map_branch(box_features)[:, 0]
        if self.keypoint_branches is not None and self.training:
            responses |= self.keypoint_branches(level)
        if self.selection_branch is not None and self.training:
            scored = self.selection_branch(box_features.detach())
            responses |= {name: value[..., 0] for name, value in scored.items()}
        return Predictions(responses=responses, features=found.features)

    def depth_gradient_norm(self) -> Float[Tensor, ""]:
        """Norm of the gradient of the depth branch, for the record."""
        return self.box_branches.gradient_norm("log_depth")
