"""What bird's-eye-view detectors answer on their grid: at anchors, or at cells."""

import math
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from mono3d.codec.anchors import BOX_CODES, ROTATIONS
from mono3d.codec.heading import AxisHeading
from mono3d.model.bev_net import conv_block
from mono3d.model.heads import FOCAL_PRIOR, Branches


class AnchorHead(nn.Module):
    """Each anchor's class logits, box residuals and direction (SECOND's head)."""

    def __init__(self, in_channels: int, *, num_classes: int) -> None:
        """One convolution for all anchors of a cell."""
        super().__init__()
        self._anchors = ROTATIONS * num_classes
        self.branches = Branches(
            in_channels,
            {
                "anchor_classes": self._anchors * num_classes,
                "anchor_residuals": self._anchors * BOX_CODES,
                "anchor_directions": self._anchors * 2,
            },
        )
        self.branches.set_bias("anchor_classes", -math.log(1 / FOCAL_PRIOR - 1))
        self.responses: Mapping[str, int] = {
            "class_logits": num_classes, "box_residuals": BOX_CODES, "direction": 2,
        }  # fmt: skip
        """Name → channels of what it says of each anchor."""

    def forward(self, bev: Float[Tensor, "b c y x"]) -> dict[str, Tensor]:
        """Responses [b, anchors, channels], cell after cell."""
        said: dict[str, Tensor] = self.branches(bev)
        flat = zip(self.responses.items(), said.values(), strict=True)
        return {
            name: values.unflatten(2, (self._anchors, channels)).flatten(1, 2)
            for (name, channels), values in flat
        }


class BevCenterHead(nn.Module):
    """Each cell's class logits and the box whose centre it is (CenterPoint's head)."""

    _BOX: ClassVar[Mapping[str, int]] = {
        "offset": 2, "height": 1, "log_dims": 3, **AxisHeading.channels, "velocity": 2,
    }  # fmt: skip

    def __init__(self, in_channels: int, *, num_classes: int, num_attributes: int) -> None:
        """A convolution and branches each for classes and boxes."""
        super().__init__()
        channels = max(in_channels // 2, 8) // 8 * 8
        self.class_tower = conv_block(in_channels, channels)
        self.box_tower = conv_block(in_channels, channels)
        self.class_branches = Branches(
            channels, {"class_logits": num_classes, "attribute": num_attributes}
        )
        self.class_branches.set_bias("class_logits", -math.log(1 / FOCAL_PRIOR - 1))
        self.box_branches = Branches(channels, self._BOX)
        self.responses: Mapping[str, int] = {
            **self.class_branches.out_channels, **self.box_branches.out_channels,
        }  # fmt: skip
        """Name → channels of what it says of each cell."""

    def forward(self, bev: Float[Tensor, "b c y x"]) -> dict[str, Tensor]:
        """Responses [b, cells, channels], row after row."""
        said: dict[str, Tensor] = self.class_branches(self.class_tower(bev))
        boxes: dict[str, Tensor] = self.box_branches(self.box_tower(bev))
        return said | boxes
