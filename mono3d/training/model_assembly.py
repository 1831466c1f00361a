"""From a config to a network and the code of its answers; from a checkpoint to a trained one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import assert_never

import torch

from mono3d.codec.center import CenterCodec
from mono3d.codec.class_dims import mean_dims_hwl
from mono3d.codec.dense import DenseCodec
from mono3d.codec.depth import LogDepthCodec
from mono3d.codec.nuscenes_names import ATTRIBUTES
from mono3d.codec.point_codec import PositionConfidence
from mono3d.config.load import apply_overrides, parse, parse_override
from mono3d.config.mining_sections import SelectionConfig
from mono3d.config.schema import (
    BackboneConfig,
    CenterModel,
    ConfiguredBackbone,
    DenseModel,
    PretrainedBackbone,
    ResNetBackbone,
    RunConfig,
)
from mono3d.errors import ConfigError
from mono3d.model.backbone import (
    Backbone,
    build_from_config,
    build_pretrained,
    build_resnet,
)
from mono3d.model.camera_channels import GroundChannels
from mono3d.model.center_detector import CenterDetector
from mono3d.model.dense_detector import DenseDetector
from mono3d.model.depth_head import DepthHead
from mono3d.model.depth_input import DepthInput
from mono3d.model.trunk import Trunk
from mono3d.training.checkpoint import load_student, read_metadata


def build_depth_codec(config: RunConfig) -> LogDepthCodec:
    """The depth code that model and codec share."""
    code = config.model.depth_code
    return LogDepthCodec(
        reference_focal_px=code.reference_focal_px,
        mean_log_m=code.mean_log_m,
        std_log=code.std_log,
    )


def build_codec(config: RunConfig) -> DenseCodec | CenterCodec:
    """Encode and decode of the detector's family."""
    try:
        mean_dims = mean_dims_hwl(config.data.class_names, config.data.mean_dims_hwl)
    except ValueError as error:
        raise ConfigError(f"data.mean_dims_hwl: {error}; add them there") from error
    position = None
    if config.evaluation.position_tolerances_m:
        position = PositionConfidence(
            tolerances_m=config.evaluation.position_tolerances_m,
            relative_error=config.evaluation.assumed_depth_error,
        )
    model = config.model
    match model:
        case DenseModel():
            return DenseCodec(
                strides=model.strides_px,
                first_limit_px=model.first_limit_px,
                depth=build_depth_codec(config),
                mean_dims_hwl=mean_dims,
                max_positives=model.max_positives,
                radius_strides=model.center_radius_strides,
                min_points=config.input.min_points,
                position=position,
            )
        case CenterModel():
            return CenterCodec(
                stride=model.stride_px,
                depth=build_depth_codec(config),
                mean_dims_hwl=mean_dims,
                min_points=config.input.min_points,
                position=position,
            )
        case _:
            assert_never(model)


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


def build_model(config: RunConfig) -> DenseDetector | CenterDetector:
    """The student, with fresh weights (or pretrained backbone weights)."""
    model = config.model
    depth = build_depth_codec(config)
    ground = None
    if model.ground is not None:
        ground = GroundChannels(depth=depth, height_m=model.ground.height_m)
    told = None
    if model.depth_input != "none":
        told = DepthInput(depth, channels=model.channels)
    trunk = Trunk(
        backbone=build_backbone(
            model.backbone, camera_channels=0 if ground is None else ground.count
        ),
        strides=(model.stride_px,) if isinstance(model, CenterModel) else model.strides_px,
        channels=model.channels,
        ground=ground,
        depth_input=told,
    )
    head = DepthHead(
        depth,
        num_bins=model.num_depth_bins,
        bin_width_m=model.depth_bin_width_m,
        has_uncertainty=model.has_uncertainty,
    )
    has_selection = isinstance(config.mining, SelectionConfig)
    match model:
        case DenseModel():
            return DenseDetector(
                trunk=trunk,
                tower_depth=model.tower_depth,
                num_classes=len(config.data.class_names),
                num_attributes=len(ATTRIBUTES),
                depth_head=head,
                has_depth_map=model.has_depth_map,
                has_selection=has_selection,
            )
        case CenterModel():
            return CenterDetector(
                trunk=trunk,
                tower_depth=model.tower_depth,
                num_classes=len(config.data.class_names),
                num_attributes=len(ATTRIBUTES),
                depth_head=head,
                has_depth_map=model.has_depth_map,
                has_keypoints=model.has_keypoints,
                has_selection=has_selection,
            )
        case _:
            assert_never(model)


def load_network(
    location: str, overrides: Sequence[str] = (), *, device: str | None = None
) -> tuple[RunConfig, DenseDetector | CenterDetector]:
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
