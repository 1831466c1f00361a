"""The center detector's objective: what MonoDLE and MonoCon add to the terms of a box.

Source: MonoDLE (arXiv:2103.16237) for heat map, 2D box and heading; MonoCon (arXiv:2112.04628) for
the keypoints. Keypoint terms are means over an object's keypoints, so that their number does not
weigh; that is ours.
"""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from mono3d.codec.center import NUM_KEYPOINTS, CenterCodec
from mono3d.codec.point_codec import BoxTargets, gather_points
from mono3d.objectives.detection import PointObjective, images_labelled
from mono3d.objectives.losses.depth import SMOOTH_L1_BETA, smooth_l1
from mono3d.objectives.losses.focal import heatmap_focal
from mono3d.objectives.losses.heading import bin_losses
from mono3d.structures import Batch


class CenterObjective(PointObjective):
    """Heat map over all cells; 2D box, heading bins and keypoints of the positives."""

    codec: CenterCodec

    def family_sums(
        self,
        responses: Mapping[str, Tensor],
        said: Mapping[str, Tensor],
        targets: BoxTargets,
        batch: Batch,
    ) -> dict[str, Float[Tensor, ""]]:
        """Terms of heat map, 2D box and heading, and of the keypoints if they are said."""
        valid = targets.valid.float()
        image = self.codec.image_targets(batch, targets)
        heat = heatmap_focal(responses["class_logits"], image.heatmap)
        box_2d = smooth_l1(said["box_2d"], image.box_2d, beta=SMOOTH_L1_BETA).sum(-1)
        heading = bin_losses(said, targets.alpha, beta=SMOOTH_L1_BETA)
        sums = {
            "classification": (heat.sum((1, 2)) * images_labelled(batch)).sum(),
            "box_2d": (box_2d * valid).sum(),
            **{name: (losses * valid).sum() for name, losses in heading.items()},
        }
        if "keypoint_logits" in responses:
            sums |= self._keypoint_sums(responses, said, targets, batch)
        return sums

    def _keypoint_sums(
        self,
        responses: Mapping[str, Tensor],
        said: Mapping[str, Tensor],
        targets: BoxTargets,
        batch: Batch,
    ) -> dict[str, Float[Tensor, ""]]:
        wanted = self.codec.keypoint_targets(batch, targets)
        heat = heatmap_focal(responses["keypoint_logits"], wanted.heatmap)
        offsets = said["keypoint_offsets"].unflatten(-1, (NUM_KEYPOINTS, 2))
        offset = smooth_l1(offsets, wanted.offsets, beta=SMOOTH_L1_BETA).sum(-1)
        at_keypoints = gather_points(responses["keypoint_rest"], wanted.index.flatten(1))
        rests = at_keypoints.view_as(wanted.rest)
        rest = smooth_l1(rests, wanted.rest, beta=SMOOTH_L1_BETA).sum(-1)
        sums = {
            "keypoint_heatmap": (heat.sum((1, 2)) * images_labelled(batch)).sum(),
            "keypoint_offset": (offset * wanted.inside).sum(),
            "keypoint_rest": (rest * wanted.inside).sum(),
        }
        return {name: value / NUM_KEYPOINTS for name, value in sums.items()}
