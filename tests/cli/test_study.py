"""`mono3d study` on the command line: what it plans, and what it refuses."""

import json
import sys
from pathlib import Path

import pytest

from mono3d.cli.main import main


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["mono3d", "study", "demo", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return call


def test_a_dry_run_lists_every_run_and_writes_nothing(  # type: ignore[no-untyped-def]
    study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study("--variants", "mining", "--only", "gmm,ohem", "--seeds", "0,4", "--dry-run") == 0
    output = capsys.readouterr().out
    assert "6 runs; declared metric val/centers_depth_abs_rel (min)" in output
    assert "mining.kind=ohem" in output
    assert "lss" not in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0,one"], "--seeds 0,one: must be numbers with commas, such as 0,1,2"),
        (["--seeds", "1,1"], "--seeds 1,1: must differ, and be 0 or more"),
        (["--variants", "minning"], "--variants minning: neither a file nor a shipped one"),
        (["--only", "gmm,best"], "--only best: is none of none, gmm,"),
        (["--baseline", "best"], "--baseline best: is none of none, gmm,"),
        (["--only", "none"], "--only none: nothing to compare none with"),
        (["mining.sharpnes=3"], "mining.sharpnes=3: variant none chooses its own mining"),
        (["loss.deep=3"], "variant none: unknown key loss.deep; did you mean loss.depth?"),
        (["--local", "--parallel", "2"], "--parallel 2: with --local one run follows the other"),
        (["--local"], "cluster.workers=2: --local has one; set it to 1"),
        (["data.root=nowhere", "--local", "cluster.workers=1"], "nowhere"),
        (["--json", "broken.json"], "broken.json: is not a study's results"),
        (["--json", "missing.json", "--report"], "missing.json: there are no results to report"),
        (["--name", "a/b"], "run name 'a/b': must be up to 100 letters"),
    ],
)
def test_what_is_wrong_is_one_line(  # type: ignore[no-untyped-def]
    study, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.json").write_text(json.dumps({"runs": 3}))
    assert study(*arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("mono3d: ")
    assert message in error
    assert (tmp_path / "broken.json").read_text() == json.dumps({"runs": 3})
