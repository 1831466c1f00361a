"""Does early stopping find as good settings from fewer epochs?

    .venv/bin/python -m benchmarks.early_stopping

Replayed are learning curves of real trials, all trained to their end by a search without early
stopping (`docs/searches/`, with the command that made them). In each of many orders of these
trials the rules that `mono3d tune` offers are asked after every epoch, as they are in a search of
one trial at a time. What a budget of epochs has bought is the best result among the trials that
were trained to their end; until there is one, the worst of all. The peer is no early stopping.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json import loads
from pathlib import Path

import numpy as np
import optuna

from benchmarks.support.measure import interval
from benchmarks.support.rows import Row, publish
from mono3d.search.samplers import make_pruner
from mono3d.search.settings import SearchSettings, read_settings

RECORDED = Path(__file__).parents[1] / "docs" / "searches" / "mining_curves.json"
ORDERS = 200
PEER = "none"
RULES: Mapping[str, Mapping[str, object]] = {
    PEER: {"scheduler": "none"},
    "asha": {"scheduler": "asha"},
    "asha with 3 epochs of grace": {"scheduler": "asha", "grace_epochs": 3},
    "hyperband": {"scheduler": "hyperband"},
    "median": {"scheduler": "median"},
}
SHARES = (0.15, 0.3, 0.5)
"""Of the epochs that all trials together have."""
_NOTHING = 1e-6
"""Where both have found the best, neither is better."""
_HELD = "asha with 3 epochs of grace"
"""Mining comes in after up to 3 epochs: before them there is nothing to judge."""
_LIMIT = 1.0
"""For it, at the middle budget."""


@dataclass(frozen=True)
class Curves:
    """Trials as they were recorded, less is better."""

    settings: SearchSettings
    values: np.ndarray
    """Trial x epoch."""

    @property
    def epochs(self) -> int:
        """Of a trial."""
        return int(self.values.shape[1])

    def reached(self, orders: int, rule: Mapping[str, object]) -> np.ndarray:
        """Order x epoch spent → by how much the best finished trial is worse than the best."""
        settings = self.settings.model_copy(update=dict(rule))
        count = len(self.values)
        return np.array([
            _replayed(self, settings, np.random.default_rng(seed).permutation(count))
            for seed in range(orders)
        ])  # fmt: skip


def read_curves(path: Path) -> Curves:
    """Of trials that have a value after every epoch."""
    recorded = loads(path.read_text())
    settings = read_settings(recorded["settings"], source=str(path))
    sign = 1.0 if next(iter(settings.objectives.values())) == "min" else -1.0
    curves = [
        [sign * value for value in trial["curve"].values()]
        for trial in recorded["trials"]
        if trial["state"] == "COMPLETE" and "imported" not in trial
    ]
    longest = max(map(len, curves))
    return Curves(settings, np.array([curve for curve in curves if len(curve) == longest]))


def _replayed(curves: Curves, settings: SearchSettings, order: Sequence[int]) -> np.ndarray:
    study = optuna.create_study(
        study_name="replayed",  # by which hyperband draws its brackets
        pruner=make_pruner(settings, curves.epochs),
    )
    last = curves.values[:, -1]
    best, spent = last.max(), []
    for number in order:
        trial = study.ask()
        for epoch, value in enumerate(curves.values[number], start=1):
            trial.report(value, epoch)
            is_last = epoch == curves.epochs
            if is_last:
                best = min(best, value)
            spent.append(best)
            if not is_last and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, last[number])
    spent += [best] * (curves.values.size - len(spent))  # all trials are through
    return np.array(spent) - last.min()


def measure(curves: Curves, *, orders: int) -> list[Row]:
    """A row for each rule and budget."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    reached = {name: curves.reached(orders, rule) for name, rule in RULES.items()}
    rows = []
    for share in SHARES:
        at = int(share * curves.values.size) - 1
        peer = reached[PEER][:, at]
        for name in [name for name in RULES if name != PEER]:
            own = reached[name][:, at]
            rows.append(
                Row(
                    name=f"{name}: what is missing to the best of {len(curves.values)} trials "
                    f"after {at + 1} epochs",
                    ratio=_ratio(np.stack([own, peer], axis=1)),
                    interval=interval(_ratio, np.stack([own, peer], axis=1)),
                    target=_LIMIT if name == _HELD and share == SHARES[1] else None,
                    detail=f"{own.mean():.4f} to {peer.mean():.4f} in {orders} orders",
                )
            )
    return rows


def _ratio(pairs: np.ndarray) -> float:
    own, peer = pairs.mean(axis=0) + _NOTHING
    return float(own / peer)


def main() -> int:
    """The shipped curves."""
    return publish("early_stopping", measure(read_curves(RECORDED), orders=ORDERS))


if __name__ == "__main__":
    sys.exit(main())
