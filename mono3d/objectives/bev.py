"""The objective of bird's-eye-view detectors: what they share, and what a family adds.

Boxes are learnt on the grid: sums over places that learn an object, divided by their number over
all ranks and micro-batches. Depth is learnt in the images, at cells whose true depth is known:
means over these within each image, then over images. That is the term that mining weighs; a depth
sample is a cell.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.profiler import record_function

from mono3d.codec.bev_codec import BevCodec, BevTargets, ImageDepth
from mono3d.codec.image_objects import nearest_objects, target_objects
from mono3d.objectives.gather import number_objects
from mono3d.objectives.losses.depth_bins import depth_bin_focal
from mono3d.objectives.mined import MinedObjective
from mono3d.objectives.mining.protocol import Mining
from mono3d.objectives.protocol import ObjectiveOutput, StepContext
from mono3d.objectives.weights import LossWeights
from mono3d.structures import Batch, DepthSamples, Predictions

_NO_CLASS = -1
"""Label of a depth sample that shows no object."""


class BevObjective(MinedObjective, ABC):
    """Losses of one family of detectors that answer on a grid in bird's-eye view."""

    def __init__(
        self,
        *,
        codec: BevCodec,
        class_names: tuple[str, ...],
        mining: Mining,
        weights: LossWeights,
        depth_gamma: float,
        depth_foreground: float,
    ) -> None:
        """Keep the parts.

        Args:
            codec: Of the detector's family.
            class_names: Of the run.
            mining: Weighs depth samples.
            weights: Factors of the terms.
            depth_gamma: Of the focal loss of depth bins.
            depth_foreground: How much more cells inside 2D boxes of objects count than others.
        """
        super().__init__(mining, class_names)
        self.codec = codec
        self._weights = weights
        self._depth_gamma = depth_gamma
        self._depth_foreground = depth_foreground

    @staticmethod
    def count_samples(batch: Batch) -> Float[Tensor, ""]:
        """Places of one micro-batch that learn an object."""
        return batch.positives.valid.sum().float()

    def forward(
        self, predictions: Predictions, batch: Batch, context: StepContext
    ) -> ObjectiveOutput:
        """Terms of one micro-batch; zeros with a graph where nothing is labelled."""
        responses = {name: value.float() for name, value in predictions.responses.items()}
        targets = self.codec.targets(batch)
        scale = context.world_size / context.num_samples
        sums = self.family_sums(responses, targets, batch)
        terms = {name: getattr(self._weights, name) * scale * value for name, value in sums.items()}
        statistics: dict[str, Tensor] = {}
        if self.codec.image_depth is not None and batch.depth_targets is not None:
            found, statistics = self._depth(self.codec.image_depth, responses, batch, context)
            terms["depth"] = self._weights.depth * context.world_size / context.num_images * found
        return ObjectiveOutput(terms=terms, statistics=statistics)

    @abstractmethod
    def family_sums(
        self, responses: Mapping[str, Tensor], targets: BevTargets, batch: Batch
    ) -> dict[str, Float[Tensor, ""]]:
        """Sums of the terms of boxes over the places that learn one.

        Args:
            responses: At all places [b, places, ...], float32.
            targets: At the positives.
            batch: What they were made from.
        """

    def _depth(
        self,
        image_depth: ImageDepth,
        responses: Mapping[str, Tensor],
        batch: Batch,
        context: StepContext,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Sum over images of the mined mean loss of their cells."""
        assert batch.depth_targets is not None
        target_m = batch.depth_targets.flatten(0, 1).flatten(1)
        known = target_m > 0
        losses, gradient = depth_bin_focal(
            responses["depth_logits"].flatten(2),
            image_depth.bins.index(target_m),
            gamma=self._depth_gamma,
        )
        image_size = (batch.images.shape[-2], batch.images.shape[-1])
        objects = target_objects(batch, self.codec.is_learnt)
        slot, is_object = nearest_objects(objects, image_size, image_depth.stride)
        local = DepthSamples(
            predicted_m=responses["depth_m"].detach().flatten(),
            target_m=target_m.flatten(),
            gradient=gradient.flatten(),
            # All that shows no object counts as one more object of its image.
            object_ids=number_objects(
                torch.where(is_object, slot, objects.valid.shape[1])
            ).flatten(),
            labels=torch.where(is_object, objects.labels.gather(1, slot), _NO_CLASS).flatten(),
            valid=known.flatten(),
        )
        with record_function("stage/objective/mining"):
            mined, statistics = self.mine(local, context)
        share = torch.where(is_object, self._depth_foreground, 1.0) * known
        total = (share * mined.view_as(losses) * losses).sum(1) / share.sum(1).clamp(min=1)
        error = (local.predicted_m - local.target_m).abs() / local.target_m.clamp(min=1e-3)
        error = (error * local.valid).sum() / local.valid.sum().clamp(min=1)
        return total.sum(), {"depth_error": error, **statistics}


def frames_labelled(batch: Batch) -> Float[Tensor, " b"]:
    """1 for each labelled frame, else 0."""
    return batch.has_labels.float()
