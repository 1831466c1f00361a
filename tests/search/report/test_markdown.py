"""What a search says of itself: the answer first, and no more than it shows."""

import re
from pathlib import Path

import optuna
import pytest

from mono3d.search.report.answer import answer
from mono3d.search.report.markdown import SearchReport, write_search_report
from mono3d.search.report.view import view
from tests.support.search_studies import (
    ERROR,
    awkward_studies,
    mining_study,
    study_of,
    trade_off_study,
    trial,
)

NOTHING_SAYS = "so nothing says whether the search gained anything"
FLATTERED = "was chosen by the very values that it is judged by"


def write(study: optuna.Study, folder: Path, recipe: Path | None = None) -> SearchReport:
    return write_search_report(
        study,
        folder,
        title="demo-mining",
        command="mono3d tune demo --space tune_spaces/mining.py",
        about="Does mining pay?",
        best_recipe=recipe,
    )


def said(study: optuna.Study) -> str:
    return " ".join(answer(view(study)))


def repeated(own: list[float], best: list[float]) -> optuna.Study:
    """Two trials with several seeds: the recipe's own settings and another one."""
    trials = [
        trial(
            {"a": place / 2},
            sum(values) / len(values),
            is_default=place == 0,
            repeats=[[value] for value in values],
        )
        for place, values in enumerate((own, best))
    ]
    return study_of(trials, metrics=[ERROR])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> SearchReport:
    folder = tmp_path_factory.mktemp("report")
    return write(mining_study(), folder, folder / "best.yaml")


def test_the_report_has_the_answer_first_then_what_it_stands_on(written: SearchReport) -> None:
    text = written.report.read_text()
    assert written.report.name == "report.md"
    assert [path.name for path in written.figures] == [
        "history.png", "importances.png", "slices.png", "parallel_coordinates.png",
        "learning_curves.png", "search.html",
    ]  # fmt: skip
    assert all(path.is_file() for path in written.figures)
    headings = re.findall("^## (.*)$", text, re.MULTILINE)
    assert headings == [
        "Answer", "Best settings", "What mattered", "Trials", "Pictures", "Method",
    ]  # fmt: skip
    assert written.answer[0] == "Best of 26 trials with a result: trial 23 with depth error 0.1307."
    assert written.answer[1] == (
        "That is 0.0093 (6.7 %) better than the recipe's own settings (trial 0: 0.1400)."
    )
    assert written.answer[-1] == "Trial 23 as a recipe: best.yaml"
    shown = text.partition("## Answer")[2].partition("##")[0]
    assert all(f"- {line}" in shown for line in written.answer)
    assert all(f"![{name}]" in text for name in ("History", "Importances", "Learning curves"))
    assert "mono3d tune demo --space tune_spaces/mining.py" in text
    assert "Best checkpoint: `s3://bucket/s-0023`" in text


def test_all_trials_are_in_the_table_and_reasons_are_grouped(written: SearchReport) -> None:
    text = written.report.read_text()
    trials = text.partition("## Trials")[2].partition("## Pictures")[0]
    assert "25 finished, 1 imported, 3 stopped early, 2 failed, 1 running." in trials
    assert "a finished trial took 1 min 52 s (median), the longest 5 min 00 s" in trials
    assert "one that was stopped early 50 s" in trials
    assert "- stopped early, trials 26, 27, 28: worse than others after epoch #" in trials
    assert "- failed, trials 29, 30: worker died \\| out of memory (# GB)" in trials
    table = [line for line in trials.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 32
    unescaped = [len(re.findall(r"(?<!\\)\|", line)) for line in table]
    assert set(unescaped) == {10}
    assert "| the recipe's own | 2 | 5 min 00 s | s-0000 |" in trials
    assert "| imported | 0.1500 | `mining.kind=none` |  | – |  | from search before, trial 7 |" in (
        trials
    )


def test_settings_of_the_best_can_be_copied_with_all_digits(tmp_path: Path) -> None:
    scales = {"aug.crop": optuna.distributions.CategoricalDistribution([None, "random"])}
    own = trial({"a": 0.5, "aug.crop": "random", "b": 0.25}, 2.0, scales=scales, is_default=True)
    best = trial({"a": 1 / 3, "aug.crop": None, "b": 0.25}, 1.0, scales=scales)
    text = write(study_of([own, best]), tmp_path).report.read_text()
    assert "```sh\na=0.3333333333333333\naug.crop=null\n```" in text


def test_one_seed_gives_no_more_than_a_hint() -> None:
    trials = [trial({"a": 0.1}, 2.0, is_default=True), trial({"a": 0.2}, 1.0)]
    text = said(study_of(trials))
    assert "trial 1 with objective 1.0000. That is 1.0000 (50.0 %) better" in text
    assert (
        "With one seed a difference is noise unless repeats say otherwise; none were made" in text
    )
    assert "The best of 2 was chosen by the very values" in text
    imported = trial({"a": 0.3}, 0.5, imported="search before, trial 3")
    text = said(study_of([*trials, imported]))
    assert "trial 2 (from search before, trial 3; not run here) with objective 0.5000" in text


def test_repeats_decide_whether_seeds_alone_may_make_the_difference() -> None:
    clear = said(repeated([0.150, 0.161, 0.155], [0.140, 0.150, 0.146]))
    assert "Seed by seed the difference is -0.0100 ± 0.0025 (95 %, 3 seeds), more than" in clear
    assert "trial 1 with depth error 0.1453 ± 0.005 over 3 seeds" in clear
    assert FLATTERED in clear
    open_ = said(repeated([0.150, 0.161, 0.155], [0.158, 0.140, 0.146]))
    assert "which seeds alone may make" in open_
    unlike = said(repeated([0.150, 0.161, 0.155], [0.140, 0.141]))
    assert "where they were made, seeds differ by 0.0031" in unlike


def test_nothing_is_claimed_where_the_recipe_was_not_beaten_or_not_tried() -> None:
    not_beaten = said(study_of([trial({"a": 0.1}, 1.0, is_default=True), trial({"a": 0.2}, 1.0)]))
    assert "were not beaten: the search found none better" in not_beaten
    assert FLATTERED not in not_beaten
    assert NOTHING_SAYS in said(study_of([trial({"a": 0.1}, 1.0), trial({"a": 0.2}, 2.0)]))
    failed = trial({"a": 0.1}, state=optuna.trial.TrialState.FAIL, is_default=True)
    assert NOTHING_SAYS in said(study_of([failed, trial({"a": 0.2}, 2.0)]))
    assert said(study_of([failed])) == "No trial has a result yet."


def test_what_mattered_says_what_it_stands_on(written: SearchReport) -> None:
    text = written.report.read_text()
    mattered = text.partition("## What mattered")[2].partition("##")[0]
    assert re.search(
        r"- 26 finished trials: mining\.kind, the only setting that all have, foretells \d\d %",
        mattered,
    )
    assert re.search(
        r"- 13 finished trials where mining\.kind=gmm: mining\.sharpness \(\d\d %\)", mattered
    )
    assert "- not judged: mining.kind=ohem (6 finished, 8 needed)." in mattered


def test_several_objectives_are_answered_by_the_trials_that_none_beats(tmp_path: Path) -> None:
    written = write(trade_off_study(), tmp_path)
    assert re.match(r"\d+ of 20 trials with a result are Pareto-optimal", written.answer[0])
    assert "Trial 19: depth error 0.1525, mAP 0.1550." in written.answer
    assert any("are not: trial" in line for line in written.answer)
    text = written.report.read_text()
    assert "## Pareto-optimal settings" in text
    assert "| Pareto | 19 | finished | 0.1525 | 0.1550 |" in text
    assert "### Pareto front" in text


@pytest.mark.parametrize("name", awkward_studies())
def test_any_study_has_a_report(name: str, tmp_path: Path) -> None:
    """With the pictures' reasons where there are none; drawing is another test's."""
    study = awkward_studies()[name]
    shown = view(study)
    lines = answer(shown, "best.yaml")
    assert lines
    assert all(line and "\n" not in line and "nan" not in line for line in lines)
    if not shown.usable:
        text = write(study, tmp_path).report.read_text()
        assert "- No trial has a result yet." in text
        assert "- History: no trial has a result yet." in text


def test_words_from_trials_are_no_markdown(tmp_path: Path) -> None:
    text = write(awkward_studies()["odd words"], tmp_path).report.read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == 10
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {10}
