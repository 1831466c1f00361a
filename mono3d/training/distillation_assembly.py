"""From a config to a distiller: its teacher from a checkpoint, its adapters for a student."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import torch

from mono3d.codec.point_codec import PointCodec
from mono3d.config.distillation_sections import AddConfig, NoDistillation
from mono3d.config.load import flatten_tree, parse
from mono3d.config.schema import CenterModel, DenseModel, RunConfig
from mono3d.errors import ConfigError
from mono3d.model.center_detector import CenterDetector
from mono3d.model.dense_detector import DenseDetector
from mono3d.objectives.distillation.add import AddDistiller, AddSettings, Features
from mono3d.objectives.distillation.protocol import Distiller, FrozenTeacher
from mono3d.training.checkpoint import EMA, CheckpointMetadata, read_metadata
from mono3d.training.checkpoint_files import digest
from mono3d.training.model_assembly import load_network
from mono3d.training.run_record import resolve_checkpoint

DepthInput = Literal["none", "lidar", "objects"]

_NECK = "neck_"
_SHARED_KEYS = ("kind", "strides_px", "stride_px", "depth_code")
"""Of `model`: what two detectors must have in common whose answers are compared point by point."""


def with_teacher_found(config: RunConfig) -> RunConfig:
    """The same run with its teacher's checkpoint named by its location.

    A run's best checkpoint may change and an MLflow run id must be asked for, so a teacher is
    looked up once, by the process that starts the run.

    Raises:
        ConfigError: `distillation.teacher` names nothing.
        CheckpointError: What it names is no checkpoint.
        StorageError: The store cannot be asked.
    """
    distillation = config.distillation
    if isinstance(distillation, NoDistillation):
        return config
    location = resolve_checkpoint(distillation.teacher)
    found = distillation.model_copy(update={"teacher": location})
    return config.model_copy(update={"distillation": found})


@dataclass(frozen=True, kw_only=True)
class TeacherFacts:
    """What a run's teacher is, without its weights."""

    location: str
    config: RunConfig
    metadata: CheckpointMetadata
    fingerprint: str
    """Of its averaged weights."""

    @property
    def depth_input(self) -> DepthInput:
        """The true depth that it reads."""
        return self.config.model.depth_input

    def as_data(self) -> dict[str, Any]:
        """What a checkpoint of the student says of it."""
        return {
            "checkpoint": self.location,
            "step": self.metadata.step,
            "fingerprint": self.fingerprint,
            "data": dict(self.metadata.data),
        }


def teacher_facts(config: RunConfig) -> TeacherFacts | None:
    """What teaches a run; None where nothing does.

    Raises:
        CheckpointError: It is no whole checkpoint, or not of this version.
        StorageError: The store cannot be asked.
    """
    distillation = config.distillation
    if isinstance(distillation, NoDistillation):
        return None
    location = distillation.teacher
    metadata = read_metadata(location)
    return TeacherFacts(
        location=location,
        config=parse(metadata.config, source=location),
        metadata=metadata,
        fingerprint=digest(location, EMA),
    )


def depth_input(config: RunConfig, teacher: TeacherFacts | None) -> DepthInput:
    """The true depth that training batches must carry, for the network itself or its teacher.

    Raises:
        ConfigError: They want different ones.
    """
    own = config.model.depth_input
    if teacher is None or teacher.depth_input in ("none", own):
        return own
    if own == "none":
        return teacher.depth_input
    raise ConfigError(
        f"model.depth_input={own}: the teacher {teacher.location} reads {teacher.depth_input}, and "
        "a batch carries one of them"
    )


def build_distiller(
    config: RunConfig,
    student: DenseDetector | CenterDetector,
    codec: PointCodec,
    *,
    autocast_dtype: torch.dtype | None,
) -> Distiller | None:
    """The method of a run's config, with its teacher's weights read.

    Args:
        config: Of the run.
        student: Who learns.
        codec: Of the student.
        autocast_dtype: What the teacher computes in, as the student does.

    Raises:
        ConfigError: Teacher and student do not fit each other.
        CheckpointError: The teacher's checkpoint is incomplete, damaged or of another architecture.
        StorageError: The store cannot be asked.
    """
    distillation = config.distillation
    match distillation:
        case NoDistillation():
            return None
        case AddConfig():
            teacher_config, network = load_network(distillation.teacher, device="cpu")
            _check_answers_alike(teacher_config, config, distillation.teacher)
            teacher = FrozenTeacher(network, autocast_dtype=autocast_dtype)
            return _add(config, distillation, student, codec, teacher, network.features)
        case _:
            assert_never(distillation)


def _add(
    config: RunConfig,
    distillation: AddConfig,
    student: DenseDetector | CenterDetector,
    codec: PointCodec,
    teacher: FrozenTeacher,
    teacher_features: Features,
) -> AddDistiller:
    if student.trunk.channels % distillation.heads:
        raise ConfigError(
            f"distillation.heads={distillation.heads}: must divide "
            f"model.channels={config.model.channels}"
        )
    unknown = [name for name in distillation.responses if name not in student.responses]
    if unknown:
        known = ", ".join(student.responses)
        raise ConfigError(
            f"distillation.responses: {unknown[0]!r} is none of this detector's: {known}"
        )
    features = distillation.features or tuple(n for n in student.features if n.startswith(_NECK))
    settings = distillation.model_dump(exclude={"kind", "teacher", "features"})
    return AddDistiller(
        AddSettings(**settings, features=features),
        teacher=teacher,
        codec=codec,
        student_features=student.features,
        teacher_features=teacher_features,
        num_classes=len(config.data.class_names),
    )


def _check_answers_alike(teacher: RunConfig, student: RunConfig, where: str) -> None:
    """Teacher and student say the same things at the same points."""
    if teacher.data.class_names != student.data.class_names:
        raise ConfigError(
            f"distillation.teacher={where}: its classes are {[*teacher.data.class_names]}, "
            f"this run's {[*student.data.class_names]}"
        )
    if teacher.data.mean_dims_hwl != student.data.mean_dims_hwl:
        raise ConfigError(
            f"distillation.teacher={where}: has other data.mean_dims_hwl; they must be equal"
        )
    theirs, ours = (_shared(config.model) for config in (teacher, student))
    for key in [*ours, *(theirs.keys() - ours.keys())]:  # the kind comes first
        if theirs.get(key) != ours.get(key):
            raise ConfigError(
                f"distillation.teacher={where}: has model.{key}={theirs.get(key)}, this run "
                f"{ours.get(key)}; they must be equal"
            )
    if teacher.model.depth_input == "none":
        raise ConfigError(
            f"distillation.teacher={where}: has model.depth_input=none; a teacher reads true depth"
        )


def _shared(model: DenseModel | CenterModel) -> Mapping[str, str]:
    return flatten_tree(
        {k: v for k, v in model.model_dump(mode="json").items() if k in _SHARED_KEYS}
    )
