"""What a run is. Frozen, closed: an unknown key is an error, and nothing changes after loading.

A choice is a union tagged by `kind`. Documentation stands under each field; units are in names.
"""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from mono3d.config.data_sections import (
    NUSCENES_CLASSES,
    DataConfig,
    KittiFolder,
    MergedData,
    NuScenesFolder,
    has_nuscenes_metrics,
)
from mono3d.config.distillation_sections import (
    AddConfig,
    CmkdConfig,
    DistillationConfig,
    MonoTakdConfig,
    NoDistillation,
)
from mono3d.config.iou_sections import IouLossConfig, NoIouLoss
from mono3d.config.mining_sections import MiningConfig, NoMining
from mono3d.config.model_sections import (
    BevModel,
    DenseModel,
    GridModel,
    ImageModel,
    LidarModel,
    ModelConfig,
    PointModel,
)
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


class RunConfig(Section):
    """A complete run."""

    data: DataConfig
    seed: int = Field(0, ge=0, lt=2**32)
    input: InputConfig = InputConfig()
    model: ModelConfig = DenseModel()
    loss: LossConfig = LossConfig()
    iou_loss: IouLossConfig = NoIouLoss()
    distillation: DistillationConfig = NoDistillation()
    mining: MiningConfig = NoMining()
    optim: OptimiserConfig = AdamW()
    schedule: ScheduleConfig = CosineSchedule()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _agree(self) -> "RunConfig":
        """Settings of different sections that need each other."""
        if isinstance(self.model, GridModel):
            self._check_grid()
        else:
            self._check_points(self.model)
        if isinstance(self.model, BevModel):
            self._check_depth(self.model)
        if isinstance(self.model, LidarModel):
            self._check_lidar()
        self._check_pasting()
        self._check_distillation()
        ground = self.model.ground if isinstance(self.model, ImageModel) else None
        if self.data.kind == "merged" and ground and ground.height_m != 0:
            raise ValueError(
                f"model.ground.height_m={ground.height_m}: is 0 in merged data; each "
                "set's ground_height_m says where its ground is"
            )
        if self.iou_loss.kind != "none" and self.iou_loss.warmup_epochs >= self.train.epochs:
            raise ValueError(
                f"iou_loss.warmup_epochs={self.iou_loss.warmup_epochs:g}: it would never count in "
                f"{self.train.epochs} epochs"
            )
        for benchmark, prefixes in _official_prefixes(self.data).items():
            folder, slash, name = self.checkpoint.metric.rpartition("/")
            if name.startswith(f"{benchmark}_") and folder + slash not in prefixes:
                own = [name for name in self.data.class_names if name not in NUSCENES_CLASSES]
                is_own = own and benchmark == "nuscenes"
                others = f" and class {own[0]}, which nuScenes does not score" if is_own else ""
                raise ValueError(
                    f"checkpoint.metric={self.checkpoint.metric} is not measured with "
                    f"data.kind={self.data.kind}{others}; val/centers_depth_abs_rel with "
                    "mode=min is"
                )
        return self

    def _check_points(self, model: PointModel) -> None:
        if model.num_depth_bins == 1:
            raise ValueError("model.num_depth_bins=1: must be 0 (none) or at least 2")
        if self.loss.depth_loss == "laplace" and not model.has_uncertainty:
            raise ValueError("loss.depth_loss=laplace needs model.has_uncertainty=true")
        if model.has_uncertainty and self.loss.depth_loss != "laplace":
            raise ValueError("model.has_uncertainty=true needs loss.depth_loss=laplace")

    def _check_depth(self, model: BevModel) -> None:
        if model.depth_targets != "none":
            return
        if self.mining.kind != "none":
            raise ValueError(
                f"mining.kind={self.mining.kind}: mines depth in images, and "
                "model.depth_targets=none has it learnt from nothing"
            )
        if model.depth_input != "none":
            raise ValueError(
                f"model.depth_input={model.depth_input}: lifts by true depth, so with "
                "model.depth_targets=none nothing would teach the distribution over depth"
            )

    def _check_distillation(self) -> None:
        on_grid = isinstance(self.distillation, CmkdConfig | MonoTakdConfig)
        if on_grid and not isinstance(self.model, BevModel):
            raise ValueError(
                f"distillation.kind={self.distillation.kind}: compares maps on a grid, which "
                f"model.kind={self.model.kind} does not learn from images; model.kind=bev does"
            )
        if isinstance(self.distillation, MonoTakdConfig):
            self._check_streams(self.distillation)
        begins = getattr(self.distillation, "response_from_epoch", 0)
        if begins >= self.train.epochs:
            raise ValueError(
                f"distillation.response_from_epoch={begins:g}: answers would never be learnt in "
                f"{self.train.epochs} epochs"
            )
        if isinstance(self.distillation, AddConfig):
            key = "lifted_channels" if isinstance(self.model, GridModel) else "channels"
            channels = getattr(self.model, key)
            if channels % self.distillation.heads:
                raise ValueError(
                    f"distillation.heads={self.distillation.heads}: must divide "
                    f"model.{key}={channels}"
                )

    def _check_streams(self, distillation: MonoTakdConfig) -> None:
        assert isinstance(self.model, BevModel)
        if distillation.residual > 0 and not self.model.residual_stream:
            raise ValueError(
                f"distillation.residual={distillation.residual:g}: is learnt by a stream of its "
                "own; needs model.residual_stream=true"
            )
        if distillation.assistant is None and self.model.depth_input != "none":
            raise ValueError(
                f"model.depth_input={self.model.depth_input}: who lifts by true depth is an "
                "assistant itself, and can have none of its own features"
            )

    def _check_pasting(self) -> None:
        if not self.input.paste_frames:
            return
        if not isinstance(self.model, LidarModel):
            raise ValueError(
                f"input.paste_frames={self.input.paste_frames}: pastes LiDAR points and no pixels; "
                f"is for model.kind=lidar, not for model.kind={self.model.kind}"
            )
        if self.data.kind == "merged":
            raise ValueError(
                f"input.paste_frames={self.input.paste_frames}: is for one data set, not for "
                "data.kind=merged"
            )

    def _check_lidar(self) -> None:
        for key, kind in (("mining", self.mining.kind), ("distillation", self.distillation.kind)):
            if kind != "none":
                raise ValueError(
                    f"{key}.kind={kind}: is for detectors that learn depth from images, not for "
                    "model.kind=lidar"
                )

    def _check_grid(self) -> None:
        """What detectors on a grid do not have is refused, and not left out in silence."""
        only_in_images = {
            "mining.kind": (self.mining.kind, self.mining.kind == "lss"),
            "iou_loss.kind": (self.iou_loss.kind, self.iou_loss.kind != "none"),
            "evaluation.flip": ("true", self.evaluation.flip),
            "evaluation.position_tolerances_m": (
                list(self.evaluation.position_tolerances_m),
                bool(self.evaluation.position_tolerances_m),
            ),
            "loss.depth_loss": (
                self.loss.depth_loss,
                self.loss.depth_loss != LossConfig().depth_loss,
            ),
        }
        for key, (value, is_wanted) in only_in_images.items():
            if is_wanted:
                raise ValueError(
                    f"{key}={value}: is for detectors that answer in images, such as "
                    f"model.kind=dense, not for model.kind={self.model.kind}"
                )
        if isinstance(self.data, MergedData):
            self._check_merged_grid(self.data)

    def _check_merged_grid(self, data: MergedData) -> None:
        """Frames of all members go into one batch, and their ground is at one height."""
        assert isinstance(self.model, GridModel)
        cameras = {
            name: len(member.cameras) if isinstance(member, NuScenesFolder) else 1
            for name, member in data.sets.items()
        }
        if len(set(cameras.values())) > 1:
            told = ", ".join(f"{name} {count}" for name, count in cameras.items())
            raise ValueError(
                f"model.kind={self.model.kind}: frames of all data.sets must have as many cameras: "
                f"{told}"
            )
        for name, member in data.sets.items():
            if cameras[name] > 1 and member.ground_height_m != 0:
                raise ValueError(
                    f"data.sets.{name}.ground_height_m={member.ground_height_m:g}: frames of "
                    "several cameras are measured in their own bev frame, whose ground is at 0"
                )
        if self.model.grid.ground_height_m != 0:
            raise ValueError(
                f"model.grid.ground_height_m={self.model.grid.ground_height_m:g}: is 0 in merged "
                "data; each set's ground_height_m says where its ground is"
            )


def _official_prefixes(data: DataConfig) -> dict[str, set[str]]:
    """What the names of a benchmark's metrics begin with, in a run on these data."""
    folders: dict[str, NuScenesFolder | KittiFolder]
    if isinstance(data, MergedData):
        folders = {f"val/{k}/": v for k, v in data.sets.items() if v.val_split is not None}
    else:
        folders = {"val/": data}
    return {
        "nuscenes": {p for p, f in folders.items() if has_nuscenes_metrics(f, data.class_names)},
        "kitti": {p for p, f in folders.items() if isinstance(f, KittiFolder)},
    }
