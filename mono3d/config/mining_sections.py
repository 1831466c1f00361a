"""How much each depth sample counts in the depth loss. `docs/mining.md` compares the kinds."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mono3d.config.section import Section


class NoMining(Section):
    """Every depth sample counts the same."""

    kind: Literal["none"] = "none"


class _Scheduled(Section):
    """What all kinds of mining have in common."""

    warmup_epochs: float = Field(1.0, ge=0)
    """Epochs of equal weights before mining ramps in."""
    ramp_epochs: float = Field(1.0, ge=0)
    """Epochs over which it ramps in."""


class GmmMiningConfig(_Scheduled):
    """Gradient-aware, model-perceive mining of depth samples (after arXiv:2306.17450)."""

    kind: Literal["gmm"] = "gmm"
    metric: Literal["ratio", "exp_rel", "exp_abs", "linear"] = "exp_rel"
    """What depth quality is."""
    sharpness: float = Field(4.0, gt=0, allow_inf_nan=False)
    """Depth error, in typical errors, at which a weight falls to 1/e."""
    typical_error: float | None = Field(None, gt=0)
    """None: the running median of the model's own error. A number switches that off."""
    floor: float = Field(0.2, ge=0, le=1)
    """Least quality factor; 1 switches the weighting by quality off."""
    keep_per_object: float = Field(1.0, gt=0, le=1)
    """Share of each object's samples that keep their weight, best first; 1 is off."""
    gradient_exponent: float = Field(0.25, ge=0)
    """0 ignores gradients, 1 gives every sample the same pull on the network's output."""
    gradient_clip: float = Field(4.0, ge=1)
    """The gradient factor stays between its inverse and itself."""
    median_momentum: float = Field(0.99, ge=0, lt=1)
    """Of the running median, a step."""


class OhemConfig(_Scheduled):
    """Only the hardest samples are learnt (after OHEM, arXiv:1604.03540)."""

    kind: Literal["ohem"] = "ohem"
    share: float = Field(0.7, gt=0, le=1)
    """Of the samples that count, those of the greatest relative depth error; 1 is off."""


class EasyTopkConfig(_Scheduled):
    """Only the easiest samples are learnt: the hard form of easy mining, to compare with."""

    kind: Literal["easy_topk"] = "easy_topk"
    share: float = Field(0.7, gt=0, le=1)
    """Of the samples that count, those of the least relative depth error; 1 is off."""


class FocalMiningConfig(_Scheduled):
    """What is not yet right counts more, smoothly (after focal loss, arXiv:1708.02002)."""

    kind: Literal["focal"] = "focal"
    gamma: float = Field(2.0, ge=0, allow_inf_nan=False)
    """Power of what depth quality lacks to one; 0 is off."""


class GhmMiningConfig(_Scheduled):
    """Samples with a common size of gradient count less (after GHM-R, arXiv:1811.05181)."""

    kind: Literal["ghm"] = "ghm"
    mu: float = Field(0.02, gt=0, allow_inf_nan=False)
    """Log depth error at which the size of the gradient is 0.71 of its largest."""
    num_bins: int = Field(10, ge=1)
    """Of that size, in which samples are counted; 1 is off."""
    momentum: float = Field(0.75, ge=0, lt=1)
    """Of the running counts, a step; 0 counts each step alone."""


class PisaMiningConfig(_Scheduled):
    """The best sample of each object first, then the second best (after PISA, arXiv:1904.04821)."""

    kind: Literal["pisa"] = "pisa"
    power: float = Field(2.0, ge=0, allow_inf_nan=False)
    """Of a sample's importance, which falls from 1 to 1 / n over the ranks of n; 0 is off."""
    bias: float = Field(0.0, ge=0, le=1)
    """Least importance. 0 lets the lowest of many samples all but vanish, with a center detector
    whole objects; 1 is off."""


class RangeCutConfig(_Scheduled):
    """Samples out of a range of true depth are not learnt (after MonoDLE, arXiv:2103.16237)."""

    kind: Literal["range_cut"] = "range_cut"
    max_m: float = Field(60.0, gt=0, allow_inf_nan=False)
    """Samples beyond it count nothing; in the soft form those at it count half."""
    min_m: float = Field(2.0, ge=0)
    """Nearer samples count nothing, in the hard form; below max_m."""
    softness_m: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Metres over which the far end falls as a sigmoid; 0 is the hard form."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "RangeCutConfig":
        if self.min_m >= self.max_m:
            raise ValueError(f"max_m={self.max_m:g}: must be above min_m={self.min_m:g}")
        return self


class SelectionConfig(_Scheduled):
    """The network learns which samples of an object to learn from (after MonoLSS, 2312.14474).

    A branch of the head that only training computes. No effect with model.kind=center, which has
    one sample an object.
    """

    kind: Literal["lss"] = "lss"
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Of the softmax over an object's samples; lower ones choose more sharply."""


MiningConfig = Annotated[
    NoMining
    | GmmMiningConfig
    | OhemConfig
    | EasyTopkConfig
    | FocalMiningConfig
    | GhmMiningConfig
    | PisaMiningConfig
    | RangeCutConfig
    | SelectionConfig,
    Field(discriminator="kind"),
]
