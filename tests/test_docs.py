"""What the documents say of commands, keys, files and metrics is true."""

import importlib.util
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import typer.main

from mono3d.cli.main import app
from mono3d.codec.nuscenes_names import DETECTION_CLASSES
from mono3d.config.load import load_recipe, recipe_names
from mono3d.evaluation.depth_quality import depth_quality, pair_depths
from mono3d.tracking.tracker import MetricRecord
from mono3d.training.loop import fit
from mono3d.training.parts import Place
from mono3d.training.state import TrainState
from tests.support.boxes import make_boxes
from tests.support.training import tiny_config, tiny_parts

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PATH_IN_TEXT = re.compile(
    r"`((?:docs|mono3d|tests|benchmarks|tune_spaces|cluster|docker)/[\w./-]*)`"
)


def test_the_table_of_keys_is_current() -> None:
    spec = importlib.util.spec_from_file_location("writer", ROOT / "docs/write_configuration.py")
    assert spec is not None
    assert spec.loader is not None
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    page = writer.PAGE.read_text()
    assert writer.write(page) == page, "run: .venv/bin/python docs/write_configuration.py"
    assert "`mining.sharpness`" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    missing = [
        name for name in PATH_IN_TEXT.findall(page.read_text()) if not (ROOT / name).exists()
    ]
    assert not missing


def commands() -> list[list[str]]:
    """Words of every `mono3d ...` line in the pages' shell blocks."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                _, is_found, rest = line.partition("mono3d ")
                if is_found and "ray job" not in line:
                    words = shlex.split(rest.partition(')"')[0], comments=True)
                    found += _apart(words)
    return found


def _apart(words: list[str]) -> list[list[str]]:
    """`submit -- train RECIPE` are two commands."""
    if "--" not in words:
        return [words]
    place = words.index("--")
    return [words[:place], words[place + 1 :]]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_of_the_pages_exist_and_their_overrides_hold(words: list[str]) -> None:
    command = typer.main.get_command(app)
    names = list(words)
    while hasattr(command, "commands"):
        command = command.commands[names.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in names if word.startswith("-")} <= options | {"--help"}
    if words[0] == "train" and words[1] in recipe_names():
        load_recipe(words[1], [word for word in words[2:] if "=" in word])


def documented_metrics() -> list[re.Pattern[str]]:
    """Patterns from the tables of docs/mlflow.md; {x} stands for one name."""
    rows = re.findall(r"^\| (`[^|]*`) \|", (ROOT / "docs/mlflow.md").read_text(), re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row) if "/" in name]
    return [re.compile(re.sub(r"\\{\w+\\}", r"[\\w.]+", re.escape(name))) for name in names]


def unknown(metrics: Mapping[str, float]) -> set[str]:
    patterns = documented_metrics()
    return {name for name in metrics if not any(p.fullmatch(name) for p in patterns)}


class Collector:
    """Keeps what a run records."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def on_records(self, state: TrainState, record: MetricRecord) -> None:
        self.metrics |= record.metrics

    def on_evaluate(self, state: TrainState) -> None:
        pass

    def on_save(
        self, state: TrainState, metrics: Mapping[str, float], *, epoch_ended: bool
    ) -> None:
        pass


def test_metrics_of_training_are_documented() -> None:
    config = tiny_config(train__epochs=1, train__epoch_frames=8)
    parts, collector = tiny_parts(config, Place()), Collector()
    fit(parts.state, parts.loader, parts.plan, evaluate=lambda state: {}, observer=collector)
    assert {"loss/depth", "train/lr", "mining/weight_share/class_car"} <= collector.metrics.keys()
    assert not unknown(collector.metrics)


def test_metrics_of_evaluation_are_documented() -> None:
    truth = make_boxes([(0.0, 1.0, 12.0), (2.0, 1.0, 30.0)])
    pairs = pair_depths(torch.tensor([11.0, 33.0]), truth)
    depth = {
        f"val/{name}": value
        for pairing in ("centers", "matched")
        for name, value in depth_quality(pairs, DETECTION_CLASSES, pairing).items()
    }
    official = {
        f"val/nuscenes_{name}": 0.0 for name in ("map", "nds", "mate", "car_ap", "car_ap_0.5m")
    }
    assert "val/matched_depth_recall_10_20m" in depth
    assert not unknown(depth | official)
    assert unknown({"val/made_up": 0.0})
