"""The objective of detectors that answer at points: what they share, and what a family adds.

Predictions and a batch in, named weighted losses out. The depth term is the one that mining weighs.
Every term is a sum over samples divided by the number of depth samples of all ranks and accumulated
micro-batches, once, here.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.profiler import record_function

from mono3d.codec.point_codec import BoxTargets, PointCodec, gather_points
from mono3d.geometry.box_iou import footprints_cam, paired_bev_iou
from mono3d.objectives.depth_term import (
    DepthAnswers,
    DepthLoss,
    depth_answers,
    depth_map_sum,
    depth_sum,
)
from mono3d.objectives.gather import number_objects
from mono3d.objectives.iou_term import IouTerm, box_pairs, overlap_statistics, pulls
from mono3d.objectives.losses.depth import SMOOTH_L1_BETA, smooth_l1
from mono3d.objectives.losses.heading import choice
from mono3d.objectives.mined import MinedObjective
from mono3d.objectives.mining.protocol import Mining
from mono3d.objectives.mining.statistics import mining_statistics, rank_correlation
from mono3d.objectives.protocol import ObjectiveOutput, StepContext
from mono3d.objectives.selection import Selection
from mono3d.objectives.weights import LossWeights
from mono3d.structures import Batch, DepthSamples, LossTerms, Predictions


class PointObjective(MinedObjective, ABC):
    """Losses of one family of detectors that answer at points of an image."""

    def __init__(
        self,
        *,
        codec: PointCodec,
        class_names: tuple[str, ...],
        mining: Mining,
        weights: LossWeights,
        depth_loss: DepthLoss,
        iou_term: IouTerm | None = None,
        selection: Selection | None = None,
    ) -> None:
        """Keep the parts.

        Args:
            codec: Of the detector's family.
            class_names: Of the run.
            mining: Weighs depth samples.
            weights: Factors of the terms.
            depth_loss: `laplace` needs a detector that predicts `log_sigma`.
            iou_term: Of whole boxes; None leaves it out.
            selection: Weighs depth samples too, by a detector's `selection_logits`, where it says
                them; meant for mining that counts all alike.
        """
        super().__init__(mining, class_names)
        self.codec = codec
        self._weights = weights
        self._depth_loss = depth_loss
        self._iou_term = iou_term
        self._selection = selection

    @staticmethod
    def count_samples(batch: Batch) -> Float[Tensor, ""]:
        """Depth samples of one micro-batch."""
        return batch.positives.valid.sum().float()

    def forward(
        self, predictions: Predictions, batch: Batch, context: StepContext
    ) -> ObjectiveOutput:
        """Terms of one micro-batch; zeros with a graph where nothing is labelled."""
        targets = self.codec.targets(batch)
        responses = {name: value.float() for name, value in predictions.responses.items()}
        depth_map = responses.pop("depth_map", None)
        said = {name: gather_points(value, targets.index) for name, value in responses.items()}
        depth = depth_answers(self._depth_loss, said, targets, self.codec.depth)
        with record_function("stage/objective/mining"):
            weights, statistics = self._weigh(said, targets, depth, batch, context)
        sums = {
            "depth": depth_sum(self._depth_loss, depth, said, targets, weights),
            **_box_sums(said, targets),
            **self.family_sums(responses, said, targets, batch),
        }
        scale = context.world_size / context.num_samples
        terms = {name: getattr(self._weights, name) * scale * value for name, value in sums.items()}
        if depth_map is not None and batch.depth_targets is not None:
            factor = self._weights.depth_map * context.world_size / context.num_images
            terms["depth_map"] = factor * depth_map_sum(depth_map, batch, self.codec.depth)
        if self._iou_term is not None:
            terms["iou"], found = self._iou(self._iou_term, said, targets, batch, context, terms)
            statistics |= found
        error = ((said["depth_m"] - targets.depth_m).abs() / targets.depth_m).detach()
        relative = (error * targets.valid).sum() / targets.valid.sum().clamp(min=1)
        if context.with_statistics:
            overlap = self._overlap(said, targets, batch)
            valid = targets.valid.flatten()
            statistics["mining/quality_iou_correlation"] = rank_correlation(
                -error.flatten(), overlap, valid
            )
        return ObjectiveOutput(terms=terms, statistics={"depth_error": relative, **statistics})

    @torch.no_grad()
    def mined_weights(
        self, predictions: Predictions, batch: Batch, context: StepContext
    ) -> Float[Tensor, "n p"]:
        """Weight of each positive's depth loss; remembered nowhere in evaluation mode."""
        targets = self.codec.targets(batch)
        said = {
            name: gather_points(value.float(), targets.index)
            for name, value in predictions.responses.items()
            if name != "depth_map"
        }
        depth = depth_answers(self._depth_loss, said, targets, self.codec.depth)
        return self._weigh(said, targets, depth, batch, context)[0]

    @abstractmethod
    def family_sums(
        self,
        responses: Mapping[str, Tensor],
        said: Mapping[str, Tensor],
        targets: BoxTargets,
        batch: Batch,
    ) -> dict[str, Float[Tensor, ""]]:
        """Sums of the family's own terms over samples: `classification`, heading and what it adds.

        Args:
            responses: At all points [n, points, ...], float32.
            said: The same at the positives [n, p, ...].
            targets: At the positives.
            batch: What they were made from.
        """

    @torch.no_grad()
    def _overlap(
        self, said: Mapping[str, Tensor], targets: BoxTargets, batch: Batch
    ) -> Float[Tensor, " samples"]:
        """Bird's-eye-view IoU of each sample's box with the object that it learns."""
        pairs = box_pairs(self.codec, said, targets, batch)
        footprints = [
            footprints_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)[0].flatten(0, 1)
            for boxes in (pairs.said, pairs.true)
        ]
        return paired_bev_iou(*footprints)

    def _iou(
        self,
        term: IouTerm,
        said: Mapping[str, Tensor],
        targets: BoxTargets,
        batch: Batch,
        context: StepContext,
        others: LossTerms,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The weighted term of whole boxes; how they overlap, and how it and the others pull.

        Statistics are those of this rank's positives.
        """
        pairs = box_pairs(self.codec, said, targets, batch, depth_aligned=term.depth_aligned)
        weight = term.weight_at(context.progress) * context.world_size / context.num_samples
        loss = weight * (term.loss(pairs) * targets.valid).sum()
        if not context.with_statistics:
            return loss, {}
        statistics = overlap_statistics(pairs, targets.valid)
        if loss.requires_grad:
            rest = torch.stack(list(others.values())).sum()
            for name, whole in (("gradient", loss), ("others_gradient", rest)):
                found = pulls(whole, said, self.codec)
                statistics |= {f"{name}_{part}": norm for part, norm in found.items()}
        return loss, {f"iou_loss/{name}": value for name, value in statistics.items()}

    def _weigh(
        self,
        said: Mapping[str, Tensor],
        targets: BoxTargets,
        depth: DepthAnswers,
        batch: Batch,
        context: StepContext,
    ) -> tuple[Float[Tensor, "n p"], dict[str, Tensor]]:
        """Weights of this rank's samples, mined and then selected."""
        local = DepthSamples(
            predicted_m=said["depth_m"].detach().flatten(),
            target_m=targets.depth_m.flatten(),
            gradient=depth.gradient.detach().flatten(),
            object_ids=number_objects(targets.object_ids).flatten(),
            labels=targets.labels.flatten(),
            valid=targets.valid.flatten(),
        )
        if self._selection is None or "selection_logits" not in said:
            weights, statistics = self.mine(local, context)
            return weights.view_as(targets.depth_m), statistics
        # What is recorded below are the selected weights.
        weights, statistics = self.mine(local, replace(context, with_statistics=False))
        weights = weights.view_as(targets.depth_m)
        weights = weights * self._selection.weigh(
            said["selection_logits"],
            targets.object_ids,
            targets.valid,
            num_slots=batch.boxes_cam.valid.shape[-1],
            progress=context.progress,
        )
        if context.with_statistics:  # of this rank's samples: no second exchange for a record
            found = mining_statistics(local, weights.detach().flatten(), self._class_names)
            blend = self._selection.blend(context.progress)
            found["blend"] = torch.full((), blend, device=weights.device)
            statistics |= {f"mining/{name}": value for name, value in found.items()}
        return weights, statistics


def images_labelled(batch: Batch) -> Float[Tensor, " n"]:
    """1 for each image (frames x cameras) of a labelled frame, else 0."""
    frames, cameras = batch.images.shape[:2]
    return batch.has_labels.repeat_interleave(cameras, output_size=frames * cameras).float()


def _box_sums(said: Mapping[str, Tensor], targets: BoxTargets) -> dict[str, Tensor]:
    """Terms of the box that all families have, the depth's and the heading's excepted."""

    def regression(name: str, wanted: Tensor) -> Tensor:
        return smooth_l1(said[name], wanted, beta=SMOOTH_L1_BETA).sum(-1)

    valid = targets.valid.float()
    attribute = choice(said["attribute"], targets.attributes)
    return {
        "offset": (regression("offset", targets.offset) * valid).sum(),
        "dims": (regression("log_dims", targets.log_dims) * valid).sum(),
        "velocity": (regression("velocity", targets.velocity) * targets.velocity_known).sum(),
        "attribute": (attribute * targets.attribute_known).sum(),
    }
