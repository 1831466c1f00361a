"""What a student learns from a teacher. `docs/distillation.md` compares the kinds."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mono3d.config.section import Section


class NoDistillation(Section):
    """The network learns from labels alone."""

    kind: Literal["none"] = "none"


class AddConfig(Section):
    """Attention-based depth distillation from a teacher that sees true depth (arXiv:2211.16779)."""

    kind: Literal["add"] = "add"
    teacher: str
    """Checkpoint or run (folder, s3:// URI or MLflow run id) of a detector of the same family with
    model.depth_input; its averaged weights teach."""
    feature: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Factor of the loss between feature maps."""
    object: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Of the loss between what both say of each labelled object as a whole."""
    response: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Of the loss between class probabilities, and between regressions where objects are."""
    features: tuple[str, ...] = ()
    """Feature maps that are distilled, by name; () is those that the teacher's depth comes into:
    every level of the neck, or the map on the grid."""
    responses: tuple[str, ...] = ("log_depth", "offset", "log_dims")
    """Answers that are compared by smooth L1 where objects are learnt, by name."""
    background: float = Field(0.25, ge=0, allow_inf_nan=False)
    """Weight of the mean over cells outside all objects, to 1 of the mean over those inside."""
    encoding: Literal["point", "ray", "none"] = "point"
    """Tells attention where cells are in space: at the student's own depth, at fixed depths along
    their rays, or not at all."""
    self_attention: bool = True
    """Cells see each other before they are compared; false compares them as they are."""
    cross_attention: bool = True
    """Objects ask all cells; false takes the mean of the cells inside each object's 2D box."""
    heads: int = Field(4, ge=1)
    """Of both attentions; divides model.channels, or model.lifted_channels on a grid."""
    attention_stride_px: int = Field(16, ge=1)
    """Finer maps are averaged to this stride before others look at them; of a grid it counts
    cells."""

    @model_validator(mode="after")
    def _teaches(self) -> "AddConfig":
        if self.feature == self.object == self.response == 0:
            raise ValueError("feature, object and response are all 0: nothing is distilled")
        return self


class CmkdConfig(Section):
    """Cross-modality knowledge distillation from a LiDAR detector (arXiv:2211.07171)."""

    kind: Literal["cmkd"] = "cmkd"
    teacher: str
    """Checkpoint or run (folder, s3:// URI or MLflow run id) of a detector with model.kind=lidar on
    the same grid and with the same head; its averaged weights teach."""
    feature: float = Field(32.0, ge=0, allow_inf_nan=False)
    """Factor of the squared difference between the maps on the grid; 4 in some of the authors'
    configurations with pillars."""
    classes: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Of the quality focal loss between class probabilities; this, box and direction are the
    authors' for pillars, who have 2, 2 and 0.4 for a teacher of sparse convolutions."""
    box: float = Field(2.0, ge=0, allow_inf_nan=False)
    """Of smooth L1 between boxes, where the teacher is sure."""
    direction: float = Field(0.2, ge=0, allow_inf_nan=False)
    """Of the cross entropy to its directions there."""
    class_threshold: float = Field(0.1, ge=0, le=1)
    """Probability of the teacher from which on a place counts in what the loss of its class is
    divided by; 0.3 is the authors' for centres."""
    box_threshold: float = Field(0.1, ge=0, le=1)
    """Sum of its probabilities from which on a place's box is learnt."""
    empty_weight: float = Field(1.0, ge=0, le=1)
    """Of cells without a LiDAR point, to 1 of others; 0.05 is the authors' option."""
    response_from_epoch: float = Field(0.0, ge=0)
    """The second stage: from then on classes, boxes and directions are learnt too."""
    start_from_teacher: bool = True
    """A new run starts with the teacher's network and head on the grid."""

    @model_validator(mode="after")
    def _teaches(self) -> "CmkdConfig":
        if self.feature == self.classes == self.box == self.direction == 0:
            raise ValueError("feature, classes, box and direction are all 0: nothing is distilled")
        return self


class MonoTakdConfig(Section):
    """Distillation through a teaching assistant that lifts by true depth (arXiv:2404.04910)."""

    kind: Literal["monotakd"] = "monotakd"
    teacher: str
    """Checkpoint or run (folder, s3:// URI or MLflow run id) of a detector with model.kind=lidar on
    the same grid and with the same head; its averaged weights teach."""
    assistant: str | None = None
    """Of a detector with model.kind=bev and model.depth_input on the same grid; null makes the
    assistant of the student's own image features."""
    assistant_depth: Literal["lidar", "objects"] = "lidar"
    """True depth that an assistant of the student's own features lifts by."""
    intra: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Factor of the squared difference between the visual stream and the assistant's map."""
    residual: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Of that between the aligned stream and what the teacher's map has beyond the assistant's;
    needs model.residual_stream. The authors' code has 0.2."""
    direct: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Of that between the fused map and the teacher's, to compare with."""
    assistant_weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Of that between the map of an assistant of the student's own features and the teacher's."""
    classes: float = Field(2.0, ge=0, allow_inf_nan=False)
    """Of the quality focal loss between class probabilities, as in CMKD."""
    box: float = Field(2.0, ge=0, allow_inf_nan=False)
    direction: float = Field(0.4, ge=0, allow_inf_nan=False)
    class_threshold: float = Field(0.1, ge=0, le=1)
    """These are as in CMKD."""
    box_threshold: float = Field(0.1, ge=0, le=1)
    normalisation: Literal["standardise", "range"] = "standardise"
    """Of the maps before they are subtracted, frame by frame: each channel to mean 0 and deviation
    1, or all together to [0, 1]."""
    residual_threshold: float = Field(0.6, ge=0, le=1)
    """Share of the greatest residual below which there is none: of each channel of a frame where
    maps are standardised, else of the frame."""
    start_from_teacher: bool = True
    """A new run starts with the teacher's network and head on the grid."""

    @model_validator(mode="after")
    def _teaches(self) -> "MonoTakdConfig":
        if self.intra == self.residual == self.direct == 0:
            raise ValueError("intra, residual and direct are all 0: no map is distilled")
        return self


DistillationConfig = Annotated[
    NoDistillation | AddConfig | CmkdConfig | MonoTakdConfig, Field(discriminator="kind")
]
