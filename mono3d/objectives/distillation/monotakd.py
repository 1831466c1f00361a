"""MonoTAKD: a teaching assistant between a LiDAR network and a camera's.

Source: Liu et al., CVPR 2025 (arXiv:2404.04910). The assistant is the student's architecture that
lifts by true depth. The visual stream learns its map, the spatial stream what the LiDAR network's
map has beyond that, the answers learn as in CMKD. With T, A the maps of teacher and assistant, n a
normalisation of each map by itself, and sg a stop of the gradient:

    intra    = mean of (visual stream - sg A)^2
    residual = mean of (aligned stream - sg R)^2,  R = |n(T) - n(A)|, 0 where below tau max R,
               the maximum of each channel of a frame
    classes, box, direction: see `soft_boxes`
    direct   = mean of (fused map - sg T)^2, which the paper compares with (its table 4)

Kept of the public code: tau 0.6 and the absolute value; the aligned stream is never negative, so
it could not learn a signed residual. Its defects are not: there the intra term is detached from the
student, the head reads one stream only, and the normalisation runs over the whole batch, so that
one extreme cell scales every frame (here it scales its own channel of its own frame). Ours: maps
are standardised by channel in each frame (or brought to [0, 1], as the code does with the batch),
and the assistant is either a checkpoint of its own, or shares the student's image features and
collapses them by an adapter that learns the teacher's map.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mono3d.codec.bev_codec import ASSISTANT, LIFTED, RESIDUAL, VISUAL
from mono3d.objectives.distillation.protocol import FrozenTeacher, require_features
from mono3d.objectives.distillation.soft_boxes import SoftBoxes
from mono3d.objectives.protocol import StepContext
from mono3d.structures import Batch, LossTerms, Predictions

Features = Mapping[str, tuple[int, int]]
Normalisation = Literal["standardise", "range"]
_CHANNELS_PER_GROUP = 8
_TINY = 1e-6


@dataclass(frozen=True, kw_only=True)
class MonoTakdSettings:
    """Factors of the terms and how the residual is made; see `MonoTakdConfig`."""

    intra: float
    residual: float
    direct: float
    assistant_weight: float
    classes: float
    box: float
    direction: float
    normalisation: Normalisation
    residual_threshold: float


class MonoTakdDistiller:
    """MonoTAKD as a `Distiller`."""

    def __init__(
        self,
        settings: MonoTakdSettings,
        *,
        teacher: FrozenTeacher,
        assistant: FrozenTeacher | None,
        soft_boxes: SoftBoxes,
        student_features: Features,
        teacher_features: Features,
    ) -> None:
        """Build the adapter of a shared assistant.

        Args:
            settings: Of the method.
            teacher: The LiDAR network.
            assistant: Lifts by true depth; None makes one of the student's own features.
            soft_boxes: Compares answers with the teacher's.
            student_features: Declared by the student.
            teacher_features: Declared by the teacher.

        Raises:
            ConfigError: A map that a term reads is not there.
        """
        self._visual = VISUAL if VISUAL in student_features else LIFTED
        wanted = [LIFTED, self._visual]
        wanted += [RESIDUAL] if settings.residual > 0 else []
        wanted += [ASSISTANT] if assistant is None else []
        require_features(student_features, wanted, whose="the network")
        require_features(teacher_features, [LIFTED], whose="its teacher")
        self._settings = settings
        self._teacher = teacher
        self._assistant = assistant
        self._soft_boxes = soft_boxes
        self.adapters: nn.Module = nn.Module()
        if assistant is None:
            self.adapters = _collapse(student_features[ASSISTANT][0], teacher_features[LIFTED][0])

    def to(self, device: torch.device | str) -> "MonoTakdDistiller":
        """Move teacher and assistant; returns itself."""
        for network in (self._teacher, self._assistant):
            if network is not None:
                network.to(device)
        return self

    def losses(self, batch: Batch, student: Predictions, context: StepContext) -> LossTerms:
        """See `Distiller`: those with a factor above zero."""
        settings, teacher = self._settings, self._teacher(batch)
        goal = teacher.features[LIFTED].float()
        sums: dict[str, Tensor] = {}
        if self._assistant is None:
            made = self.adapters(student.features[ASSISTANT].float())
            sums["assistant"] = settings.assistant_weight * _squared(made, goal)
            between = made.detach()
        else:
            between = self._assistant(batch).features[LIFTED].float()
        if settings.intra > 0:
            own = student.features[self._visual].float()
            sums["intra"] = settings.intra * _squared(own, between)
        if settings.residual > 0:
            missing = residual_map(
                goal,
                between,
                normalisation=settings.normalisation,
                threshold=settings.residual_threshold,
            )
            aligned = student.features[RESIDUAL].float()
            sums["residual"] = settings.residual * _squared(aligned, missing)
        if settings.direct > 0:
            sums["direct"] = settings.direct * _squared(student.features[LIFTED].float(), goal)
        found = self._soft_boxes(student.responses, teacher.responses)
        for name, value in found.items():
            if getattr(settings, name) > 0:
                sums[name] = getattr(settings, name) * value
        share = context.world_size * batch.images.shape[1] / context.num_images
        return {name: share * value for name, value in sums.items()}


@torch.no_grad()
def residual_map(
    teacher: Float[Tensor, "b c y x"],
    assistant: Float[Tensor, "b c y x"],
    *,
    normalisation: Normalisation,
    threshold: float,
) -> Float[Tensor, "b c y x"]:
    """What a teacher's map has and an assistant's has not, where it is much.

    Args:
        teacher: Maps of frames.
        assistant: Of the same frames.
        normalisation: `standardise`: mean 0 and deviation 1 in each channel; `range`: smallest 0
            and greatest 1 over all channels. Each frame by itself.
        threshold: Share of the greatest residual below which it is 0: of the channel where maps
            are standardised by channel, since channels that are seldom on reach tens of deviations,
            else of the frame.
    """
    difference = _normalised(teacher, normalisation) - _normalised(assistant, normalisation)
    size = difference.abs()
    together = (2, 3) if normalisation == "standardise" else (1, 2, 3)
    return torch.where(size >= threshold * size.amax(together, keepdim=True), size, 0.0)


def _normalised(maps: Float[Tensor, "b c y x"], how: Normalisation) -> Float[Tensor, "b c y x"]:
    if how == "standardise":
        centered = maps - maps.mean((2, 3), keepdim=True)
        return centered / (centered.square().mean((2, 3), keepdim=True) + _TINY).sqrt()
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    return (maps - low) / (high - low + _TINY)


def _squared(own: Float[Tensor, "b c y x"], wanted: Float[Tensor, "b c y x"]) -> Tensor:
    """Mean squared difference of each frame, summed over frames."""
    return (own - wanted).square().mean((1, 2, 3)).sum()


def _collapse(in_channels: int, channels: int) -> nn.Sequential:
    """As the student collapses heights, for the assistant that shares its features."""
    conv = nn.Conv2d(in_channels, channels, 1, bias=False)
    norm = nn.GroupNorm(channels // _CHANNELS_PER_GROUP, channels)
    return nn.Sequential(conv, norm, nn.ReLU(inplace=True))
