"""The replay of learning curves: its bookkeeping, and what must hold where curves tell the end."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.early_stopping import PEER, RULES, Curves, measure, read_curves
from tests.support.searches import METRIC, settings


def curves(values: np.ndarray) -> Curves:
    return Curves(settings(), values)


def telling(trials: int = 24, epochs: int = 9) -> np.ndarray:
    """Curves whose order never changes."""
    ends = np.linspace(0.1, 0.5, trials)[:, None]
    return ends + np.linspace(0.3, 0.0, epochs)[None]


def test_without_early_stopping_every_epoch_is_spent_on_a_trial_to_its_end() -> None:
    values = telling(trials=3, epochs=4)
    (missing,) = curves(values).reached(1, RULES[PEER])
    assert len(missing) == 12
    order = np.random.default_rng(0).permutation(3)
    best = np.minimum.accumulate(values[order, -1]) - values[:, -1].min()
    worst = np.ptp(values[:, -1])
    assert missing == pytest.approx([worst] * 3 + [best[0]] * 4 + [best[1]] * 4 + [best[2]])


@pytest.mark.parametrize("name", [name for name in RULES if name != PEER])
def test_where_curves_tell_the_end_the_best_is_found_sooner(name: str) -> None:
    replayed = curves(telling())
    third = replayed.values.size // 3
    own, peer = (replayed.reached(20, RULES[rule])[:, third].mean() for rule in (name, PEER))
    assert own < peer


def test_what_is_missing_never_grows_and_rows_say_by_how_much() -> None:
    replayed = curves(telling())
    missing = replayed.reached(5, RULES["asha"])
    assert missing.shape == (5, replayed.values.size)
    assert (np.diff(missing, axis=1) <= 0).all()
    rows = measure(replayed, orders=5)
    assert len(rows) == 3 * (len(RULES) - 1)
    assert all(row.ratio >= 0 for row in rows)


def test_curves_are_read_as_less_is_better(tmp_path: Path) -> None:
    trial = {"state": "COMPLETE", "curve": {"1": 0.1, "2": 0.3}}
    content = {
        "settings": settings(objectives={METRIC: "max"}).model_dump(mode="json"),
        "trials": [
            trial,
            {**trial, "state": "PRUNED"},
            {**trial, "curve": {"2": 0.3}},
            {**trial, "imported": "elsewhere"},
        ],
    }
    (tmp_path / "curves.json").write_text(json.dumps(content))
    assert read_curves(tmp_path / "curves.json").values.tolist() == [[-0.1, -0.3]]
