"""Pictures of a search: all that can be drawn are, from any study, and nothing is fetched."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from mono3d.search.report import interactive_knobs, png
from mono3d.search.report.figures import PAGE, search_figures, write_figures
from mono3d.search.report.look import broken, value_limits
from mono3d.search.report.table import Goal
from mono3d.search.report.view import view
from tests.support.search_studies import (
    awkward_studies,
    mining_study,
    study_of,
    trade_off_study,
    trial,
)

ALL = ("history", "importances", "slices", "parallel_coordinates", "learning_curves")
FEW = ("history", "slices", "parallel_coordinates")
DRAWN = {
    "no trials": (),
    "nothing finished": (),
    "one trial": ("history",),
    "all equal": FEW,
    "nothing varies": ("history",),
    "no settings": ("history",),
    "never finite": (),
    "not finite": FEW,
    "two objectives, no trials": (),
    "two objectives, one trial": ("history", "pareto_front"),
    "two objectives, all equal": ("history", "pareto_front", *FEW[1:]),
    "two objectives, not finite": ("history", "pareto_front", "importances", *FEW[1:]),
    "five objectives": ("history", "pareto_front", "importances", *FEW[1:]),
}

SLOW = ("40 settings", "five objectives")


def write(study: object, folder: Path, name: str = "a search") -> tuple[Path, ...]:
    shown = view(study)
    return write_figures(search_figures(shown), shown, folder, title=name, answer=["Yes & no."])


@pytest.fixture(scope="module")
def mining(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write(mining_study(), tmp_path_factory.mktemp("mining"), "a <b>search</b>")


def test_a_search_has_all_pictures_and_each_shows_something(mining: tuple[Path, ...]) -> None:
    *pictures, page = mining
    assert [path.stem for path in pictures] == list(ALL)
    assert page.name == PAGE
    for path in pictures:
        pixels = cv2.imread(str(path))
        assert pixels.shape[1] > 900
        assert 0.005 < (pixels < 250).any(2).mean() < 0.5
        assert len(np.unique(pixels[::3, ::3].reshape(-1, 3), axis=0)) > 30


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in awkward_studies()],
)
def test_awkward_studies_are_drawn_as_far_as_they_can_be(name: str, tmp_path: Path) -> None:
    study = awkward_studies()[name]
    shown = view(study)
    figures = search_figures(shown)
    assert tuple(f.name for f in figures.drawn) == DRAWN.get(name, ALL[:4])
    assert ("far worse" in "".join(f.reading for f in figures.drawn)) == (name == "one far off")
    assert len(figures.drawn) + len(figures.left_out) == 5 + (len(study.directions) > 1)
    assert all("\n" not in reason and len(reason) > 5 for reason in figures.left_out.values())
    paths = write_figures(figures, shown, tmp_path, title=name, answer=())
    assert all(path.stat().st_size > 5000 for path in paths)


def test_the_page_fetches_nothing_and_sends_nothing(mining: tuple[Path, ...]) -> None:
    text = mining[-1].read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=", text)
    # Once, and it is large.
    assert text.count("plotly.js v") == 1
    assert '"showSendToCloud": true' not in text
    assert text.count('"showSendToCloud": false') == len(ALL)
    assert "<title>a &lt;b&gt;search&lt;/b&gt;</title>" in text
    assert "<li>Yes &amp; no.</li>" in text
    body = text.rpartition("</script></head>")[2]
    assert [body.find(f'id="{name}"') for name in ALL] == sorted(
        body.find(f'id="{name}"') for name in ALL
    )
    assert all(body.count(f'id="{name}"') == 1 for name in ALL)
    assert len(re.findall("<tr ", body)) == 32
    assert '<tr class="best"><td>1</td>' in body


def test_words_from_trials_are_no_html(tmp_path: Path) -> None:
    text = write(awkward_studies()["odd words"], tmp_path)[-1].read_text()
    assert "<b>\\|" not in text.rpartition("</script></head>")[2]


def test_the_same_study_has_the_same_page_and_none_of_an_earlier_ones_pictures(
    tmp_path: Path,
) -> None:
    study = study_of([trial({"a": 0.5}, 1.0)])
    (tmp_path / "slices.png").write_bytes(b"of an earlier report")
    first = write(study, tmp_path)[-1].read_bytes()
    assert write(study, tmp_path)[-1].read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.png", PAGE]


def test_several_objectives_have_a_pareto_front_with_the_best_marked() -> None:
    figures = {f.name: f for f in search_figures(view(trade_off_study())).drawn}
    assert list(figures) == ["history", "pareto_front", *ALL[1:4]]
    beaten, front, own = figures["pareto_front"].interactive.data
    assert (len(beaten.x) + len(front.x), len(own.x)) == (20, 1)
    assert front.name == "Pareto-optimal"


def test_every_branch_of_conditional_settings_is_in_the_parallel_coordinates() -> None:
    figures = {f.name: f for f in search_figures(view(mining_study())).drawn}
    (trace,) = figures["parallel_coordinates"].interactive.data
    by_label = {axis.label: axis for axis in trace.dimensions}
    assert [label for label in by_label if label.startswith("mining")] == [
        "mining.kind",
        "mining.warmup_<br>epochs",
        "mining.sharpness",
        "mining.share",
    ]
    assert "not there" in by_label["mining.sharpness"].ticktext
    assert "not there" not in by_label["mining.kind"].ticktext
    assert all(len(axis.values) == 26 for axis in by_label.values())
    lacking = [value < -0.05 for value in by_label["mining.sharpness"].values]
    assert sum(lacking) == 13
    assert "passes below its axis" in figures["parallel_coordinates"].reading


def test_of_many_settings_the_important_ones_are_drawn() -> None:
    study = study_of(
        [
            trial({f"s{k}": (k + 3 + n * n * (k + 3)) % 47 / 47 for k in range(40)}, 1.0 * n)
            for n in range(24)
        ]
    )
    shown = view(study)
    most = {name for name, _ in list(shown.importances[0].groups[0].shares.items())[:5]}
    assert most <= {knob.name for knob in shown.foremost(15)}
    figure = interactive_knobs.parallel_coordinates(shown)
    assert len(figure.data[0].dimensions) == 16


def test_a_result_far_off_does_not_hide_the_others() -> None:
    goal = Goal("error", less_is_better=True)
    near = [0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16]
    limits = value_limits([*near, 50.0], goal)
    assert limits.num_beyond == 1
    assert 0.16 < limits.high < 0.17
    assert limits.place(50.0) == 1.0
    assert value_limits([*near, 0.2], goal).num_beyond == 0
    # A good one is never left out.
    assert value_limits([*near, -50.0], goal).low < -50
    more = value_limits([-value for value in (*near, 50.0)], Goal("gain", less_is_better=False))
    assert (more.num_beyond, more.place(-50.0)) == (1, 0.0)
    shown = view(awkward_studies()["one far off"])
    assert png.history(shown).axes[0].get_ylim()[1] < 25


@pytest.mark.parametrize("values", [[], [0.0], [3.0, 3.0], [-2.0] * 9])
def test_limits_are_apart_whatever_the_values(values: list[float]) -> None:
    limits = value_limits(values, Goal("error", less_is_better=True))
    assert limits.low < limits.high
    assert all(limits.low < value < limits.high for value in values)


def test_paths_are_broken_behind_dots_and_underscores() -> None:
    assert broken("model.backbone.hidden_channels", 16) == "model.backbone.\nhidden_channels"
    assert broken("optim.lr", 16) == "optim.lr"
