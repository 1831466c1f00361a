"""Boxes of a teacher as soft labels: what a student on the same grid should answer.

Source: CMKD (arXiv:2211.07171), response distillation of its public code: no labels, no
suppression, no hard threshold on boxes; each anchor weighs by how sure the teacher is. With q the
teacher's probabilities, p the student's, of one frame:

    classes   = sum over classes of sum over anchors of BCE(p, q) |p - q|^2 / max(1, #{q > t})
    box       = sum over anchors with Q > t of Q smooth L1(residuals) / #{Q > t}, Q the sum of q
    direction = the same of the cross entropy to the teacher's choice

Ours: means over the frames of a step, where the code divides the last two by the batch and the
first by nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mono3d.codec.anchors import AnchorCodec
from mono3d.codec.bev_codec import BevCodec
from mono3d.objectives.bev_anchor import box_residual_losses
from mono3d.objectives.losses.depth import SMOOTH_L1_BETA, smooth_l1
from mono3d.objectives.losses.heading import choice
from mono3d.objectives.losses.quality_focal import quality_focal

_CENTER_REGRESSIONS = ("offset", "height", "log_dims", "axis")


@dataclass(frozen=True, kw_only=True)
class SoftBoxes:
    """Losses between the answers of two detectors at the same places."""

    is_anchors: bool
    class_threshold: float
    """Of the teacher's probability of a class, for the places that its loss is divided by."""
    box_threshold: float
    """Of the sum of its probabilities, for the places whose boxes are learnt."""

    @staticmethod
    def on(codec: BevCodec, *, class_threshold: float, box_threshold: float) -> "SoftBoxes":
        """For the answers of a codec's head."""
        return SoftBoxes(
            is_anchors=isinstance(codec, AnchorCodec),
            class_threshold=class_threshold,
            box_threshold=box_threshold,
        )

    def __call__(
        self, said: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
    ) -> dict[str, Float[Tensor, ""]]:
        """Terms `classes`, `box` and `direction`, summed over frames.

        Args:
            said: By the student, [b, places, ...].
            wanted: By the teacher, without gradient.
        """
        said = {name: value.float() for name, value in said.items()}
        wanted = {name: value.float() for name, value in wanted.items()}
        quality = wanted["class_logits"].sigmoid()
        sure = (quality > self.class_threshold).sum(1).clamp(min=1)
        classes = quality_focal(said["class_logits"], quality).sum(1) / sure
        total = quality.sum(-1)
        learns = (total > self.box_threshold).float()
        share = total * learns / learns.sum(1, keepdim=True).clamp(min=1)
        if self.is_anchors:
            boxes = box_residual_losses(said["box_residuals"], wanted["box_residuals"])
        else:
            boxes = _regressions(said, wanted, _CENTER_REGRESSIONS)
        direction = choice(said["direction"], wanted["direction"].argmax(-1))
        return {
            "classes": classes.sum(),
            "box": (share * boxes).sum(),
            "direction": (share * direction).sum(),
        }


def _regressions(
    said: Mapping[str, Tensor], wanted: Mapping[str, Tensor], names: Sequence[str]
) -> Tensor:
    losses = [smooth_l1(said[n], wanted[n], beta=SMOOTH_L1_BETA).sum(-1) for n in names]
    total = losses[0]
    for more in losses[1:]:
        total = total + more
    return total
