"""What a run is. Frozen, closed: an unknown key is an error, and nothing changes after loading.

A choice is a union tagged by `kind`. Documentation stands under each field; units are in names.
"""

from pydantic import Field, model_validator

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
from mono3d.config.training_sections import (
    AdamW,
    CheckpointConfig,
    ClusterConfig,
    CosineSchedule,
    EvaluationConfig,
    InputConfig,
    LossConfig,
    OptimiserConfig,
    ScheduleConfig,
    TrackingConfig,
    TrainConfig,
)


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
