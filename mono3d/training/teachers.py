"""Who teaches a run: found by the process that starts it, and checked against the student.

No weights are read here, and no network is imported: drivers and actors start quickly.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from mono3d.config.data_sections import DataConfig, MergedData
from mono3d.config.distillation_sections import (
    AddConfig,
    DistillationConfig,
    MonoTakdConfig,
    NoDistillation,
)
from mono3d.config.load import flatten_tree, parse
from mono3d.config.model_sections import LidarModel, ModelConfig
from mono3d.config.schema import RunConfig
from mono3d.data.loaders import DepthSource
from mono3d.errors import ConfigError, Mono3dError
from mono3d.training.checkpoint import EMA, CheckpointMetadata, read_metadata
from mono3d.training.checkpoint_files import digest
from mono3d.training.run_record import read_result, resolve_checkpoint

_SHARED_KEYS = ("kind", "strides_px", "stride_px", "depth_code", "depth_bins", "grid", "head")
"""Of `model`: what two detectors must have in common whose answers are compared point by point."""
_SHARED_ON_GRID = ("grid", "head", "lifted_channels")
"""What a camera's and a LiDAR's detector must."""
_SHARED_MAP = ("grid", "lifted_channels")
"""What a student and its assistant must."""
_SHARED_TO_START = ("bev_channels", "bev_layers")
"""And if one starts from the other's weights."""
TEACHER, ASSISTANT = "teacher", "assistant"
"""Keys of `distillation` that name who teaches."""
_WITH_ARTICLE = {TEACHER: "a teacher", ASSISTANT: "an assistant"}


def with_teacher_found(config: RunConfig, location: str | None = None) -> RunConfig:
    """The same run with its teacher's checkpoint named by its location.

    A run's best checkpoint may change and an MLflow run id must be asked for, so a teacher is
    looked up once, by the process that starts the run.

    Args:
        config: Of the run.
        location: Of the run's folder: a run that is finished needs its teacher no more.

    Raises:
        ConfigError: `distillation.teacher` names nothing, or none that could teach this run.
        CheckpointError: What it names is no checkpoint.
        StorageError: The store cannot be asked.
    """
    distillation = config.distillation
    if isinstance(distillation, NoDistillation):
        return config
    if location is not None and read_result(location) is not None:
        return config
    found = {}
    for role, name in _teachers(distillation).items():
        with naming(role, name):
            found[role] = resolve_checkpoint(name)
    resolved = distillation.model_copy(update=found)
    config = config.model_copy(update={"distillation": resolved})
    teacher_facts(config)
    return config


def _teachers(distillation: DistillationConfig) -> dict[str, str]:
    """Key → value of those who teach, the teacher first."""
    match distillation:
        case NoDistillation():
            return {}
        case MonoTakdConfig(assistant=str() as assistant):
            return {TEACHER: distillation.teacher, ASSISTANT: assistant}
        case _:
            return {TEACHER: distillation.teacher}


@contextmanager
def naming(role: str, name: str) -> Iterator[None]:
    """Say which key a checkpoint came from when it cannot be used."""
    try:
        yield
    except Mono3dError as error:
        raise type(error)(
            f"distillation.{role}={name}: {error}; {_WITH_ARTICLE[role]} is trained first, see "
            "docs/distillation.md"
        ) from error


@dataclass(frozen=True, kw_only=True)
class TeacherFacts:
    """What a run's teacher or assistant is, without its weights."""

    role: str
    """Its key in `distillation`."""
    location: str
    config: RunConfig
    metadata: CheckpointMetadata
    fingerprint: str
    """Of its averaged weights."""

    @property
    def named(self) -> str:
        """Key and value, for errors."""
        return f"distillation.{self.role}={self.location}"

    def as_data(self) -> dict[str, Any]:
        """What a checkpoint of the student says of it."""
        return {
            "checkpoint": self.location,
            "step": self.metadata.step,
            "fingerprint": self.fingerprint,
            "data": dict(self.metadata.data),
        }


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """Who teaches a run, and what of its batches they read."""

    by_role: Mapping[str, TeacherFacts]
    depth: DepthSource | None
    """True depth as a map."""
    reads_points: bool
    """LiDAR points themselves."""

    @property
    def needs_lidar(self) -> bool:
        """Whether training must read sweeps."""
        return self.reads_points or self.depth == "lidar"

    @property
    def fingerprint(self) -> str:
        """Of all their weights."""
        known = [facts.fingerprint for facts in self.by_role.values()]
        return known[0] if len(known) == 1 else sha256("".join(known).encode()).hexdigest()

    def as_data(self) -> dict[str, Any]:
        """What a checkpoint of the student says of each."""
        return {role: facts.as_data() for role, facts in self.by_role.items()}


def depth_source(config: RunConfig) -> DepthSource | None:
    """The true depth that a run's own network reads."""
    return None if config.model.depth_input == "none" else config.model.depth_input


def teacher_facts(config: RunConfig) -> Teaching | None:
    """Who teaches a run; None where nobody does. Weights are not read.

    Raises:
        ConfigError: Teacher and student do not fit each other or the data.
        CheckpointError: It is no whole checkpoint, or not of this version.
        StorageError: The store cannot be asked.
    """
    distillation = config.distillation
    if isinstance(distillation, NoDistillation):
        return None
    by_role = {}
    for role, location in _teachers(distillation).items():
        with naming(role, location):
            metadata = read_metadata(location)
            by_role[role] = TeacherFacts(
                role=role,
                location=location,
                config=parse(metadata.config, source=location),
                metadata=metadata,
                fingerprint=digest(location, EMA),
            )
    _check_fit(by_role, config)
    depths = [depth_source(facts.config) for facts in by_role.values()]
    if isinstance(distillation, MonoTakdConfig) and distillation.assistant is None:
        depths.append(distillation.assistant_depth)
    return Teaching(
        by_role=by_role,
        depth=next((depth for depth in depths if depth is not None), None),
        reads_points=any(isinstance(f.config.model, LidarModel) for f in by_role.values()),
    )


def _check_fit(by_role: Mapping[str, TeacherFacts], student: RunConfig) -> None:
    teacher = by_role[TEACHER]
    if isinstance(student.distillation, AddConfig):
        _check_answers_alike(teacher, student, _SHARED_KEYS)
        _check_can_read(teacher, student)
        return
    if not isinstance(teacher.config.model, LidarModel):
        raise ConfigError(
            f"{teacher.named}: has model.kind={teacher.config.model.kind}; this teacher reads "
            "LiDAR points: model.kind=lidar"
        )
    keys: tuple[str, ...] = _SHARED_ON_GRID
    if getattr(student.distillation, "start_from_teacher", False):
        keys += _SHARED_TO_START
    _check_answers_alike(teacher, student, keys)
    distillation = student.distillation
    if ASSISTANT not in by_role and getattr(distillation, "assistant_depth", None) == "objects":
        _check_has_labels(student.data, "distillation.assistant_depth=objects")
    if ASSISTANT in by_role:
        _check_answers_alike(by_role[ASSISTANT], student, ("kind", *_SHARED_MAP))
        _check_can_read(by_role[ASSISTANT], student)


def _check_answers_alike(teacher: TeacherFacts, student: RunConfig, keys: Sequence[str]) -> None:
    """Both mean the same by their answers or maps: classes, sizes, and some keys of `model`."""
    theirs = teacher.config
    if theirs.data.class_names != student.data.class_names:
        raise ConfigError(
            f"{teacher.named}: its classes are {[*theirs.data.class_names]}, this run's "
            f"{[*student.data.class_names]}"
        )
    if theirs.data.mean_dims_hwl != student.data.mean_dims_hwl:
        raise ConfigError(f"{teacher.named}: has other data.mean_dims_hwl; they must be equal")
    first, second = (_shared(model, keys) for model in (student.model, theirs.model))
    for key in [*first, *(second.keys() - first.keys())]:  # the kind comes first
        if key == "head.has_quality":
            continue  # how scores are learnt, not what they are
        if second.get(key) != first.get(key):
            raise ConfigError(
                f"{teacher.named}: has model.{key}={second.get(key)}, this run {first.get(key)}; "
                "they must be equal"
            )


def _check_can_read(teacher: TeacherFacts, student: RunConfig) -> None:
    """The student's batches can carry what the teacher reads."""
    own, theirs = depth_source(student), depth_source(teacher.config)
    if theirs is None:
        raise ConfigError(
            f"{teacher.named}: has model.depth_input=none; {_WITH_ARTICLE[teacher.role]} reads "
            "true depth"
        )
    if own not in {None, theirs}:
        raise ConfigError(
            f"model.depth_input={own}: {teacher.named} reads {theirs}, and a batch carries one of "
            "them"
        )
    if theirs == "objects":
        _check_has_labels(student.data, teacher.named)


def _check_has_labels(data: DataConfig, named: str) -> None:
    """Of all sets, for who reads the depth of labelled objects."""
    for name, member in data.sets.items() if isinstance(data, MergedData) else ():
        if not member.has_labels and member.pseudo_labels is None:
            raise ConfigError(
                f"data.sets.{name}.has_labels=false: {named} reads the depth of labelled objects, "
                "and would teach that there are none"
            )


def _shared(model: ModelConfig, keys: Sequence[str]) -> Mapping[str, str]:
    return flatten_tree({k: v for k, v in model.model_dump(mode="json").items() if k in keys})
