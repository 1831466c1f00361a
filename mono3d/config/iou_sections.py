"""The loss of whole boxes beside those of their parts."""

from typing import Annotated, Literal

from pydantic import Field

from mono3d.config.section import Section


class NoIouLoss(Section):
    """Boxes are learnt part by part only."""

    kind: Literal["none"] = "none"


class _IouLossConfig(Section):
    """What every loss of whole boxes has in common."""

    weight: float = Field(0.2, ge=0, allow_inf_nan=False)
    """Factor of the term; all others stay as they are. Not tuned: compare the logged
    `iou_loss/gradient_*` and `iou_loss/others_gradient_*`."""
    warmup_epochs: float = Field(3.0, ge=0)
    """Epochs without it: at first few boxes overlap with their objects. Choose about a quarter of
    the run's epochs."""
    ramp_epochs: float = Field(1.0, ge=0)
    """Epochs over which it then comes in."""
    depth_aligned: bool = False
    """Compare boxes at the true depth, so that the term teaches all but depth."""


class IouConfig(_IouLossConfig):
    """1 - IoU."""

    kind: Literal["iou"] = "iou"


class LogIouConfig(_IouLossConfig):
    """-ln IoU."""

    kind: Literal["log_iou"] = "log_iou"


class GiouConfig(_IouLossConfig):
    """Generalised IoU (arXiv:1902.09630)."""

    kind: Literal["giou"] = "giou"


class DiouConfig(_IouLossConfig):
    """Distance IoU (arXiv:1911.08287)."""

    kind: Literal["diou"] = "diou"


class RdiouConfig(_IouLossConfig):
    """IoU of boxes that nothing turns, with yaw as a fourth axis (after arXiv:2207.09332)."""

    kind: Literal["rdiou"] = "rdiou"


class GciouConfig(_IouLossConfig):
    """-ln IoU with the gradient corrected for yaw errors and sizes (GCIoU, CVPR 2023)."""

    kind: Literal["gciou"] = "gciou"
    alpha: float | None = Field(2.0, ge=1, allow_inf_nan=False)
    """-ln IoU is multiplied by exp(d^alpha), d the yaw error; null leaves that out."""
    yaw_penalty: Literal["exp", "tan", "none"] = "exp"
    """What is added: exp(d) - 1, the paper's best, or tan d."""
    rescale: Literal["raw", "normalised", "off"] = "normalised"
    """Gradients on sizes are multiplied by U^(2/3), U the union in m³ (raw), or in volumes of the
    class's mean box, between 1/4 and 4."""
    min_iou: float = Field(0.01, gt=0, lt=1)
    """Boxes that overlap less learn from the distance of the centres and from sizes instead."""


ChosenIouLoss = IouConfig | LogIouConfig | GiouConfig | DiouConfig | RdiouConfig | GciouConfig
IouLossConfig = Annotated[NoIouLoss | ChosenIouLoss, Field(discriminator="kind")]
