"""docker/compose.yaml: docker compose itself reads it, and rules of our own."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.docker.compose_file import SECRETS, resolved, run_config, written
from tests.docker.dockerfile import DOCKER

ONCE = {"buckets", "databases"}
"""Services that do their work and end."""
SECRET_WORDS = ("KEY", "SECRET", "TOKEN", "PASSWORD")


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    return resolved()


@pytest.fixture(scope="module")
def services(stack: dict[str, Any]) -> dict[str, Any]:
    found = stack["services"]
    assert isinstance(found, dict)
    return found


def test_compose_itself_refuses_a_key_that_it_does_not_know(tmp_path: Path) -> None:
    bad = tmp_path / "compose.yaml"
    bad.write_text((DOCKER / "compose.yaml").read_text().replace("cap_drop:", "cap_dorp:"))
    answer = run_config(bad)
    assert answer.returncode != 0
    assert "cap_dorp" in answer.stderr


@pytest.mark.parametrize("name", SECRETS)
def test_nothing_starts_without_every_secret(name: str) -> None:
    environ = {other: value for other, value in SECRETS.items() if other != name}
    answer = run_config(DOCKER / "compose.yaml", environ=environ)
    assert answer.returncode != 0
    assert f"required variable {name} is missing" in answer.stderr


def test_every_secret_comes_from_the_environment() -> None:
    secrets = {
        name: value
        for service in written()["services"].values()
        for name, value in service.get("environment", {}).items()
        if any(word in name for word in SECRET_WORDS)
    }
    assert {"AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "POSTGRES_PASSWORD"} <= secrets.keys()
    assert all(value.startswith("${") for value in secrets.values())
    urls = re.findall(r"//[^/\s]*:([^/\s]*)@", (DOCKER / "compose.yaml").read_text())
    assert set(urls) == {"${POSTGRES_PASSWORD}"}


def test_images_are_ours_or_pinned_to_a_release(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if "build" in service:
            assert service["image"] == "mono3d:cpu", name
            assert service["build"]["target"] == "cpu"
        else:
            assert re.fullmatch(r"[a-z]+:\d+\.\d+-\w+(@sha256:[0-9a-f]{64})?", service["image"])


def test_every_process_is_a_plain_user_that_cannot_become_another(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["user"] in {"1000:1000", "postgres"}, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        # Compose writes configs into the container.
        assert service.get("read_only", False) != ("configs" in service), name


def test_every_server_has_a_health_check_a_restart_policy_and_limits(
    services: dict[str, Any],
) -> None:
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert limits.keys() == {"cpus", "memory"}
        assert ("healthcheck" in service) == (name not in ONCE), name
        assert service["restart"] == ("on-failure" if name in ONCE else "unless-stopped")


def test_services_wait_for_what_the_others_can_reach(services: dict[str, Any]) -> None:
    for service in services.values():
        for other, wait in service.get("depends_on", {}).items():
            is_once = other in ONCE
            assert wait["condition"] == (
                "service_completed_successfully" if is_once else "service_healthy"
            )
            assert is_once or "healthcheck" in services[other]
    assert set(services["mlflow"]["depends_on"]) == ONCE
    assert services["worker"]["depends_on"].keys() == {"head"}


def test_ports_are_published_on_loopback_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert {port["published"] for port in ports} == {"5000", "8265"}
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_all_that_is_declared_is_used_and_the_other_way_round(stack: dict[str, Any]) -> None:
    services = stack["services"].values()
    mounts = [mount for service in services for mount in service.get("volumes", [])]
    assert {mount["type"] for mount in mounts} == {"volume"}
    assert {mount["source"] for mount in mounts} == stack["volumes"].keys()
    assert {net for each in services for net in each["networks"]} == stack["networks"].keys()
    configs = [config["source"] for each in services for config in each.get("configs", [])]
    assert set(configs) == stack["configs"].keys()


def test_servers_keep_their_state_in_volumes(services: dict[str, Any]) -> None:
    def folders(name: str) -> set[str]:
        return {mount["target"] for mount in services[name]["volumes"]}

    assert folders("s3") == {"/state"}
    assert "-dir=/state" in services["s3"]["command"]
    assert folders("postgres") == {"/var/lib/postgresql/data"}
    assert folders("head") == folders("worker") == {"/data", "/work", "/cache"}


def test_there_are_two_workers_and_they_reach_neither_mlflow_nor_the_database(
    services: dict[str, Any],
) -> None:
    worker = services["worker"]
    assert worker["deploy"]["replicas"] == 2
    assert worker["networks"].keys() == {"storage", "ray"}
    for name in ("mlflow", "postgres"):
        reached = worker["networks"].keys() & services[name]["networks"].keys()
        assert reached <= {"storage"}
    assert "storage" not in services["postgres"]["networks"]
    text = str(worker["environment"])
    assert "MLFLOW" not in text
    assert SECRETS["POSTGRES_PASSWORD"] not in text


def test_networks_of_storage_and_database_lead_nowhere_else(stack: dict[str, Any]) -> None:
    inner = {name for name, net in stack["networks"].items() if net.get("internal")}
    assert inner == {"storage", "database"}


def test_the_master_volumes_and_filer_of_the_s3_server_stay_in_its_container(
    services: dict[str, Any],
) -> None:
    command = services["s3"]["command"]
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0"} <= set(command)


def test_ray_asks_every_node_for_the_token(services: dict[str, Any]) -> None:
    for name in ("head", "worker"):
        environ = services[name]["environment"]
        assert environ["RAY_AUTH_MODE"] == "token"
        assert environ["RAY_AUTH_TOKEN"] == SECRETS["RAY_TOKEN"]


def test_servers_show_no_password_in_their_commands(services: dict[str, Any]) -> None:
    for service in services.values():
        words = str(service.get("command")) + str(service.get("healthcheck"))
        assert not [secret for secret in SECRETS.values() if secret in words]


def test_the_gpu_file_changes_the_image_and_gives_one_worker_the_gpus() -> None:
    services = resolved("compose.yaml", "compose.gpu.yaml")["services"]
    ours = {name: service for name, service in services.items() if "build" in service}
    assert {service["image"] for service in ours.values()} == {"mono3d:gpu"}
    assert {service["build"]["target"] for service in ours.values()} == {"gpu"}
    deploy = services["worker"]["deploy"]
    assert deploy["replicas"] == 1
    assert deploy["resources"]["limits"]
    (device,) = deploy["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
