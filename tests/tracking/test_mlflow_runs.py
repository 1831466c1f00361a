import http.server
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from mono3d.errors import ConfigError, ServiceError
from mono3d.tracking.mlflow_runs import check_server, find_run, reap
from mono3d.tracking.provenance import current_owner, is_process_alive
from tests.support.mlflow_process import MlflowProcess, free_port

UNKNOWN_ID = "0" * 32


@pytest.fixture
def web_server() -> Iterator[str]:
    """Something that speaks HTTP and is not MLflow."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>It works</html>")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.services
def test_found_run_has_what_was_logged(mlflow_server: MlflowProcess) -> None:
    client = MlflowClient(mlflow_server.uri)
    created = client.create_run("0", tags={"mono3d.checkpoint_uri": "s3://b/c"}, run_name="demo")
    client.log_param(created.info.run_id, "lr", "0.1")
    for step, value in enumerate([0.1, 0.3]):
        client.log_metric(created.info.run_id, "mAP", value, step=step)

    found = find_run(mlflow_server.uri, created.info.run_id)
    assert (found.run_id, found.name, found.status) == (created.info.run_id, "demo", "RUNNING")
    assert (found.params, found.metrics) == ({"lr": "0.1"}, {"mAP": 0.3})
    assert found.checkpoint_uri == "s3://b/c"


@pytest.mark.services
@pytest.mark.parametrize("run_id", [UNKNOWN_ID, "no id at all", "../x"])
def test_unknown_run_is_one_line(mlflow_server: MlflowProcess, run_id: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_run(mlflow_server.uri, run_id)
    message = f"run id {run_id!r}: MLflow at {mlflow_server.uri} has no such run"
    assert str(caught.value) == message


def test_server_that_is_not_there_is_one_line_within_ten_seconds() -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    before_s = time.monotonic()
    with pytest.raises(ServiceError, match=rf"MLflow at {uri} does not answer \(.*refused\)") as e:
        find_run(uri, UNKNOWN_ID)
    assert time.monotonic() - before_s < 10.0
    assert "\n" not in str(e.value)


@pytest.mark.slow
def test_server_that_accepts_and_never_answers_is_one_line_within_ten_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        before_s = time.monotonic()
        with pytest.raises(ServiceError, match="does not answer") as caught:
            find_run(f"http://127.0.0.1:{silent.getsockname()[1]}", UNKNOWN_ID)
        assert time.monotonic() - before_s < 10.0
    assert "\n" not in str(caught.value)


def test_another_server_is_told_from_mlflow(web_server: str) -> None:
    with pytest.raises(ServiceError, match=f"{web_server} is not an MLflow server"):
        find_run(web_server, UNKNOWN_ID)


def test_address_without_a_host_is_one_line() -> None:
    with pytest.raises(ServiceError, match="http:// does not answer"):
        check_server("http://")


def test_password_of_the_address_is_not_shown() -> None:
    with pytest.raises(ServiceError) as caught:
        check_server(f"http://me:hunter2@127.0.0.1:{free_port()}")
    assert "hunter2" not in str(caught.value)


@pytest.mark.services
def test_version_of_the_server(mlflow_server: MlflowProcess) -> None:
    assert check_server(mlflow_server.uri).startswith("3.")


@pytest.mark.services
def test_only_runs_of_dead_processes_are_reaped(mlflow_server: MlflowProcess) -> None:
    client = MlflowClient(mlflow_server.uri)
    experiment = client.create_experiment("reaping")
    alive = current_owner()
    owners = {
        "alive": alive,
        "dead": replace(alive, pid=2**22 - 1),
        "elsewhere": replace(alive, host="elsewhere"),
        "ended": replace(alive, pid=2**22 - 1),
    }
    ids = {
        name: client.create_run(
            experiment, tags={"mono3d.run_name": name, **owner.to_tags()}
        ).info.run_id
        for name, owner in owners.items()
    }
    ids["foreign"] = client.create_run(experiment).info.run_id
    client.set_terminated(ids["ended"], "FINISHED")

    assert reap(mlflow_server.uri, "reaping", is_process_alive) == [ids["dead"]]
    statuses = {name: client.get_run(run_id).info.status for name, run_id in ids.items()}
    assert statuses == {
        "alive": "RUNNING",
        "dead": "KILLED",
        "elsewhere": "RUNNING",
        "ended": "FINISHED",
        "foreign": "RUNNING",
    }


@pytest.mark.services
def test_unknown_experiment_has_nothing_to_reap(mlflow_server: MlflowProcess) -> None:
    assert reap(mlflow_server.uri, "unheard of", is_process_alive) == []
