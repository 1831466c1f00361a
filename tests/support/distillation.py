"""Distillers on small detectors of every family, one row each; a new method adds its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mono3d.codec.anchors import AnchorCodec
from mono3d.codec.bev_center import BevCenterCodec
from mono3d.codec.point_codec import PointCodec
from mono3d.model.bev_detector import BevDetector
from mono3d.model.center_detector import CenterDetector
from mono3d.model.dense_detector import DenseDetector
from mono3d.model.lidar_detector import LidarDetector
from mono3d.objectives.distillation.add import AddDistiller, AddSettings
from mono3d.objectives.distillation.cmkd import CmkdDistiller, CmkdSettings
from mono3d.objectives.distillation.monotakd import MonoTakdDistiller, MonoTakdSettings
from mono3d.objectives.distillation.protocol import Distiller, FrozenTeacher
from mono3d.objectives.distillation.soft_boxes import SoftBoxes
from mono3d.structures import Batch, Frame
from tests.support.bev import (
    Head,
    make_bev_batch,
    make_bev_codec,
    make_bev_detector,
    make_lidar_detector,
)
from tests.support.detectors import make_center_detector, make_detector
from tests.support.frames import (
    NUM_CLASSES,
    make_batch,
    make_center_codec,
    make_codec,
    surround_frame,
)

Detector = DenseDetector | CenterDetector | BevDetector
Codec = PointCodec | AnchorCodec | BevCenterCodec


@dataclass(frozen=True)
class Pair:
    """A student with the method that teaches it."""

    student: Detector
    teacher: Detector | LidarDetector
    codec: Codec
    distiller: Distiller

    def moment(self, seed: int, *, is_labelled: bool = True) -> Batch:
        """One moment of six cameras, with depth for the teacher."""
        return self._prepared([surround_frame(seed, is_labelled=is_labelled)])

    def moments(self) -> Batch:
        """A labelled one and one without labels."""
        return self._prepared([surround_frame(0), surround_frame(1, is_labelled=False)])

    def batch(self, *, seed: int = 0, is_labelled: bool = True) -> Batch:
        """Two moments of six cameras, with depth for the teacher."""
        return self._prepared([surround_frame(seed + i, is_labelled=is_labelled) for i in range(2)])

    def _prepared(self, frames: Sequence[Frame]) -> Batch:
        if isinstance(self.codec, PointCodec):
            return make_batch(frames, self.codec, depth_input="lidar")
        return make_bev_batch(frames, self.codec, depth_input="lidar")


def add_settings(**changes: object) -> AddSettings:
    """All parts of ADD on."""
    settings: dict[str, object] = {
        "feature": 1.0, "object": 1.0, "response": 1.0, "features": (),
        "responses": ("log_depth", "offset", "log_dims"), "background": 0.25, "encoding": "point",
        "self_attention": True, "cross_attention": True, "heads": 2, "attention_stride_px": 16,
    }  # fmt: skip
    return AddSettings(**(settings | changes))  # type: ignore[arg-type]


def add_on_dense(**changes: object) -> Pair:
    """ADD on the dense detector; its maps have strides below, at and above the attention's."""
    return _add(make_detector(), make_detector(seed=1, reads_depth=True), make_codec(), changes)


def add_on_center(**changes: object) -> Pair:
    """ADD on the center detector."""
    student, teacher = make_center_detector(), make_center_detector(seed=1, reads_depth=True)
    return _add(student, teacher, make_center_codec(), changes)


def add_on_grid(head: Head, **changes: object) -> Pair:
    """ADD on the detector in bird's-eye view."""
    student, teacher = make_bev_detector(head), make_bev_detector(head, seed=1, depth_use="lift")
    regressions = ("box_residuals",) if head == "anchors" else ("offset", "height", "log_dims")
    settings = {"responses": regressions, "attention_stride_px": 4, **changes}
    return _add(student, teacher, make_bev_codec(head), settings)


def cmkd(head: Head, **changes: object) -> Pair:
    """CMKD from pillars, with a self-calibrated block in the student."""
    student = make_bev_detector(head, adaptation="blocks")
    teacher, codec = make_lidar_detector(head, seed=1), make_bev_codec(head)
    settings: dict[str, object] = {
        "feature": 32.0, "classes": 2.0, "box": 2.0, "direction": 0.4, "empty_weight": 1.0,
        "response_from_epoch": 0.0,
    }  # fmt: skip
    distiller = CmkdDistiller(
        CmkdSettings(**(settings | changes)),  # type: ignore[arg-type]
        teacher=FrozenTeacher(teacher),
        # An untrained teacher is sure of nothing: its probabilities start at a hundredth.
        soft_boxes=SoftBoxes.on(codec, class_threshold=0.01, box_threshold=0.02),
        student_features=student.features,
        teacher_features=teacher.features,
    )
    return Pair(student.train(), teacher, codec, distiller)


def monotakd(head: Head, *, shares: bool = False, lite: bool = False, **changes: object) -> Pair:
    """MonoTAKD from pillars, through an assistant of its own or of the student's features."""
    student = make_bev_detector(
        head,
        depth_use="assist" if shares else "none",
        adaptation="none" if lite else "stream",
    )
    teacher, codec = make_lidar_detector(head, seed=1), make_bev_codec(head)
    assistant = None if shares else make_bev_detector(head, seed=2, depth_use="lift")
    settings: dict[str, object] = {
        "intra": 1.0, "residual": 0.0 if lite else 1.0, "direct": 0.0, "assistant_weight": 1.0,
        "classes": 2.0, "box": 2.0, "direction": 4.0, "normalisation": "standardise",
        "residual_threshold": 0.6,
    }  # fmt: skip
    torch.manual_seed(3)
    distiller = MonoTakdDistiller(
        MonoTakdSettings(**(settings | changes)),  # type: ignore[arg-type]
        teacher=FrozenTeacher(teacher),
        assistant=None if assistant is None else FrozenTeacher(assistant),
        soft_boxes=SoftBoxes.on(codec, class_threshold=0.01, box_threshold=0.02),
        student_features=student.features,
        teacher_features=teacher.features,
    )
    return Pair(student.train(), teacher, codec, distiller)


def _add(student: Detector, teacher: Detector, codec: Codec, changes: Mapping[str, object]) -> Pair:
    torch.manual_seed(2)
    distiller = AddDistiller(
        add_settings(**({"features": student.told_features} | dict(changes))),
        teacher=FrozenTeacher(teacher),
        codec=codec,
        student_features=student.features,
        teacher_features=teacher.features,
        num_classes=NUM_CLASSES,
    )
    return Pair(student.train(), teacher, codec, distiller)


PAIRS: Mapping[str, Callable[[], Pair]] = {
    "add, dense": add_on_dense,
    "add, center": add_on_center,
    "add, anchors on a grid": lambda: add_on_grid("anchors"),
    "add, centres on a grid": lambda: add_on_grid("centers"),
    "add, images of a grid": lambda: add_on_grid("centers", features=("neck_8",), encoding="ray"),
    "cmkd, anchors": lambda: cmkd("anchors"),
    "cmkd, centres": lambda: cmkd("centers", empty_weight=0.05, direction=4.0),
    "monotakd, anchors": lambda: monotakd("anchors"),
    "monotakd, centres": lambda: monotakd("centers", normalisation="range", direct=1.0),
    "monotakd, shared": lambda: monotakd("anchors", shares=True),
    "monotakd, lite": lambda: monotakd("anchors", lite=True),
    "add by rays": lambda: add_on_dense(encoding="ray"),
    "add without encoding": lambda: add_on_dense(encoding="none"),
    "add without self-attention": lambda: add_on_dense(self_attention=False),
    "add without cross-attention": lambda: add_on_dense(cross_attention=False),
    "add of objects alone": lambda: add_on_dense(feature=0.0, response=0.0, self_attention=False),
    "add of responses alone": lambda: add_on_dense(feature=0.0, object=0.0),
}


def gradients(pair: Pair) -> dict[str, Tensor]:
    """Of the student's parameters that have one."""
    named = pair.student.named_parameters()
    return {name: p.grad for name, p in named if p.grad is not None}
