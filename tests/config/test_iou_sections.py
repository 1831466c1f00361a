"""Losses of whole boxes by config: each kind, its defaults, and what is refused."""

import pytest

from mono3d.config.iou_sections import GciouConfig
from mono3d.config.load import apply_overrides, parse
from mono3d.errors import ConfigError
from mono3d.objectives.losses.gciou import GciouLoss
from mono3d.objectives.losses.iou import (
    diou_loss,
    giou_loss,
    iou_loss,
    log_iou_loss,
    rdiou_loss,
)
from mono3d.training.objective_assembly import build_iou_term

BUILT = {
    "iou": iou_loss,
    "log_iou": log_iou_loss,
    "giou": giou_loss,
    "diou": diou_loss,
    "rdiou": rdiou_loss,
    "gciou": GciouLoss(),
}


def configured(**keys: object):  # type: ignore[no-untyped-def]
    dotted = ((f"iou_loss.{name}", value) for name, value in keys.items())
    return parse(apply_overrides({"data": {"root": "folder"}}, dotted), source="test").iou_loss


def test_without_a_choice_there_is_no_term() -> None:
    assert build_iou_term(configured()) is None
    assert build_iou_term(configured(kind="none")) is None


@pytest.mark.parametrize("kind", BUILT)
def test_each_kind_is_built_with_its_schedule(kind: str) -> None:
    term = build_iou_term(
        configured(kind=kind, weight=0.5, warmup_epochs=7, ramp_epochs=2, depth_aligned=True)
    )
    assert term is not None
    assert term.loss == BUILT[kind]
    assert (term.weight, term.warmup_epochs, term.ramp_epochs) == (0.5, 7, 2)
    assert term.depth_aligned


def test_all_parts_of_gciou_are_in_the_config() -> None:
    config = configured(
        kind="gciou", alpha=None, yaw_penalty="tan", rescale="raw", min_iou=0.05, weight=2
    )
    term = build_iou_term(config)
    assert term is not None
    assert term.loss == GciouLoss(alpha=None, yaw_penalty="tan", rescale="raw", min_iou=0.05)
    assert build_iou_term(GciouConfig()).loss == GciouLoss()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "ciou"}, "iou_loss.kind=ciou: must be one of"),
        ({"weight": 1.0}, "iou_loss.weight where iou_loss.kind=none"),
        ({"kind": "giou", "weight": -1}, "iou_loss.weight=-1: .*greater than or equal to 0"),
        ({"kind": "giou", "alpha": 2}, "iou_loss.alpha where iou_loss.kind=giou"),
        ({"kind": "gciou", "warmup_epochs": 12}, "iou_loss.warmup_epochs=12: .* 12 epochs"),
        ({"kind": "gciou", "alpha": 0.5}, "iou_loss.alpha=0.5: .*greater than or equal to 1"),
        ({"kind": "gciou", "min_iou": 0}, "iou_loss.min_iou=0: .*greater than 0"),
        ({"kind": "gciou", "rescale": "on"}, "iou_loss.rescale='on'"),
        ({"kind": "gciou", "yaw_penalty": "sin"}, "iou_loss.yaw_penalty='sin'"),
        ({"kind": "gciou", "wieght": 1}, "unknown key iou_loss.wieght; did you mean"),
    ],
)
def test_what_is_wrong_is_named(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(**keys)
