"""CMKD: a LiDAR network's map and answers in bird's-eye view, learnt from images.

Source: Hong et al., "Cross-Modality Knowledge Distillation Network for Monocular 3D Object
Detection", ECCV 2022 (arXiv:2211.07171). Losses, thresholds and factors are those of its public
code for anchors (SECOND, PointPillars); its self-calibrated blocks are `model.self_calibrated`, in
the student. Ours: both stages are epochs of one run, means are over the frames of a step, and
labels may teach beside the teacher (in the authors' runs nothing but depth did).

    feature = mean over channels and cells of (F_s - F_t)^2
    classes, box, direction: see `soft_boxes`
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mono3d.codec.bev_codec import LIFTED, PILLARS
from mono3d.objectives.distillation.protocol import FrozenTeacher, require_features
from mono3d.objectives.distillation.soft_boxes import SoftBoxes
from mono3d.objectives.protocol import StepContext
from mono3d.structures import Batch, LossTerms, Predictions


@dataclass(frozen=True, kw_only=True)
class CmkdSettings:
    """Factors and stages; see `CmkdConfig`."""

    feature: float
    classes: float
    box: float
    direction: float
    empty_weight: float
    response_from_epoch: float


class CmkdDistiller:
    """CMKD as a `Distiller`; nothing of it remains in the student."""

    def __init__(
        self,
        settings: CmkdSettings,
        *,
        teacher: FrozenTeacher,
        soft_boxes: SoftBoxes,
        student_features: Mapping[str, tuple[int, int]],
        teacher_features: Mapping[str, tuple[int, int]],
    ) -> None:
        """Keep the parts.

        Args:
            settings: Of the method.
            teacher: Answers on the student's grid.
            soft_boxes: Compares answers.
            student_features: Declared by the student.
            teacher_features: Declared by the teacher.

        Raises:
            ConfigError: One of them has no map on the grid.
        """
        require_features(student_features, [LIFTED], whose="the network")
        require_features(teacher_features, [LIFTED, PILLARS], whose="its teacher")
        self._settings = settings
        self._teacher = teacher
        self._soft_boxes = soft_boxes
        self.adapters: nn.Module = nn.Module()

    def to(self, device: torch.device | str) -> "CmkdDistiller":
        """Move the teacher; returns itself."""
        self._teacher.to(device)
        return self

    def losses(self, batch: Batch, student: Predictions, context: StepContext) -> LossTerms:
        """See `Distiller`: `feature`, and `classes`, `box` and `direction` in the second stage.

        In the first stage those count nothing, and keep the graph that DDP expects.
        """
        teacher = self._teacher(batch)
        settings = self._settings
        terms: dict[str, Tensor] = {
            "feature": settings.feature * self._feature_sum(student.features, teacher.features)
        }
        counts = float(context.progress >= settings.response_from_epoch)
        found = self._soft_boxes(student.responses, teacher.responses)
        for name, value in found.items():
            terms[name] = counts * getattr(settings, name) * value
        cameras = batch.images.shape[1]
        share = context.world_size * cameras / context.num_images
        return {name: share * value for name, value in terms.items()}

    def _feature_sum(self, own: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
        """Sum over frames of the mean squared difference, empty cells weighing less if wanted."""
        error = (own[LIFTED].float() - wanted[LIFTED].float()).square().mean(1)
        is_empty = wanted[PILLARS].abs().sum(1) == 0
        weight = torch.where(is_empty, self._settings.empty_weight, 1.0)
        return ((error * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-6)).sum()
