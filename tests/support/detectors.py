"""Detectors small enough for a test, with the codecs of `tests.support.frames`."""

import torch
from torch import nn

from mono3d.codec.center import CenterCodec
from mono3d.codec.dense import DenseCodec
from mono3d.model.backbone import Backbone, build_resnet
from mono3d.model.center_detector import CenterDetector
from mono3d.model.dense_detector import DenseDetector
from mono3d.model.depth_head import DepthHead
from mono3d.model.depth_input import DepthInput
from mono3d.model.trunk import Trunk
from mono3d.objectives.center import CenterObjective
from mono3d.objectives.dense import DenseObjective
from mono3d.objectives.depth_term import DepthLoss
from mono3d.objectives.mining.protocol import Mining
from mono3d.objectives.mining.uniform import Uniform
from mono3d.objectives.protocol import StepContext
from mono3d.objectives.selection import Selection
from mono3d.objectives.weights import LossWeights
from mono3d.structures import Batch
from tests.support.frames import NUM_CLASSES, make_codec

NUM_ATTRIBUTES = 4


def make_detector(
    *,
    seed: int = 0,
    strides: tuple[int, ...] = (8, 16, 32),
    num_depth_bins: int = 0,
    has_uncertainty: bool = False,
    has_selection: bool = False,
    backbone: Backbone | None = None,
    reads_depth: bool = False,
) -> DenseDetector:
    """A detector of two classes, by default on a quarter of a ResNet-18."""
    torch.manual_seed(seed)
    return DenseDetector(
        trunk=Trunk(
            backbone=backbone or build_resnet(18, 16),
            strides=strides,
            channels=8,
            depth_input=_depth_input(reads_depth),
        ),
        tower_depth=1,
        num_classes=NUM_CLASSES,
        num_attributes=NUM_ATTRIBUTES,
        depth_head=DepthHead(
            make_codec().depth, num_bins=num_depth_bins, has_uncertainty=has_uncertainty
        ),
        has_selection=has_selection,
    )


def _depth_input(reads_depth: bool) -> DepthInput | None:
    """Of a teacher: with weights, where a new one has zeros."""
    if not reads_depth:
        return None
    branch = DepthInput(make_codec().depth, channels=8)
    nn.init.normal_(branch.output.weight, std=0.1)
    return branch


def make_objective(
    codec: DenseCodec,
    *,
    mining: Mining | None = None,
    depth_loss: DepthLoss = "smooth_l1_log",
    weights: LossWeights | None = None,
    selection: Selection | None = None,
) -> DenseObjective:
    """The objective of `make_detector`."""
    return DenseObjective(
        codec=codec,
        class_names=("car", "pedestrian"),
        mining=mining or Uniform(),
        weights=weights or LossWeights(),
        depth_loss=depth_loss,
        selection=selection,
    )


def context_of(
    *batches: Batch, progress: float = 0.0, with_statistics: bool = False
) -> StepContext:
    """Of a step over the given micro-batches on one rank."""
    counts = [DenseObjective.count_samples(batch) for batch in batches]
    return StepContext(
        num_samples=torch.stack(counts).sum().clamp(min=1),
        num_images=sum(batch.images.shape[0] * batch.images.shape[1] for batch in batches),
        world_size=1,
        progress=progress,
        with_statistics=with_statistics,
    )


def make_center_detector(
    *,
    seed: int = 0,
    num_depth_bins: int = 0,
    has_uncertainty: bool = False,
    has_keypoints: bool = False,
    has_selection: bool = False,
    reads_depth: bool = False,
) -> CenterDetector:
    """A center detector of two classes on a quarter of a ResNet-18."""
    torch.manual_seed(seed)
    return CenterDetector(
        trunk=Trunk(
            backbone=build_resnet(18, 16),
            strides=(4,),
            channels=8,
            depth_input=_depth_input(reads_depth),
        ),
        tower_depth=1,
        num_classes=NUM_CLASSES,
        num_attributes=NUM_ATTRIBUTES,
        depth_head=DepthHead(
            make_codec().depth, num_bins=num_depth_bins, has_uncertainty=has_uncertainty
        ),
        has_keypoints=has_keypoints,
        has_selection=has_selection,
    )


def make_center_objective(
    codec: CenterCodec,
    *,
    mining: Mining | None = None,
    depth_loss: DepthLoss = "smooth_l1_log",
    weights: LossWeights | None = None,
    selection: Selection | None = None,
) -> CenterObjective:
    """The objective of `make_center_detector`."""
    return CenterObjective(
        codec=codec,
        class_names=("car", "pedestrian"),
        mining=mining or Uniform(),
        weights=weights or LossWeights(),
        depth_loss=depth_loss,
        selection=selection,
    )
