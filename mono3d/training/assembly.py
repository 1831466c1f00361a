"""From a config to live parts: with `datasets` and `objective_assembly` all that knows both."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import assert_never

import torch
from torch.optim import Optimizer

from mono3d.codec.center import CenterCodec
from mono3d.codec.class_dims import mean_dims_hwl
from mono3d.codec.dense import DenseCodec
from mono3d.codec.depth import LogDepthCodec
from mono3d.codec.nuscenes_names import ATTRIBUTES
from mono3d.codec.point_codec import PointCodec, PositionConfidence
from mono3d.config.mining_sections import SelectionConfig
from mono3d.config.schema import (
    AdamW,
    BackboneConfig,
    CenterModel,
    ConfiguredBackbone,
    CosineSchedule,
    DenseModel,
    Muon,
    OptimiserConfig,
    PretrainedBackbone,
    ResNetBackbone,
    RunConfig,
    ScheduleConfig,
    Sgd,
    StepSchedule,
)
from mono3d.data.augment import Augmentation, ColourJitter
from mono3d.data.loaders import BatchLoader, Preparation
from mono3d.data.merged import MergedDataset
from mono3d.data.sampling import FrameDataset, Sampling, class_balanced_shares
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
from mono3d.model.trunk import Trunk
from mono3d.training.loop import FitPlan
from mono3d.training.objective_assembly import build_objective
from mono3d.training.precision import autocast_dtype
from mono3d.training.schedule import (
    Schedule,
    build_adamw,
    build_muon,
    build_sgd,
    cosine_schedule,
    step_schedule,
)
from mono3d.training.train_module import TrainModule


def image_size(config: RunConfig) -> tuple[int, int]:
    """Height and width of the network's input, pixels."""
    return config.input.image_height_px, config.input.image_width_px


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
    trunk = Trunk(
        backbone=build_backbone(
            model.backbone, camera_channels=0 if ground is None else ground.count
        ),
        strides=(model.stride_px,) if isinstance(model, CenterModel) else model.strides_px,
        channels=model.channels,
        ground=ground,
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


def build_train_module(config: RunConfig, device: torch.device | str = "cpu") -> TrainModule:
    """Student and objective, with the same weights on every device."""
    torch.manual_seed(config.seed)
    module = TrainModule(
        build_model(config),
        build_objective(config, build_codec(config)),
        autocast_dtype=autocast_dtype(config.train.precision, torch.device(device)),
    )
    return module.to(device)


def build_preparation(
    config: RunConfig, codec: PointCodec, *, training: bool, with_depth: bool | None = None
) -> Preparation:
    """What a loader does with a frame; only training frames are augmented.

    Args:
        config: Of the run.
        codec: The network's.
        training: Whether frames are to be learnt.
        with_depth: Whether maps of LiDAR depth come with them; None: as training needs it.
    """
    if with_depth is None:
        with_depth = training and config.model.has_depth_map
    augmentation = None
    if training:
        has_colour = config.input.brightness_jitter > 0 or config.input.contrast_jitter > 0
        colour = ColourJitter(
            brightness=config.input.brightness_jitter, contrast=config.input.contrast_jitter
        )
        augmentation = Augmentation(
            flip_probability=config.input.flip_probability,
            colour=colour if has_colour else None,
            max_zoom=config.input.max_zoom,
        )
    return Preparation(
        image_size=image_size(config),
        encode=codec.positives if training else codec.read_points,
        augmentation=augmentation,
        epoch_scales=config.input.epoch_scales if training else (),
        max_objects=config.input.max_objects,
        depth_target_stride=codec.strides[0] if with_depth else None,
    )


def build_loader(
    config: RunConfig, dataset: FrameDataset, *, rank: int, world_size: int
) -> BatchLoader:
    """Training batches of one rank."""
    threshold, empty = config.input.class_balance_threshold, config.input.empty_frame_share
    exponent = config.input.object_count_exponent
    shares = None
    if threshold > 0 or exponent > 0 or empty != 1:
        shares = class_balanced_shares(
            dataset,
            len(config.data.class_names),
            threshold=threshold,
            count_exponent=exponent,
            empty_share=empty,
        )
    if isinstance(dataset, MergedDataset):
        shares = dataset.shared_out(shares)
    sampling = Sampling(
        num_frames=len(dataset),
        batch_size=config.train.batch_size,
        epoch_frames=config.train.epoch_frames or len(dataset),
        seed=config.seed,
        rank=rank,
        world_size=world_size,
        shares=shares,
    )
    if sampling.batches_per_epoch < config.train.accumulate:
        wanted = config.train.batch_size * config.train.accumulate * world_size
        raise ConfigError(
            f"train.batch_size: an epoch has {sampling.epoch_frames} frames, but one step of "
            f"{world_size} workers needs {wanted}"
        )
    preparation = build_preparation(config, build_codec(config), training=True)
    return BatchLoader(dataset, preparation, sampling, num_workers=config.input.loader_processes)


@dataclass(frozen=True, kw_only=True)
class StepRule:
    """Learning rate of a run: peak for its effective batch, and schedule."""

    peak_lr: float
    effective_batch: int
    """Frames of one optimiser step over all workers."""
    schedule: Schedule


def build_step_rule(config: RunConfig, *, batches_per_epoch: int, world_size: int) -> StepRule:
    """The peak rate scales linearly with the frames of a step."""
    frames = config.train.batch_size * config.train.accumulate * world_size
    steps_per_epoch = batches_per_epoch // config.train.accumulate
    return StepRule(
        peak_lr=config.optim.lr * frames / config.train.reference_batch,
        effective_batch=frames,
        schedule=build_schedule(config.schedule, steps_per_epoch, config.train.epochs),
    )


def build_schedule(config: ScheduleConfig, steps_per_epoch: int, epochs: int) -> Schedule:
    """Step → share of the peak learning rate."""
    match config:
        case CosineSchedule():
            return cosine_schedule(
                warmup_steps=config.warmup_steps,
                total_steps=steps_per_epoch * epochs,
                final_share=config.final_share,
            )
        case StepSchedule():
            milestones = (round(epoch * steps_per_epoch) for epoch in config.milestone_epochs)
            return step_schedule(
                warmup_steps=config.warmup_steps, milestones=milestones, factor=config.factor
            )
        case _:
            assert_never(config)


def build_optimizer(config: OptimiserConfig, module: TrainModule) -> Optimizer:
    """An optimiser over everything that learns; its rate is set before every step."""
    match config:
        case AdamW():
            return build_adamw(
                module,
                lr=config.lr,
                weight_decay=config.weight_decay,
                betas=(config.beta1, config.beta2),
            )
        case Sgd():
            return build_sgd(
                module, lr=config.lr, weight_decay=config.weight_decay, momentum=config.momentum
            )
        case Muon():
            return build_muon(
                module,
                lr=config.lr,
                weight_decay=config.weight_decay,
                momentum=config.momentum,
                betas=(config.beta1, config.beta2),
            )
        case _:
            assert_never(config)


def build_plan(config: RunConfig) -> FitPlan:
    """How long and how often."""
    return FitPlan(
        epochs=config.train.epochs,
        accumulate=config.train.accumulate,
        max_grad_norm=config.train.max_grad_norm,
        seed=config.seed,
        log_every_steps=config.train.log_every_steps,
        save_every_steps=config.checkpoint.every_steps,
        evaluate_every_epochs=config.evaluation.every_epochs,
        evaluate_at_start=config.evaluation.at_start,
    )
