"""A dense detector small enough for a test, with the codec of `tests.support.frames`."""

import torch

from mono3d.codec.dense import DenseCodec
from mono3d.model.backbone import Backbone, build_resnet
from mono3d.model.dense_detector import DenseDetector, DenseOutputs
from mono3d.objectives.detection import DepthLoss, DetectionObjective, LossWeights
from mono3d.objectives.mining.protocol import Mining
from mono3d.objectives.mining.uniform import Uniform
from mono3d.objectives.protocol import StepContext
from mono3d.structures import Batch
from tests.support.frames import NUM_CLASSES, make_codec

NUM_ATTRIBUTES = 4


def make_detector(
    *,
    seed: int = 0,
    strides: tuple[int, ...] = (8, 16, 32),
    num_depth_bins: int = 0,
    has_uncertainty: bool = False,
    backbone: Backbone | None = None,
) -> DenseDetector:
    """A detector of two classes, by default on an eighth of a ResNet-18."""
    torch.manual_seed(seed)
    return DenseDetector(
        backbone=backbone or build_resnet(18, 8),
        strides=strides,
        channels=8,
        tower_depth=1,
        outputs=DenseOutputs(
            num_classes=NUM_CLASSES,
            num_attributes=NUM_ATTRIBUTES,
            num_depth_bins=num_depth_bins,
            has_uncertainty=has_uncertainty,
        ),
        depth=make_codec().depth,
    )


def make_objective(
    codec: DenseCodec,
    *,
    mining: Mining | None = None,
    depth_loss: DepthLoss = "smooth_l1_log",
    weights: LossWeights | None = None,
) -> DetectionObjective:
    """The objective of `make_detector`."""
    return DetectionObjective(
        codec=codec,
        class_names=("car", "pedestrian"),
        mining=mining or Uniform(),
        weights=weights or LossWeights(),
        depth_loss=depth_loss,
    )


def context_of(
    *batches: Batch, progress: float = 0.0, with_statistics: bool = False
) -> StepContext:
    """Of a step over the given micro-batches on one rank."""
    counts = [DetectionObjective.count_samples(batch) for batch in batches]
    return StepContext(
        num_samples=torch.stack(counts).sum().clamp(min=1),
        num_images=sum(batch.images.shape[0] * batch.images.shape[1] for batch in batches),
        world_size=1,
        progress=progress,
        with_statistics=with_statistics,
    )
