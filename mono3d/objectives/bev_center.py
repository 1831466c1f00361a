"""The objective of the centre head in bird's-eye view.

Source: CenterPoint (arXiv:2006.11275), section 4: heat map by a focal loss, boxes by L1 at the
centres. Smooth L1 here, and the losses of the heading are those of `AxisHeading`.
"""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from mono3d.codec.bev_center import BevCenterCodec
from mono3d.codec.bev_codec import BevTargets
from mono3d.codec.point_codec import gather_points
from mono3d.objectives.bev import BevObjective, frames_labelled
from mono3d.objectives.losses.depth import SMOOTH_L1_BETA, smooth_l1
from mono3d.objectives.losses.focal import heatmap_focal
from mono3d.objectives.losses.heading import axis_losses, choice
from mono3d.structures import Batch


class BevCenterObjective(BevObjective):
    """Heat map over all cells, boxes at the cells of centres."""

    codec: BevCenterCodec

    def family_sums(
        self, responses: Mapping[str, Tensor], targets: BevTargets, batch: Batch
    ) -> dict[str, Float[Tensor, ""]]:
        """Terms of the heat map, and of all parts of a box."""
        wanted = self.codec.cell_targets(targets)
        names = ("offset", "height", "log_dims", "velocity", "attribute", "axis", "direction")
        said = {name: gather_points(responses[name], targets.index) for name in names}
        boxes, valid = targets.boxes, targets.boxes.valid.float()
        heat = heatmap_focal(responses["class_logits"], wanted.heatmap).sum((1, 2))

        def regression(name: str, value: Tensor) -> Tensor:
            return smooth_l1(said[name], value, beta=SMOOTH_L1_BETA).sum(-1)

        heading = axis_losses(said, boxes.yaw, beta=SMOOTH_L1_BETA)
        attribute = choice(said["attribute"], boxes.attributes.clamp(min=0))
        return {
            "classification": (heat * frames_labelled(batch)).sum(),
            "offset": (regression("offset", wanted.offset) * valid).sum(),
            "height": (regression("height", wanted.height) * valid).sum(),
            "dims": (regression("log_dims", wanted.log_dims) * valid).sum(),
            "velocity": (regression("velocity", wanted.velocity) * wanted.velocity_known).sum(),
            "attribute": (attribute * wanted.attribute_known).sum(),
            **{name: (losses * valid).sum() for name, losses in heading.items()},
        }
