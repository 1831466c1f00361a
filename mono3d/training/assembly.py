"""From a config to live parts: with `datasets` and `objective_assembly` all that knows both."""

from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np
import torch
from torch.optim import Optimizer

from mono3d.codec.detector_codec import DetectorCodec
from mono3d.config.model_sections import BevModel, LidarModel
from mono3d.config.schema import RunConfig
from mono3d.config.training_sections import (
    AdamW,
    CosineSchedule,
    Muon,
    OptimiserConfig,
    ScheduleConfig,
    Sgd,
    StepSchedule,
)
from mono3d.data.augment import Augmentation, ColourJitter
from mono3d.data.gt_sampling import HasLidarObjects, ObjectPaster
from mono3d.data.loaders import BatchLoader, DepthSource, Preparation
from mono3d.data.merged import MergedDataset
from mono3d.data.sampling import FrameDataset, Sampling, class_balanced_shares
from mono3d.errors import ConfigError
from mono3d.training.distillation_assembly import build_distiller
from mono3d.training.loop import FitPlan
from mono3d.training.model_assembly import build_codec, build_model
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
from mono3d.training.teachers import Teaching, depth_source
from mono3d.training.train_module import TrainModule


def image_size(config: RunConfig) -> tuple[int, int]:
    """Height and width of the network's input, pixels."""
    return config.input.image_height_px, config.input.image_width_px


def build_train_module(config: RunConfig, device: torch.device | str = "cpu") -> TrainModule:
    """Student, objective and distiller, with the same weights on every device."""
    torch.manual_seed(config.seed)
    student, codec = build_model(config), build_codec(config)
    precision = autocast_dtype(config.train.precision, torch.device(device))
    distiller = build_distiller(config, student, codec, autocast_dtype=precision)
    module = TrainModule(
        student,
        build_objective(config, codec),
        None if distiller is None else distiller.to(device),
        autocast_dtype=precision,
    )
    return module.to(device)


def build_preparation(
    config: RunConfig,
    codec: DetectorCodec,
    *,
    training: bool,
    with_depth: bool | None = None,
    teacher: Teaching | None = None,
) -> Preparation:
    """What a loader does with a frame; only training frames are augmented.

    Args:
        config: Of the run.
        codec: The network's.
        training: Whether frames are to be learnt.
        with_depth: Whether maps of true depth come with them, in evaluation of LiDAR; None: as
            training needs it.
        teacher: Who needs true depth or points, beside what the network itself does.
    """
    targets: DepthSource | None = None
    if with_depth or (with_depth is None and training):
        targets = depth_targets(config) if training else "lidar"
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
    reads_points = isinstance(config.model, LidarModel)
    reads_points |= teacher is not None and teacher.reads_points
    return Preparation(
        image_size=image_size(config),
        encode=codec.encode if training else codec.encode_to_read,
        augmentation=augmentation,
        epoch_scales=config.input.epoch_scales if training else (),
        only_points_in_view=reads_points,
        max_objects=config.input.max_objects,
        depth_input=(None if teacher is None else teacher.depth) or depth_source(config),
        depth_targets=targets,
        depth_target_stride=codec.depth_stride,
    )


def depth_targets(config: RunConfig) -> DepthSource | None:
    """The true depth that a run's detector learns at the cells of its images."""
    model = config.model
    if isinstance(model, BevModel):
        return None if model.depth_targets == "none" else model.depth_targets
    return "lidar" if model.learns_lidar_depth else None


def build_loader(
    config: RunConfig,
    dataset: FrameDataset,
    *,
    rank: int,
    world_size: int,
    teacher: Teaching | None = None,
) -> BatchLoader:
    """Training batches of one rank; `teacher` as in `build_preparation`."""
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
    preparation = build_preparation(config, build_codec(config), training=True, teacher=teacher)
    if config.input.paste_frames:
        preparation = replace(preparation, paste=build_paster(config, dataset))
    return BatchLoader(dataset, preparation, sampling, num_workers=config.input.loader_processes)


def build_paster(config: RunConfig, dataset: FrameDataset) -> ObjectPaster:
    """GT sampling from the training split itself."""
    assert isinstance(dataset, HasLidarObjects)  # a config with merged data is refused
    labels = [dataset.frame_labels(index) for index in range(len(dataset))]
    frames_of_class = {
        number: np.array([i for i, own in enumerate(labels) if own is not None and number in own])
        for number in range(len(config.data.class_names))
    }
    return ObjectPaster(
        source=dataset,
        frames_of_class={
            number: frames for number, frames in frames_of_class.items() if len(frames)
        },
        num_frames=config.input.paste_frames,
        per_class=config.input.paste_per_class,
    )


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
