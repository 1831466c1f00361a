"""From a config to a network and the code of its answers; from a checkpoint to a trained one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from mono3d.codec.anchors import AnchorCodec
from mono3d.codec.bev_center import BevCenterCodec
from mono3d.codec.bev_codec import ImageDepth
from mono3d.codec.bev_grid import BevGrid
from mono3d.codec.center import CenterCodec
from mono3d.codec.class_dims import mean_dims_hwl
from mono3d.codec.dense import DenseCodec
from mono3d.codec.depth import DepthBins, LogDepthCodec
from mono3d.codec.nuscenes_names import ATTRIBUTES
from mono3d.codec.point_codec import PositionConfidence
from mono3d.config.distillation_sections import MonoTakdConfig
from mono3d.config.load import apply_overrides, parse, parse_override
from mono3d.config.mining_sections import SelectionConfig
from mono3d.config.model_sections import (
    AnchorHeadConfig,
    BackboneConfig,
    BevModel,
    CenterHeadConfig,
    CenterModel,
    ConfiguredBackbone,
    DenseModel,
    GridModel,
    ImageModel,
    LidarModel,
    PretrainedBackbone,
    ResNetBackbone,
)
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError
from mono3d.model.backbone import (
    Backbone,
    build_from_config,
    build_pretrained,
    build_resnet,
)
from mono3d.model.bev_detector import BevDetector, DepthUse
from mono3d.model.bev_heads import AnchorHead, BevCenterHead
from mono3d.model.bev_net import BevNet
from mono3d.model.camera_channels import GroundChannels
from mono3d.model.center_detector import CenterDetector
from mono3d.model.dense_detector import DenseDetector
from mono3d.model.depth_distribution import DepthDistribution
from mono3d.model.depth_head import DepthHead
from mono3d.model.depth_input import DepthInput
from mono3d.model.lidar_detector import LidarDetector
from mono3d.model.pillars import PillarNet
from mono3d.model.self_calibrated import SelfCalibratedBlock
from mono3d.model.spatial_alignment import ResidualStream
from mono3d.model.trunk import Trunk
from mono3d.training.checkpoint import load_student, read_metadata

PointCodecs = DenseCodec | CenterCodec
Codec = PointCodecs | AnchorCodec | BevCenterCodec
PointDetectors = DenseDetector | CenterDetector
Detector = PointDetectors | BevDetector | LidarDetector


def build_depth_codec(model: ImageModel) -> LogDepthCodec:
    """The depth code that model and codec share."""
    code = model.depth_code
    return LogDepthCodec(
        reference_focal_px=code.reference_focal_px,
        mean_log_m=code.mean_log_m,
        std_log=code.std_log,
    )


def build_codec(config: RunConfig) -> Codec:
    """Encode and decode of the detector's family.

    Raises:
        ConfigError: A class has no mean size, or a grid or bins are impossible.
    """
    mean_dims = _mean_dims(config)
    model = config.model
    match model:
        case DenseModel():
            return DenseCodec(
                strides=model.strides_px,
                first_limit_px=model.first_limit_px,
                depth=build_depth_codec(model),
                mean_dims_hwl=mean_dims,
                max_positives=model.max_positives,
                radius_strides=model.center_radius_strides,
                min_points=config.input.min_points,
                position=_position_confidence(config),
            )
        case CenterModel():
            return CenterCodec(
                stride=model.stride_px,
                depth=build_depth_codec(model),
                mean_dims_hwl=mean_dims,
                min_points=config.input.min_points,
                position=_position_confidence(config),
            )
        case BevModel():
            depth = ImageDepth(stride=model.stride_px, bins=build_bins(model))
            return _grid_codec(config, model, mean_dims, depth)
        case LidarModel():
            return _grid_codec(config, model, mean_dims, None)
        case _:
            assert_never(model)


def _mean_dims(config: RunConfig) -> Tensor:
    try:
        return mean_dims_hwl(config.data.class_names, config.data.mean_dims_hwl)
    except ValueError as error:
        raise ConfigError(f"data.mean_dims_hwl: {error}; add them there") from error


def _position_confidence(config: RunConfig) -> PositionConfidence | None:
    if not config.evaluation.position_tolerances_m:
        return None
    return PositionConfidence(
        tolerances_m=config.evaluation.position_tolerances_m,
        relative_error=config.evaluation.assumed_depth_error,
    )


def _grid_codec(
    config: RunConfig, model: GridModel, mean_dims: Tensor, image_depth: ImageDepth | None
) -> AnchorCodec | BevCenterCodec:
    common: dict[str, Any] = {
        "grid": build_grid(model),
        "mean_dims_hwl": mean_dims,
        "ground_height_m": model.grid.ground_height_m,
        "max_positives": model.max_positives,
        "min_points": config.input.min_points,
        "image_depth": image_depth,
    }
    match model.head:
        case AnchorHeadConfig():
            return AnchorCodec(
                positive_iou=model.head.positive_iou,
                negative_iou=model.head.negative_iou,
                **common,
            )
        case CenterHeadConfig():
            return BevCenterCodec(**common)
        case _:
            assert_never(model.head)


def build_grid(model: GridModel) -> BevGrid:
    """The grid of a detector in bird's-eye view."""
    try:
        return BevGrid(**model.grid.model_dump(exclude={"ground_height_m"}))
    except ValueError as error:
        raise ConfigError(f"model.grid.{error}") from error


def build_bins(model: BevModel) -> DepthBins:
    """The bins of its distribution over depth."""
    try:
        return DepthBins(**model.depth_bins.model_dump())
    except ValueError as error:
        raise ConfigError(f"model.depth_bins: {error}") from error


def build_backbone(config: BackboneConfig, *, camera_channels: int = 0) -> Backbone:
    """An image backbone."""
    match config:
        case ResNetBackbone():
            return build_resnet(
                config.depth, config.width, stages=config.stages, camera_channels=camera_channels
            )
        case ConfiguredBackbone():
            with _naming("model.backbone.model_type", config.model_type):
                return build_from_config(
                    config.model_type, config.options, camera_channels=camera_channels
                )
        case PretrainedBackbone():
            with _naming("model.backbone.source", config.source):
                return build_pretrained(config.source, camera_channels=camera_channels)
        case _:
            assert_never(config)


@contextmanager
def _naming(key: str, value: str) -> Iterator[None]:
    """Say which key a backbone came from when transformers refuses it."""
    try:
        yield
    except (ValueError, TypeError, OSError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{key}={value}: transformers cannot build it: {reason}") from error


def build_model(config: RunConfig) -> Detector:
    """The student, with fresh weights (or pretrained backbone weights)."""
    model = config.model
    if isinstance(model, BevModel):
        return _bev_detector(config, model)
    if isinstance(model, LidarModel):
        return _lidar_detector(config, model)
    depth = build_depth_codec(model)
    told = None
    if model.depth_input != "none":
        told = DepthInput(depth, channels=model.channels)
    strides = (model.stride_px,) if isinstance(model, CenterModel) else model.strides_px
    parts: dict[str, Any] = {
        "trunk": _trunk(depth, model, strides, model.channels, told),
        "tower_depth": model.tower_depth,
        "num_classes": len(config.data.class_names),
        "num_attributes": len(ATTRIBUTES),
        "depth_head": DepthHead(
            depth,
            num_bins=model.num_depth_bins,
            bin_width_m=model.depth_bin_width_m,
            has_uncertainty=model.has_uncertainty,
        ),
        "has_depth_map": model.has_depth_map,
        "has_selection": isinstance(config.mining, SelectionConfig),
    }
    match model:
        case DenseModel():
            return DenseDetector(**parts)
        case CenterModel():
            return CenterDetector(**parts, has_keypoints=model.has_keypoints)
        case _:
            assert_never(model)


def _trunk(
    depth: LogDepthCodec,
    model: ImageModel,
    strides: Sequence[int],
    channels: int,
    depth_input: DepthInput | None = None,
) -> Trunk:
    ground = None
    if model.ground is not None:
        ground = GroundChannels(depth=depth, height_m=model.ground.height_m)
    camera_channels = 0 if ground is None else ground.count
    return Trunk(
        backbone=build_backbone(model.backbone, camera_channels=camera_channels),
        strides=strides,
        channels=channels,
        ground=ground,
        depth_input=depth_input,
    )


def _bev_detector(config: RunConfig, model: BevModel) -> BevDetector:
    trunk = _trunk(build_depth_codec(model), model, (model.stride_px,), model.channels)
    depth = DepthDistribution(
        build_bins(model),
        channels=model.channels,
        depth=model.tower_depth,
        reference_focal_px=model.depth_code.reference_focal_px,
    )
    bev_net, head = _on_grid(config, model)
    return BevDetector(
        trunk=trunk,
        depth=depth,
        grid=build_grid(model),
        lifted_channels=model.lifted_channels,
        bev_net=bev_net,
        head=head,
        depth_use=_depth_use(config, model),
        adaptation=_adaptation(model),
    )


def _depth_use(config: RunConfig, model: BevModel) -> DepthUse:
    if model.depth_input != "none":
        return "lift"
    distillation = config.distillation
    shares = isinstance(distillation, MonoTakdConfig) and distillation.assistant is None
    return "assist" if shares else "none"


def _adaptation(model: BevModel) -> nn.Module | None:
    if model.residual_stream:
        return ResidualStream(model.channels * model.grid.num_heights, model.lifted_channels)
    if not model.adaptation_blocks:
        return None
    blocks = (SelfCalibratedBlock(model.lifted_channels) for _ in range(model.adaptation_blocks))
    return nn.Sequential(*blocks)


def _lidar_detector(config: RunConfig, model: LidarModel) -> LidarDetector:
    bev_net, head = _on_grid(config, model)
    return LidarDetector(
        pillars=PillarNet(build_grid(model), channels=model.pillar_channels),
        pillar_channels=model.pillar_channels,
        stem_layers=model.stem_layers,
        lifted_channels=model.lifted_channels,
        bev_net=bev_net,
        head=head,
    )


def _on_grid(config: RunConfig, model: GridModel) -> tuple[BevNet, AnchorHead | BevCenterHead]:
    """What computes on the grid, whatever brings features there."""
    net = BevNet(model.lifted_channels, channels=model.bev_channels, layers=model.bev_layers)
    num_classes = len(config.data.class_names)
    match model.head:
        case AnchorHeadConfig():
            return net, AnchorHead(net.out_channels, num_classes=num_classes)
        case CenterHeadConfig():
            head = BevCenterHead(
                net.out_channels, num_classes=num_classes, num_attributes=len(ATTRIBUTES)
            )
            return net, head
        case _:
            assert_never(model.head)


def load_network(
    location: str, overrides: Sequence[str] = (), *, device: str | None = None
) -> tuple[RunConfig, Detector]:
    """A checkpoint's config, changed by PATH=VALUE overrides, and its averaged weights.

    Args:
        location: Folder or s3:// URI.
        overrides: Such as other data.
        device: Such as `cuda:1`; a GPU if there is one, unless given.

    Raises:
        Mono3dError: If there is no whole checkpoint of this architecture there.
    """
    metadata = read_metadata(location)
    tree = apply_overrides(metadata.config, map(parse_override, overrides))
    config = parse(tree, source=location)
    network = build_model(config)
    load_student(location, network)
    return config, network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
