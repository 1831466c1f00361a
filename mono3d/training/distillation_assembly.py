"""From a config to a distiller: its teacher from a checkpoint, its adapters for a student."""

from dataclasses import fields
from typing import Any, assert_never

import torch

from mono3d.codec.bev_codec import BevCodec
from mono3d.codec.detector_codec import DetectorCodec
from mono3d.config.distillation_sections import (
    AddConfig,
    CmkdConfig,
    MonoTakdConfig,
    NoDistillation,
)
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError
from mono3d.objectives.distillation.add import AddDistiller, AddSettings, Features
from mono3d.objectives.distillation.cmkd import CmkdDistiller, CmkdSettings
from mono3d.objectives.distillation.monotakd import MonoTakdDistiller, MonoTakdSettings
from mono3d.objectives.distillation.protocol import Distiller, FrozenTeacher
from mono3d.objectives.distillation.soft_boxes import SoftBoxes
from mono3d.training.model_assembly import Detector, load_network
from mono3d.training.teachers import ASSISTANT, TEACHER, naming

_STARTED_PARTS = ("bev_net", "head")


def build_distiller(
    config: RunConfig,
    student: Detector,
    codec: DetectorCodec,
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
            network = _load(TEACHER, distillation.teacher)
            teacher = FrozenTeacher(network, autocast_dtype=autocast_dtype)
            return _add(config, distillation, student, codec, teacher, network.features)
        case CmkdConfig() | MonoTakdConfig():
            assert isinstance(codec, BevCodec)  # the config says so
            return _on_grid(distillation, student, codec, autocast_dtype)
        case _:
            assert_never(distillation)


def _load(role: str, location: str) -> Detector:
    with naming(role, location):
        return load_network(location, device="cpu")[1]


def _on_grid(
    distillation: CmkdConfig | MonoTakdConfig,
    student: Detector,
    codec: BevCodec,
    autocast_dtype: torch.dtype | None,
) -> CmkdDistiller | MonoTakdDistiller:
    """A method that learns a LiDAR network's map on the grid."""
    network = _load(TEACHER, distillation.teacher)
    if distillation.start_from_teacher:
        _start_from(network, student)
    parts: dict[str, Any] = {
        "teacher": FrozenTeacher(network, autocast_dtype=autocast_dtype),
        "soft_boxes": SoftBoxes.on(
            codec,
            class_threshold=distillation.class_threshold,
            box_threshold=distillation.box_threshold,
        ),
        "student_features": student.features,
        "teacher_features": network.features,
    }
    if isinstance(distillation, CmkdConfig):
        names = {field.name for field in fields(CmkdSettings)}
        return CmkdDistiller(CmkdSettings(**distillation.model_dump(include=names)), **parts)
    names = {field.name for field in fields(MonoTakdSettings)}
    assistant = None
    if distillation.assistant is not None:
        own = _load(ASSISTANT, distillation.assistant)
        assistant = FrozenTeacher(own, autocast_dtype=autocast_dtype)
    settings = MonoTakdSettings(**distillation.model_dump(include=names))
    return MonoTakdDistiller(settings, assistant=assistant, **parts)


def _start_from(teacher: Detector, student: Detector) -> None:
    """Copy the network and the head on the grid; a checkpoint that is loaded later wins."""
    for name in _STARTED_PARTS:
        student.get_submodule(name).load_state_dict(teacher.get_submodule(name).state_dict())


def _add(
    config: RunConfig,
    distillation: AddConfig,
    student: Detector,
    codec: DetectorCodec,
    teacher: FrozenTeacher,
    teacher_features: Features,
) -> AddDistiller:
    unknown = [name for name in distillation.responses if name not in student.responses]
    if unknown:
        known = ", ".join(student.responses)
        raise ConfigError(
            f"distillation.responses: {unknown[0]!r} is none of this detector's: {known}"
        )
    features = distillation.features or student.told_features
    settings = distillation.model_dump(exclude={"kind", "teacher", "features"})
    try:
        return AddDistiller(
            AddSettings(**settings, features=features),
            teacher=teacher,
            codec=codec,
            student_features=student.features,
            teacher_features=teacher_features,
            num_classes=len(config.data.class_names),
        )
    except ConfigError as error:
        raise ConfigError(f"distillation.features: {error}") from error
