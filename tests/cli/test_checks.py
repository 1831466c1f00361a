"""What doctor looks at, one thing at a time."""

import os
import sys
import time
from pathlib import Path

import pytest

from mono3d.cli import checks
from mono3d.services.ports import free_block
from tests.support.web_server import web_server


def _closed() -> str:
    return f"127.0.0.1:{free_block(1, host='127.0.0.1')}"


@pytest.mark.parametrize(
    ("running", "status"), [((3, 10), "fail"), ((3, 11), "ok"), ((3, 12), "ok"), ((3, 13), "fail")]
)
def test_python_versions(running: tuple[int, int], status: str) -> None:
    assert checks.check_python(running).status == status


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_packages().status == "ok"
    monkeypatch.setattr(checks, "find_spec", lambda name: None if name == "ray" else object())
    check = checks.check_packages()
    assert (check.status, check.detail) == ("warn", "missing: ray (training on a cluster)")
    assert checks.check_ray({}).status == "warn"


def test_torch_is_found_with_its_device() -> None:
    import torch

    check = checks.check_torch()
    assert torch.__version__ in check.detail
    assert ("GPU" in check.detail) != torch.cuda.is_available()


def test_no_cluster_is_needed() -> None:
    assert checks.check_ray({}).status == "ok"


@pytest.mark.parametrize("scheme", ["", "http://", "ray://"])
def test_cluster_that_is_away_is_told_at_once(scheme: str) -> None:
    address, start = scheme + _closed(), time.monotonic()
    check = checks.check_ray({"RAY_ADDRESS": address})
    assert time.monotonic() - start < 3
    assert check.status == "fail"
    assert address in check.detail
    assert "nobody answers" in check.detail


@pytest.mark.slow
def test_what_is_no_cluster_is_told_apart() -> None:
    with web_server() as url:
        start = time.monotonic()
        check = checks.check_ray({**os.environ, "RAY_ADDRESS": url.removeprefix("http://")})
    assert time.monotonic() - start < 12
    assert check.status == "fail"


def test_unset_services_are_warnings_with_a_fix() -> None:
    for check in (checks.check_mlflow({}), checks.check_s3({}, "s3://runs/a")):
        assert check.status == "warn"
        assert "mono3d services up" in check.fix


def test_services_that_are_away_fail_with_a_fix() -> None:
    url = f"http://{_closed()}"
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hidden"}
    tracking = checks.check_mlflow({"MLFLOW_TRACKING_URI": url})
    store = checks.check_s3({"AWS_ENDPOINT_URL": url, **keys}, "s3://runs/a")
    for check in (tracking, store):
        assert check.status == "fail"
        assert url in check.detail
        assert check.fix.startswith("start ")
        assert "hidden" not in check.detail + check.fix


@pytest.mark.services
def test_services_that_are_there(stack: dict[str, str]) -> None:
    assert checks.check_mlflow(stack).status == "ok"
    assert checks.check_s3(stack, "s3://mono3d/runs").status == "ok"


@pytest.mark.services
def test_services_mistaken_for_each_other(stack: dict[str, str]) -> None:
    tracking = checks.check_mlflow({"MLFLOW_TRACKING_URI": stack["AWS_ENDPOINT_URL"]})
    swapped = {**stack, "AWS_ENDPOINT_URL": stack["MLFLOW_TRACKING_URI"]}
    store = checks.check_s3(swapped, "s3://mono3d/runs")
    assert (tracking.status, store.status) == ("fail", "fail")
    assert "MLFLOW_TRACKING_URI" in tracking.fix
    assert "AWS_ENDPOINT_URL" in store.fix


@pytest.mark.services
def test_bucket_that_is_missing(stack: dict[str, str]) -> None:
    check = checks.check_s3(stack, "s3://nowhere/runs")
    assert (check.status, check.fix) == ("fail", "create the bucket or correct its name")


def test_disk_and_shared_memory_are_measured(tmp_path: Path) -> None:
    assert str(tmp_path) in checks.check_disk(tmp_path).detail
    assert checks.check_shared_memory(tmp_path / "none").status == "ok"
    assert "GiB" in checks.check_shared_memory(tmp_path).detail


def test_folder_with_real_data(tmp_path: Path) -> None:
    assert checks.check_data({}).status == "ok"
    assert checks.check_data({"MONO3D_REAL_DATA": str(tmp_path)}).status == "ok"
    assert checks.check_data({"MONO3D_REAL_DATA": str(tmp_path / "none")}).status == "fail"


def test_python_of_these_tests_is_accepted() -> None:
    assert checks.check_python().detail.endswith(sys.executable)
