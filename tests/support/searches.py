"""Searches that need no data and no Ray: a recipe, a space, databases of both kinds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mono3d.search.database import open_database
from mono3d.search.record import SearchRecord, create_search, open_search
from mono3d.search.settings import SearchSettings, read_settings
from mono3d.search.space import Objective, Space, SpaceShape
from mono3d.search.space_walk import check_space

TREE: Mapping[str, Any] = {"data": {"root": "somewhere"}, "train": {"epochs": 9}}
METRIC = "val/centers_depth_abs_rel"


def draw(trial: Any) -> dict[str, object]:
    """A choice, and a number below one of its branches."""
    trial.suggest_float("optim.lr", 1e-4, 1e-2, log=True)
    if trial.suggest_categorical("mining.kind", ["none", "ohem"]) == "ohem":
        trial.suggest_float("mining.share", 0.3, 1.0)
    return {"train.batch_size": 4}


SPACE = Space(
    source="space.py",
    digest="0" * 64,
    about="Is it so?",
    objectives=(Objective(metric=METRIC, mode="min"),),
    draw=draw,
)


def shape_of(space: Space = SPACE) -> SpaceShape:
    """Of a space, for the recipe here."""
    return check_space(space, TREE, source="recipe")


def settings(**changed: Any) -> SearchSettings:
    """Of a search over `SPACE`."""
    tree = {
        "recipe": "recipe",
        "tree": dict(TREE),
        "command": "mono3d tune recipe --space space.py",
        "space": "space.py",
        "space_digest": "0" * 64,
        "objectives": {METRIC: "min"},
        "budget": {"trials": 6},
        **changed,
    }
    return read_settings(tree, source="test")


def new_record(
    url: str, name: str = "search", space: Space = SPACE, **changed: Any
) -> SearchRecord:
    """A search that has just begun."""
    record = create_search(open_database(url, creates=True), name, settings(**changed))
    record.prepare(space, shape_of(space))
    return record


def reopened(url: str, name: str = "search", space: Space = SPACE) -> SearchRecord:
    """The same as another process would find it."""
    record = open_search(open_database(url, creates=False), name)
    record.prepare(space, shape_of(space))
    return record


def sqlite_url(folder: Path) -> str:
    """Of a file that need not exist."""
    return f"sqlite:///{folder / 'searches.db'}"
