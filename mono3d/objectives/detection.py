"""The objective of detectors that answer at points: what they share, and what a family adds.

Predictions and a batch in, named weighted losses out. The depth term is the one that mining weighs.
Every term is a sum over samples divided by the number of depth samples of all ranks and accumulated
micro-batches, once, here.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.profiler import record_function

from mono3d.codec.point_codec import BoxTargets, PointCodec, gather_points
from mono3d.geometry.box_iou import footprints_cam, paired_bev_iou
from mono3d.geometry.camera import focal_px
from mono3d.objectives.gather import gather_samples, number_objects
from mono3d.objectives.iou_term import IouTerm, box_pairs, overlap_statistics, pulls
from mono3d.objectives.losses.depth import (
    laplace_nll_gradient,
    mined_laplace_nll,
    smooth_l1,
    smooth_l1_gradient,
)
from mono3d.objectives.losses.heading import choice
from mono3d.objectives.mining.protocol import Mining, MiningState
from mono3d.objectives.mining.statistics import mining_statistics, rank_correlation
from mono3d.objectives.protocol import ObjectiveOutput, StepContext
from mono3d.structures import Batch, DepthSamples, LossTerms, Predictions

SMOOTH_L1_BETA = 1 / 9
DepthLoss = Literal["smooth_l1_log", "smooth_l1_m", "laplace"]


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Factor of each term."""

    classification: float = 1.0
    """Of class probabilities at points, or of the heat map."""
    offset: float = 1.0
    depth: float = 1.0
    dims: float = 1.0
    velocity: float = 0.05
    attribute: float = 1.0
    depth_map: float = 1.0
    """Of the dense depth that LiDAR supervises; its mean is over cells, then images."""
    centerness: float = 1.0
    axis: float = 1.0
    direction: float = 1.0
    """These three are the dense detector's."""
    heading_bin: float = 1.0
    heading_residual: float = 1.0
    box_2d: float = 0.1
    keypoint_heatmap: float = 1.0
    keypoint_offset: float = 1.0
    keypoint_rest: float = 1.0
    """These six are the center detector's."""


@dataclass(frozen=True, kw_only=True)
class _Depth:
    """The depth prediction in the coordinate of its loss, at the positives."""

    predicted: Tensor
    target: Tensor
    gradient: Tensor


class PointObjective(nn.Module, ABC):
    """Losses of one family of detectors; its buffers are the memory of the mining strategy."""

    mining_median_error: Tensor
    mining_steps: Tensor

    def __init__(
        self,
        *,
        codec: PointCodec,
        class_names: tuple[str, ...],
        mining: Mining,
        weights: LossWeights,
        depth_loss: DepthLoss,
        iou_term: IouTerm | None = None,
    ) -> None:
        """Keep the parts; `laplace` needs a detector that predicts `log_sigma`."""
        super().__init__()
        self.codec = codec
        self._class_names = class_names
        self._mining = mining
        self._weights = weights
        self._depth_loss = depth_loss
        self._iou_term = iou_term
        initial = MiningState.initial()
        self.register_buffer("mining_median_error", initial.median_error)
        self.register_buffer("mining_steps", initial.steps)

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
        depth = self._depth(said, targets)
        with record_function("stage/objective/mining"):
            weights, statistics = self._mine(said, targets, depth, context)
        sums = {
            "depth": self._depth_sum(said, targets, depth, weights),
            **_box_sums(said, targets),
            **self.family_sums(responses, said, targets, batch),
        }
        scale = context.world_size / context.num_samples
        terms = {name: getattr(self._weights, name) * scale * value for name, value in sums.items()}
        if depth_map is not None and batch.depth_targets is not None:
            factor = self._weights.depth_map * context.world_size / context.num_images
            terms["depth_map"] = factor * self._depth_map(depth_map, batch)
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
        return self._mine(said, targets, self._depth(said, targets), context)[0]

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

    def _depth(self, said: Mapping[str, Tensor], targets: BoxTargets) -> _Depth:
        """Prediction, target and gradient on the raw output in the loss's coordinate."""
        if self._depth_loss == "smooth_l1_m":
            slope = said["depth_slope"] * self.codec.depth.std_log * said["depth_m"].detach()
            predicted, target = said["depth_m"], targets.depth_m
        else:
            slope = said["depth_slope"]
            predicted, target = said["log_depth"], targets.log_depth
        if self._depth_loss == "laplace":
            gradient = laplace_nll_gradient(said["log_sigma"], slope)
        else:
            gradient = smooth_l1_gradient(predicted, target, slope, beta=SMOOTH_L1_BETA)
        return _Depth(predicted=predicted, target=target, gradient=gradient)

    @torch.no_grad()
    def _mine(
        self,
        said: Mapping[str, Tensor],
        targets: BoxTargets,
        depth: _Depth,
        context: StepContext,
    ) -> tuple[Float[Tensor, "n p"], dict[str, Tensor]]:
        """Weights of this rank's samples, from the samples of all ranks."""
        local = DepthSamples(
            predicted_m=said["depth_m"].detach().flatten(),
            target_m=targets.depth_m.flatten(),
            gradient=depth.gradient.detach().flatten(),
            object_ids=number_objects(targets.object_ids).flatten(),
            labels=targets.labels.flatten(),
            valid=targets.valid.flatten(),
        )
        samples, own = gather_samples(local, capacity=len(local.valid))
        state = MiningState(median_error=self.mining_median_error, steps=self.mining_steps)
        mined = self._mining.weigh(samples, state, context.progress)
        if self.training:
            self.mining_median_error.copy_(mined.state.median_error)
            self.mining_steps.copy_(mined.state.steps)
        statistics = {f"mining/{name}": value for name, value in mined.statistics.items()}
        if context.with_statistics:
            shared = mining_statistics(samples, mined.weights, self._class_names)
            statistics |= {f"mining/{name}": value for name, value in shared.items()}
        return mined.weights[own].view_as(targets.depth_m), statistics

    def _depth_sum(
        self,
        said: Mapping[str, Tensor],
        targets: BoxTargets,
        depth: _Depth,
        weights: Float[Tensor, "n p"],
    ) -> Float[Tensor, ""]:
        """Mined depth losses; `weights` is 0 on padding, which must not teach sigma either."""
        if self._depth_loss == "laplace":
            losses = mined_laplace_nll(depth.predicted, said["log_sigma"], depth.target, weights)
            return (losses * targets.valid).sum()
        return (weights * smooth_l1(depth.predicted, depth.target, beta=SMOOTH_L1_BETA)).sum()

    def _depth_map(self, log_depth: Float[Tensor, "n hf wf"], batch: Batch) -> Float[Tensor, ""]:
        """Sum over images of the mean loss at cells that hold a LiDAR point."""
        assert batch.depth_targets is not None
        target_m = batch.depth_targets.flatten(0, 1)
        known = (target_m > 0).float()
        focal = focal_px(batch.projection.flatten(0, 1))[:, None, None]
        target = self.codec.depth.encode(target_m, focal)
        losses = smooth_l1(log_depth, target, beta=SMOOTH_L1_BETA) * known
        return (losses.sum((1, 2)) / known.sum((1, 2)).clamp(min=1)).sum()


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
