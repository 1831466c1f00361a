"""Batches that do not fit into memory that is really limited, and those that are named instead."""

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from mono3d.config.training_sections import TrainConfig
from mono3d.training.batch_advice import micro_batches, smaller_batch
from mono3d.training.batch_trial import largest_fitting

SMALL = ("train.batch_size=2", "train.accumulate=1", "evaluation.batch_size=2")


@pytest.mark.parametrize("at_most", [1, 2, 7, 8, 24, 1000])
def test_the_largest_size_that_fits_is_found_in_few_trials(at_most: int) -> None:
    for largest in {0, 1, at_most // 2, at_most - 1, at_most}:
        tried: list[int] = []

        def fits(size: int, tried: list[int] = tried, largest: int = largest) -> bool:
            tried.append(size)
            return size <= largest

        assert largest_fitting(fits, at_most) == largest
        assert len(set(tried)) == len(tried) <= at_most.bit_length() + 1
        assert all(1 <= size <= at_most for size in tried)


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "at_most", "wanted"),
    [
        (32, 1, 12, "train.batch_size=8 train.accumulate=4 keeps the 32 frames of a step"),
        (32, 1, 16, "train.batch_size=16 train.accumulate=2 keeps the 32 frames of a step"),
        (6, 4, 5, "train.batch_size=4 train.accumulate=6 keeps the 24 frames of a step"),
        (7, 1, 6, "train.batch_size=1 train.accumulate=7 keeps the 7 frames of a step"),
    ],
)
def test_a_smaller_batch_keeps_the_frames_of_a_step(
    batch_size: int, accumulate: int, at_most: int, wanted: str
) -> None:
    train = TrainConfig(batch_size=batch_size, accumulate=accumulate)
    assert smaller_batch(train, at_most) == f"as a new run, {wanted}"
    assert micro_batches(train, at_most) * at_most >= batch_size * accumulate


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Train in a process of its own that may have so many MiB of address space."""
    folder = tmp_path_factory.mktemp("runs")

    def train(name: str, limit_mib: int, *overrides: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.support.limited_memory", str(folder / name)]
        return subprocess.run(
            [*command, str(limit_mib), *overrides], capture_output=True, text=True, check=False
        )

    return train


@pytest.fixture(scope="module")
def needed_mib(run: Run) -> int:
    """What batches of two frames need."""
    return int(run("small", 0, *SMALL).stdout)


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_answered_by_one_that_trains(
    run: Run, needed_mib: int
) -> None:
    limit_mib = needed_mib + 100
    refused = run("large", limit_mib, *SMALL, "train.batch_size=24")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    found = re.fullmatch(
        r"train\.batch_size=24: out of memory \((\d\.\d) of \1 GiB in use\); (\d+) fit on this "
        r"device: as a new run, (train\.batch_size=(\d+)) (train\.accumulate=(\d+)) keeps the 24 "
        r"frames of a step",
        line,
    )
    assert found, line
    fitting, batch_size, accumulate = (int(found[group]) for group in (2, 4, 6))
    assert 2 <= batch_size <= fitting < 24
    assert batch_size * accumulate == 24
    # What is named trains to the end where 24 did not.
    suggested = run("suggested", limit_mib, *SMALL, found[3], found[5])
    assert suggested.returncode == 0, suggested.stderr
    assert int(suggested.stdout) <= limit_mib


@pytest.mark.slow
def test_an_evaluation_that_does_not_fit_names_its_own_key_and_the_run_goes_on(
    run: Run, needed_mib: int
) -> None:
    limit_mib = needed_mib + 60
    refused = run("run", limit_mib, *SMALL, "evaluation.batch_size=48")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    found = re.fullmatch(
        r"evaluation\.batch_size=48: out of memory \(.*\); (evaluation\.batch_size=(\d+)) fits on "
        r"this device",
        line,
    )
    assert found, line
    assert 2 <= int(found[2]) < 48
    # The same run, from where it was: how an evaluation is cut into batches is not its result.
    assert run("run", limit_mib, *SMALL, found[1]).returncode == 0


@pytest.mark.slow
def test_a_model_that_never_fits_is_said_so(run: Run, needed_mib: int) -> None:
    refused = run("wide", needed_mib, *SMALL, "model.channels=1024")
    assert refused.stderr.strip().endswith(
        "on this device not even one frame fits: make images or model smaller"
    )
