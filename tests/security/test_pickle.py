"""Nothing that lies in a store or a database is unpickled."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import CmaEsSampler

from mono3d.search.samplers import make_sampler
from mono3d.search.tuner import _Proposals, _Verdicts
from tests.search.test_samplers import FLAT_SPACE
from tests.support.searches import new_record, settings, shape_of, sqlite_url
from tests.support.training import save_untrained, tiny_config

SETTINGS = settings(sampler="cmaes", budget={"trials": 40})
SHAPE = shape_of(FLAT_SPACE)


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def searched(study: optuna.Study, make: Any, trials: int) -> None:
    for number in range(trials):
        study.sampler = make(number)
        trial = study.ask()
        FLAT_SPACE.draw(trial)
        study.tell(trial, (trial.params["optim.weight_decay"] - 0.07) ** 2)


def test_cma_es_executes_nothing_that_the_database_holds(tmp_path: Path) -> None:
    """Optuna's own keeps its state there as a pickle, and unpickles what it finds."""
    import pickle

    record = new_record(
        sqlite_url(tmp_path), space=FLAT_SPACE, sampler="cmaes", budget={"trials": 4}
    )
    bomb = pickle.dumps(Bomb(tmp_path / "made")).hex()
    for value in (0.3, 0.2):
        proposal = record.propose()
        assert proposal is not None
        trial_id = record.trial(proposal.number)._trial_id
        record.storage.set_trial_system_attr(trial_id, "cma:optimizer:0", bomb)
        record.finish(proposal.number, [[value]])
    assert record.propose() is not None
    assert not (tmp_path / "made").exists()
    record.study.sampler = CmaEsSampler()
    FLAT_SPACE.draw(record.study.ask())
    assert (tmp_path / "made").exists()


def test_cma_es_writes_no_pickle(tmp_path: Path) -> None:
    study = optuna.create_study()
    searched(study, lambda number: make_sampler(SETTINGS, SHAPE, number), trials=20)
    keys = {key for trial in study.trials for key in trial.system_attrs}
    assert "cma:generation" in keys
    assert not any(key.startswith("cma:optimizer") for key in keys)
    assert max(trial.system_attrs["cma:generation"] for trial in study.trials[1:]) >= 2


def test_the_state_made_of_the_trials_is_the_one_that_optuna_keeps() -> None:
    study = optuna.create_study()
    searched(study, lambda number: CmaEsSampler(seed=number), trials=30)
    trials = study.get_trials()
    kept = CmaEsSampler()._restore_optimizer(trials)
    ours = make_sampler(SETTINGS, SHAPE, 30)
    ours._study, ours._space = study, dict(SHAPE.distributions)
    made = ours._restore_optimizer(trials)
    # What Optuna has stored is behind by the generation that its next call would tell.
    while len(told := ours._get_solution_trials(trials, kept.generation)) >= kept.population_size:
        space = optuna._transform._SearchSpaceTransform(
            dict(SHAPE.distributions), transform_step=True, transform_0_1=True
        )
        kept.tell([(space.transform(t.params), t.value) for t in told[: kept.population_size]])
    assert made.generation == kept.generation >= 3
    assert np.allclose(made.mean, kept.mean)
    assert np.allclose(made._C, kept._C)
    assert made._sigma == pytest.approx(kept._sigma)


def test_of_a_search_ray_tune_pickles_nothing() -> None:
    """Not the conductor, which knows the database's password."""
    for kind in (_Proposals, _Verdicts):
        one = kind.__new__(kind)
        one._conductor = "postgresql://me:password@host/name"
        assert one.__getstate__() == {}


def test_a_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    """torch.save makes zip files, pickle begins with its protocol."""
    folder = save_untrained(tiny_config(), tmp_path / "step_00000001")
    files = list(folder.iterdir())
    assert {path.suffix for path in files} == {".safetensors", ".json"}
    for path in files:
        assert not zipfile.is_zipfile(path)
        assert not path.read_bytes().startswith(b"\x80")
