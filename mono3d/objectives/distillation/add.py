"""ADD: attention-based depth distillation from a teacher that sees true depth.

Source: Wu et al., "Attention-Based Depth Distillation with 3D-Aware Positional Encoding for
Monocular 3D Object Detection", AAAI 2023 (arXiv:2211.16779). From its abstract are: a teacher of
the student's architecture with true depth, dense or of objects, as an additional input;
distillation of intermediate features and of responses; a 3D-aware self-attention and a target-aware
cross-attention on the student's side, with a 3D-aware positional encoding; and no cost at
inference. Formulas, losses, weights and layers were not available to us: all of them are our
reconstruction, and we do not reproduce the paper's numbers.

With F a feature map, A the student's adapters, M the cells inside 2D boxes of objects:

    feature  = mean over M of |A(F_s) - F_t|^2 + background * the same over all other cells
    object   = mean over objects of |O_s - O_t|, O_s from the objects' attention over A(F_s),
               O_t the mean of F_t inside the object's 2D box
    response = sum over points and classes of |p_s - p_t|^2 BCE(p_s, p_t), and smooth L1 of
               regressions where objects are learnt, over the number of depth samples

The first two are means within each image, then over the images of the step, in units of the root
mean square of the teacher's map of that image: nothing depends on how a step is split. The
teacher's side has no layer that learns: one that both sides shared could make all answers equal and
the loss zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mono3d.codec.detector_codec import DetectorCodec
from mono3d.codec.map_layout import MapLayout
from mono3d.codec.point_codec import gather_points
from mono3d.errors import ConfigError
from mono3d.objectives.distillation.attention import CellAttention, ObjectAttention
from mono3d.objectives.distillation.encoding import Encoding, PositionalEncoding
from mono3d.objectives.distillation.protocol import FrozenTeacher, require_features
from mono3d.objectives.losses.depth import SMOOTH_L1_BETA, smooth_l1
from mono3d.objectives.losses.quality_focal import quality_focal
from mono3d.objectives.protocol import StepContext
from mono3d.structures import Batch, LossTerms, Predictions

Features = Mapping[str, tuple[int, int]]
"""Name → (channels, stride) of the feature maps of a network."""
_TINY = 1e-6


@dataclass(frozen=True, kw_only=True)
class AddSettings:
    """What is distilled and how; see `AddConfig`."""

    feature: float
    object: float
    response: float
    features: Sequence[str]
    responses: Sequence[str]
    background: float
    encoding: Encoding
    self_attention: bool
    cross_attention: bool
    heads: int
    attention_stride_px: int

    @property
    def compares_features(self) -> bool:
        """Whether any term looks at feature maps."""
        return self.feature > 0 or self.object > 0


class _MapAdapter(nn.Module):
    """Compares one feature map of the student with the teacher's; only training has it."""

    def __init__(
        self,
        settings: AddSettings,
        *,
        places_per_cell: int,
        stride: int,
        channels: tuple[int, int],
        num_classes: int,
    ) -> None:
        """Build what the settings want.

        Args:
            settings: Of the method.
            places_per_cell: That a layout of the map has.
            stride: Of the map.
            channels: Of the student's map and of the teacher's.
            num_classes: Of the run.
        """
        super().__init__()
        own, wanted = channels
        self._settings = settings
        averaging = max(1, settings.attention_stride_px // stride)
        asks = settings.cross_attention and settings.object > 0
        self.encoding = self.cells = self.objects = self.cell_answer = self.object_answer = None
        if settings.encoding != "none" and (settings.self_attention or asks):
            self.encoding = PositionalEncoding(places_per_cell, own)
        if settings.self_attention:
            self.cells = CellAttention(own, settings.heads, averaging=averaging)
        if asks:
            self.objects = ObjectAttention(
                own, settings.heads, num_classes=num_classes, averaging=averaging
            )
        if settings.feature > 0:
            self.cell_answer = nn.Linear(own, wanted)
        if settings.object > 0:
            self.object_answer = nn.Linear(own, wanted)

    def forward(
        self,
        student: Float[Tensor, "n c h w"],
        teacher: Float[Tensor, "n d h w"],
        layout: MapLayout,
    ) -> dict[str, Float[Tensor, ""]]:
        """Losses `feature` and `object`, summed over maps, each in units of the teacher's."""
        tokens, wanted = (m.float().flatten(2).transpose(1, 2) for m in (student, teacher))
        unit = (wanted.square().mean((1, 2), keepdim=True) + _TINY).sqrt()
        encoding = torch.zeros_like(tokens)
        if self.encoding is not None:
            encoding = self.encoding(layout.places)
        if self.cells is not None:
            tokens = self.cells(tokens, encoding, layout.size)
        losses = {}
        if self.cell_answer is not None:
            error = (self.cell_answer(tokens) - wanted) / unit
            losses["feature"] = self._over_cells(error.square().mean(-1), layout.inside.any(1))
        if self.object_answer is not None:
            said = _mean_inside(tokens, layout.inside)
            if self.objects is not None:
                said = self.objects(tokens, encoding, layout)
            error = (self.object_answer(said) - _mean_inside(wanted, layout.inside)) / unit
            losses["object"] = _masked_means(error.abs().mean(-1), layout.valid).sum()
        return losses

    def _over_cells(
        self, error: Float[Tensor, "n cells"], is_object: Bool[Tensor, "n cells"]
    ) -> Float[Tensor, ""]:
        inside, outside = _masked_means(error, is_object), _masked_means(error, ~is_object)
        return (inside + self._settings.background * outside).sum()


def _masked_means(
    values: Float[Tensor, "n cells"], mask: Bool[Tensor, "n cells"]
) -> Float[Tensor, " n"]:
    """Of each image; 0 where nothing is masked."""
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)


def _mean_inside(
    tokens: Float[Tensor, "n cells c"], inside: Bool[Tensor, "n k cells"]
) -> Float[Tensor, "n k c"]:
    """Mean of the cells inside each object; zero where none is."""
    weights = inside.to(tokens.dtype)
    return (weights / weights.sum(-1, keepdim=True).clamp(min=1)) @ tokens


class AddDistiller:
    """ADD as a `Distiller`, for any detector whose codec knows the layout of its maps."""

    def __init__(
        self,
        settings: AddSettings,
        *,
        teacher: FrozenTeacher,
        codec: DetectorCodec,
        student_features: Features,
        teacher_features: Features,
        num_classes: int,
    ) -> None:
        """Build the adapters.

        Args:
            settings: Of the method.
            teacher: Answers at the student's points.
            codec: Of student and teacher.
            student_features: Declared by the student.
            teacher_features: Declared by the teacher.
            num_classes: Of the run.

        Raises:
            ConfigError: A feature map that is to be distilled is not there.
        """
        self._settings = settings
        self._teacher = teacher
        self._codec = codec
        names = list(settings.features)
        require_features(student_features, names, whose="the network")
        require_features(teacher_features, names, whose="its teacher")
        for name in names:
            if settings.compares_features and student_features[name][0] % settings.heads:
                raise ConfigError(
                    f"{name!r} has {student_features[name][0]} channels, which "
                    f"distillation.heads={settings.heads} does not divide"
                )
        self._by_rays = settings.encoding == "ray"
        self._strides = {name: student_features[name][1] for name in names}
        self._maps = {
            name: _MapAdapter(
                settings,
                places_per_cell=codec.places_per_cell(name, by_rays=self._by_rays),
                stride=self._strides[name],
                channels=(student_features[name][0], teacher_features[name][0]),
                num_classes=num_classes,
            )
            for name in names
            if settings.compares_features
        }
        self.adapters: nn.Module = nn.ModuleDict(self._maps)

    def to(self, device: torch.device | str) -> "AddDistiller":
        """Move the teacher; the adapters move with the module that trains them. Returns itself."""
        self._teacher.to(device)
        return self

    def losses(self, batch: Batch, student: Predictions, context: StepContext) -> LossTerms:
        """See `Distiller`: `feature`, `object` and `response`, those with a factor above zero."""
        teacher = self._teacher(batch)
        settings = self._settings
        losses: dict[str, Tensor] = {}
        if settings.compares_features:
            losses |= self._feature_losses(batch, student, teacher, context)
        if settings.response > 0:
            scale = settings.response * context.world_size / context.num_samples
            losses["response"] = scale * self._response_sum(batch, student, teacher)
        return losses

    def _feature_losses(
        self, batch: Batch, student: Predictions, teacher: Predictions, context: StepContext
    ) -> dict[str, Tensor]:
        """Means over maps and the images of the step (on a grid: frames), of which this is a part.

        A map of several cameras counts as often as their images do.
        """
        images = batch.images.shape[0] * batch.images.shape[1]
        found = []
        for name, adapter in self._maps.items():
            own, wanted = student.features[name], teacher.features[name]
            layout = self._codec.layout(
                name, self._strides[name], batch, student.responses, by_rays=self._by_rays
            )
            losses = adapter(own, wanted, layout)
            found.append({key: value * (images / len(own)) for key, value in losses.items()})
        share = context.world_size / context.num_images
        factors = {"feature": self._settings.feature, "object": self._settings.object}
        return {
            name: factors[name] * share * torch.stack([losses[name] for losses in found]).mean()
            for name in found[0]
        }

    def _response_sum(
        self, batch: Batch, student: Predictions, teacher: Predictions
    ) -> Float[Tensor, ""]:
        """Class probabilities at all points, regressions at the positives."""
        said, wanted = (answer.responses["class_logits"].float() for answer in (student, teacher))
        total = quality_focal(said, wanted.sigmoid()).sum()
        index = batch.positives.index.flatten(0, -2)
        valid = batch.positives.valid.flatten(0, -2)
        for name in self._settings.responses:
            own, true = (
                gather_points(answer.responses[name].float(), index)
                for answer in (student, teacher)
            )
            error = smooth_l1(own, true, beta=SMOOTH_L1_BETA)
            total = total + (error.view(*valid.shape, -1).sum(-1) * valid).sum()
        return total
