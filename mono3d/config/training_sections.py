"""How a run gets its input, learns, is measured and is kept."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from mono3d.config.section import Section


class InputConfig(Section):
    """How a frame becomes network input."""

    image_height_px: int = Field(448, ge=32)
    """Images are resized to the width, then the lowest rows are kept: above is mostly sky."""
    image_width_px: int = Field(800, ge=32)
    epoch_scales: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Shares of that size in the first epochs, one each: small images teach most per second, and
    depth is focal-normalised, so that what they teach holds (EfficientNetV2, arXiv:2104.00298)."""
    flip_probability: float = Field(0.5, ge=0, le=1)
    """Mirrored training frames."""
    max_zoom: float = Field(1.0, ge=1, le=4)
    """Largest zoom into training frames, at a random place of their width; 1 is none."""
    brightness_jitter: float = Field(0.0, ge=0, le=1)
    """Largest change of brightness, as a share of the full range; 0 is none."""
    contrast_jitter: float = Field(0.0, ge=0, le=1)
    """Largest relative change of contrast; 0 is none."""
    class_balance_threshold: float = Field(0.0, ge=0, le=1)
    """Classes in a smaller share of the frames are drawn more often (LVIS); 0 is off."""
    object_count_exponent: float = Field(0.0, ge=0, le=1)
    """Frames are drawn in proportion to this power of their number of objects; 0 is off."""
    empty_frame_share: float = Field(1.0, ge=0)
    """How often a frame without objects is drawn, relative to one with common objects."""
    paste_frames: int = Field(0, ge=0)
    """Other frames whose objects are pasted into each training frame with their LiDAR points, where
    they collide with nothing (GT sampling); for model.kind=lidar."""
    paste_per_class: int = Field(15, ge=1)
    """Objects of a class that a frame has at most after that."""
    min_points: int = Field(1, ge=0)
    """Objects known to hold fewer LiDAR points are not learnt."""
    max_objects: int = Field(64, ge=1)
    """Labelled boxes kept in one image, the nearest first; of a moment, those first that a camera
    sees."""
    loader_processes: int = Field(0, ge=0)
    """Processes that prepare batches for each worker; 0 prepares in the worker itself."""
    cache_gib: float = Field(50.0, ge=0)
    """Limit of a machine's copies of data in S3; the longest unused go first, 0 keeps none."""


class LossConfig(Section):
    """Kind of the depth loss and factors of all terms."""

    depth_loss: Literal["smooth_l1_log", "smooth_l1_m", "laplace"] = "smooth_l1_log"
    """`laplace` needs model.has_uncertainty. Distributions over depth (model.kind=bev) have a focal
    loss of their own."""
    depth_gamma: float = Field(2.0, ge=0)
    """How fast cells that know their depth lose weight there; 0 is cross entropy."""
    depth_foreground: float = Field(13.0, gt=0)
    """How much more cells inside 2D boxes of objects count there than others."""
    classification: float = Field(1.0, ge=0)
    offset: float = Field(1.0, ge=0)
    depth: float = Field(1.0, ge=0)
    dims: float = Field(1.0, ge=0)
    velocity: float = Field(0.05, ge=0)
    attribute: float = Field(1.0, ge=0)
    depth_map: float = Field(1.0, ge=0)
    """Of the depth of LiDAR points, where model.has_depth_map."""
    centerness: float = Field(1.0, ge=0)
    """This, axis and direction: model.kind=dense."""
    axis: float = Field(1.0, ge=0)
    direction: float = Field(1.0, ge=0)
    heading_bin: float = Field(1.0, ge=0)
    """This, heading_residual, box_2d and the keypoints: model.kind=center."""
    heading_residual: float = Field(1.0, ge=0)
    box_2d: float = Field(0.1, ge=0)
    keypoint_heatmap: float = Field(1.0, ge=0)
    keypoint_offset: float = Field(1.0, ge=0)
    keypoint_rest: float = Field(1.0, ge=0)
    box: float = Field(2.0, ge=0)
    """Of anchors: model.head.kind=anchors."""
    height: float = Field(1.0, ge=0)
    """Of centres above the ground: model.head.kind=centers."""


class AdamW(Section):
    """Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(2e-4, gt=0)
    """For `reference_batch` frames a step; the step's own size scales it in proportion."""
    weight_decay: float = Field(0.01, ge=0)
    """Not applied to norms, biases and scales."""
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)


class Sgd(Section):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(2e-3, gt=0)
    """For `reference_batch` frames a step; the step's own size scales it in proportion."""
    weight_decay: float = Field(1e-4, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)


class Muon(Section):
    """Orthogonal steps for hidden weight matrices and convolutions, AdamW for everything else.

    Learns from fewer images than AdamW from scratch; a step costs more.
    """

    kind: Literal["muon"] = "muon"
    lr: float = Field(2e-3, gt=0)
    """For `reference_batch` frames a step; the step's own size scales it in proportion."""
    weight_decay: float = Field(0.05, ge=0)
    """Not applied to norms, biases and scales."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Of the matrices."""
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)


OptimiserConfig = Annotated[AdamW | Sgd | Muon, Field(discriminator="kind")]


class CosineSchedule(Section):
    """Linear warm-up, then half a cosine down to `final_share`."""

    kind: Literal["cosine"] = "cosine"
    warmup_steps: int = Field(500, ge=0)
    final_share: float = Field(0.01, ge=0, le=1)
    """Learning rate at the end, as a share of the peak."""


class StepSchedule(Section):
    """Linear warm-up, then a drop at each milestone."""

    kind: Literal["step"] = "step"
    warmup_steps: int = Field(500, ge=0)
    milestone_epochs: tuple[float, ...] = (8, 11)
    factor: float = Field(0.1, gt=0, le=1)


ScheduleConfig = Annotated[CosineSchedule | StepSchedule, Field(discriminator="kind")]


class TrainConfig(Section):
    """The loop."""

    epochs: int = Field(12, ge=1)
    epoch_frames: int | None = Field(None, ge=1)
    """Frames drawn for one epoch; None is the length of the training split."""
    batch_size: int = Field(8, ge=1)
    """Frames of one worker and micro-batch."""
    accumulate: int = Field(1, ge=1)
    """Micro-batches to one optimiser step."""
    reference_batch: int = Field(16, ge=1)
    """Frames a step for which the learning rate is meant."""
    max_grad_norm: float = Field(35.0, gt=0)
    init_from: str | None = None
    """Checkpoint or run (folder, s3:// URI or MLflow run id) with whose averaged weights a new run
    starts, as far as they fit; classes are found by name."""
    ema_decay: float = Field(0.999, ge=0, lt=1)
    """Of the averaged weights that evaluation and export use; ramps up from 0 at the start."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """`bfloat16` autocasts the network in training, not losses, mining and evaluation; `auto` does
    so where a GPU computes in it or a processor has matrix units for it (AMX)."""
    log_every_steps: int = Field(10, ge=1)
    """Steps between two crossings of the metrics to the host."""
    threads_per_worker: int | None = Field(None, ge=1)
    """CPU threads of one worker; None leaves the choice to PyTorch."""


class EvaluationConfig(Section):
    """What is measured on the validation split, and how detections are kept."""

    every_epochs: int = Field(1, ge=1)
    """Epochs between two evaluations; the last epoch is always evaluated."""
    at_start: bool = False
    """Evaluate the untrained network too, on all frames: what training has to beat."""
    max_frames: int | None = Field(None, ge=1)
    """Evaluate the first frames only, in evaluations on the way; None is all."""
    batch_size: int = Field(16, ge=1)
    depth_map: bool = True
    """Measure the depth map by LiDAR, where the model has one: data.val_split needs sweeps then."""
    latency: bool = False
    """Also measure val/latency_ms: from a frame on the device to its detections, in batches of
    batch_size, the median over them. It is the machine's too, so runs with it are not repeatable
    to the digit."""
    flip: bool = False
    """Average what the network says of each image and of its mirror image; twice the work."""
    top_k: int = Field(100, ge=1)
    """Boxes of one image before suppression."""
    min_score: float = Field(0.02, ge=0, le=1)
    position_tolerances_m: tuple[PositiveFloat, ...] = ()
    """Scores count how likely the position is within these distances; () leaves that out."""
    assumed_depth_error: float = Field(0.1, gt=0)
    """Relative, for these: Laplace scale of the depth of a detector that predicts none."""
    nms_iou: float = Field(0.2, gt=0, le=1)
    """Overlap in bird's-eye view above which the weaker box of a class is dropped."""


class CheckpointConfig(Section):
    """What is kept of a run."""

    every_steps: int | None = Field(None, ge=1)
    """Also save in the middle of epochs; None saves at their ends."""
    keep: int = Field(2, ge=1)
    """Best checkpoints kept, besides the last."""
    metric: str = "val/nuscenes_map"
    """What best means."""
    mode: Literal["max", "min"] = "max"


class TrackingConfig(Section):
    """MLflow."""

    experiment: str = "mono3d"
    registered_model: str | None = None
    """Name under which the best model is registered; None logs it with the run only."""
    max_figures: int = Field(4, ge=0)
    """Frames drawn with their predictions after the last epoch."""


class ClusterConfig(Section):
    """What the run asks of Ray."""

    workers: int = Field(1, ge=1)
    cpus_per_worker: float = Field(1.0, gt=0)
    gpus_per_worker: float = Field(0.0, ge=0)
    max_failures: int = Field(2, ge=-1)
    """Worker failures that are answered by a restart from the last checkpoint; -1 is no limit."""
    storage: str | None = None
    """Folder or s3:// prefix under which the run's checkpoints lie; None is runs/."""
