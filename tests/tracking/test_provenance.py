import json
import os
import re
import subprocess
from dataclasses import replace

import pytest

from mono3d.tracking.provenance import (
    code_tags,
    current_owner,
    is_process_alive,
    owner_from_tags,
)


def test_owner_survives_the_way_through_tags() -> None:
    owner = current_owner()
    again = owner_from_tags(owner.to_tags())

    assert again is not None
    assert replace(again, started_s=0.0) == replace(owner, started_s=0.0)
    assert again.started_s == pytest.approx(owner.started_s, abs=0.01)
    assert owner.pid == os.getpid()


def test_tags_of_other_programs_have_no_owner() -> None:
    assert owner_from_tags({"mlflow.user": "x"}) is None
    assert owner_from_tags({**current_owner().to_tags(), "mono3d.pid": "seven"}) is None


def test_job_id_is_read_from_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"metadata": {"job_submission_id": "train-7"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(config))
    assert current_owner().job_id == "train-7"


def test_ended_process_is_dead() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert not is_process_alive(replace(current_owner(), pid=ended.pid))


def test_process_id_used_again_is_another_process() -> None:
    owner = current_owner()
    assert is_process_alive(owner)
    assert not is_process_alive(replace(owner, started_s=owner.started_s - 60.0))


def test_process_on_another_host_is_taken_to_be_alive() -> None:
    assert is_process_alive(replace(current_owner(), host="elsewhere", pid=2**22 - 1))


def test_tags_say_which_code_of_whom_made_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/mono3d", "train"])
    monkeypatch.setenv("LOGNAME", "somebody")
    tags = code_tags()
    assert tags["mlflow.source.name"] == "mono3d"
    assert tags["mlflow.user"] == "somebody"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", tags["mono3d.version"])
    commit = tags.get("mlflow.source.git.commit", "0" * 40)  # a source archive has no commit
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commit)
