"""Detectors in bird's-eye view small enough for a test, for frames of `tests.support.frames`."""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from mono3d.codec.anchors import AnchorCodec
from mono3d.codec.bev_center import BevCenterCodec
from mono3d.codec.bev_codec import ImageDepth
from mono3d.codec.bev_grid import BevGrid
from mono3d.codec.depth import DepthBins
from mono3d.data.loaders import DepthSource, Preparation, prepare_batch
from mono3d.model.backbone import build_resnet
from mono3d.model.bev_detector import BevDetector, DepthUse
from mono3d.model.bev_heads import AnchorHead, BevCenterHead
from mono3d.model.bev_net import BevNet
from mono3d.model.depth_distribution import DepthDistribution
from mono3d.model.lidar_detector import LidarDetector
from mono3d.model.pillars import PillarNet
from mono3d.model.self_calibrated import SelfCalibratedBlock
from mono3d.model.spatial_alignment import ResidualStream
from mono3d.model.trunk import Trunk
from mono3d.objectives.bev import BevObjective
from mono3d.objectives.bev_anchor import AnchorObjective
from mono3d.objectives.bev_center import BevCenterObjective
from mono3d.objectives.mining.protocol import Mining
from mono3d.objectives.mining.uniform import Uniform
from mono3d.objectives.weights import LossWeights
from mono3d.structures import Batch, Frame
from tests.support.detectors import NUM_ATTRIBUTES
from tests.support.frames import IMAGE_SIZE, NUM_CLASSES

Head = Literal["anchors", "centers"]
HEADS: tuple[Head, ...] = ("anchors", "centers")
STRIDE = 8
GRID = BevGrid(
    x_range_m=(-32.0, 32.0), y_range_m=(-24.0, 24.0), z_range_m=(-1.0, 3.0), cell_m=2.0,
    num_heights=2,
)  # fmt: skip
BINS = DepthBins(count=12, min_m=2.0, max_m=34.0)
MEAN_DIMS = torch.tensor([[1.6, 1.8, 4.2], [1.7, 0.7, 0.8]])


def make_bev_codec(
    head: Head, *, grid: BevGrid = GRID, reads_images: bool = True
) -> AnchorCodec | BevCenterCodec:
    """A codec of two classes."""
    common: dict[str, Any] = {
        "grid": grid,
        "mean_dims_hwl": MEAN_DIMS,
        "ground_height_m": 0.0,
        "max_positives": 48,
        "image_depth": ImageDepth(stride=STRIDE, bins=BINS) if reads_images else None,
    }
    if head == "centers":
        return BevCenterCodec(**common)
    return AnchorCodec(positive_iou=0.5, negative_iou=0.35, **common)


def make_bev_detector(
    head: Head,
    *,
    seed: int = 0,
    depth_use: DepthUse = "none",
    adaptation: Literal["none", "blocks", "stream"] = "none",
) -> BevDetector:
    """A detector of two classes on a quarter of a ResNet-18."""
    torch.manual_seed(seed)
    trunk = Trunk(backbone=build_resnet(18, 16), strides=(STRIDE,), channels=8)
    bev_net, own_head = _on_grid(head)
    extra = {
        "none": None,
        "blocks": SelfCalibratedBlock(16),
        "stream": ResidualStream(8 * GRID.num_heights, 16),
    }
    return BevDetector(
        trunk=trunk,
        depth=DepthDistribution(BINS, channels=8, depth=1, reference_focal_px=80.0),
        grid=GRID,
        lifted_channels=16,
        bev_net=bev_net,
        head=own_head,
        depth_use=depth_use,
        adaptation=extra[adaptation],
    )


def make_lidar_detector(head: Head, *, seed: int = 0) -> LidarDetector:
    """A LiDAR detector of two classes, with the grid, net and head of `make_bev_detector`."""
    torch.manual_seed(seed)
    bev_net, own_head = _on_grid(head)
    return LidarDetector(
        pillars=PillarNet(GRID, channels=8),
        pillar_channels=8,
        stem_layers=1,
        lifted_channels=16,
        bev_net=bev_net,
        head=own_head,
    )


def _on_grid(head: Head) -> tuple[BevNet, AnchorHead | BevCenterHead]:
    net = BevNet(16, channels=(8, 16), layers=1)
    if head == "anchors":
        return net, AnchorHead(net.out_channels, num_classes=NUM_CLASSES)
    return net, BevCenterHead(
        net.out_channels, num_classes=NUM_CLASSES, num_attributes=NUM_ATTRIBUTES
    )


def make_bev_objective(
    codec: AnchorCodec | BevCenterCodec,
    *,
    mining: Mining | None = None,
    weights: LossWeights | None = None,
    depth_foreground: float = 5.0,
    has_quality: bool = False,
) -> BevObjective:
    """The objective of `make_bev_detector`."""
    settings: dict[str, Any] = {
        "class_names": ("car", "pedestrian"),
        "mining": mining or Uniform(),
        "weights": weights or LossWeights(),
        "depth_gamma": 2.0,
        "depth_foreground": depth_foreground,
    }
    if isinstance(codec, AnchorCodec):
        return AnchorObjective(codec=codec, has_quality=has_quality, **settings)
    return BevCenterObjective(codec=codec, **settings)


def make_bev_batch(
    frames: Sequence[Frame],
    codec: AnchorCodec | BevCenterCodec,
    *,
    depth_input: DepthSource | None = None,
    depth_targets: DepthSource | None = "lidar",
) -> Batch:
    """Frames through the loader's own preparation."""
    preparation = Preparation(
        image_size=IMAGE_SIZE,
        encode=codec.encode,
        depth_input=depth_input,
        depth_targets=depth_targets,
        depth_target_stride=STRIDE,
        max_objects=16,
    )
    return prepare_batch(frames, [torch.Generator()] * len(frames), preparation)
