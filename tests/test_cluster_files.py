"""The files in cluster/ and docker/, as far as they can be checked without a cluster."""

import json
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray._private.runtime_env.packaging import create_package
from ray.runtime_env import RuntimeEnv

ROOT = Path(__file__).parents[1]
CLUSTER, DOCKER = ROOT / "cluster", ROOT / "docker"
RAY_SCHEMA = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
SECRET_WORDS = ("KEY", "SECRET", "TOKEN", "PASSWORD")


def load(path: Path) -> dict[str, Any]:
    tree = yaml.safe_load(path.read_text())
    assert isinstance(tree, dict)
    return tree


def test_the_local_cluster_has_the_schema_of_ray() -> None:
    cluster = load(CLUSTER / "local.yaml")
    schema = json.loads(RAY_SCHEMA.read_text())
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "max_worker": 1}, schema)


def test_every_node_starts_with_token_authentication_and_ports_clear_of_the_services() -> None:
    cluster = load(CLUSTER / "local.yaml")
    for role in ("head", "worker"):
        start = cluster[f"{role}_start_ray_commands"][-1]
        assert "RAY_AUTH_MODE=token" in start
        assert "--min-worker-port=20000 --max-worker-port=20999" in start


def test_the_runtime_environment_is_valid_and_holds_no_secret() -> None:
    tree = load(CLUSTER / "runtime_env.yaml")
    RuntimeEnv(**tree)
    assert not [name for name in tree["env_vars"] if name.endswith(SECRET_WORDS)]


def test_an_upload_holds_the_code_and_nothing_else(tmp_path: Path) -> None:
    project = tmp_path / "project"
    files = (
        "mono3d/data/nuscenes.py", "mono3d/recipes/demo.yaml", "pyproject.toml", ".git/config",
        ".venv/bin/python", "data/images.bin", "runs/demo/weights", "mono3d.egg-info/PKG-INFO",
        "mono3d/__pycache__/data.pyc", "tests/.mypy_cache/x", ".ci/run",
    )  # fmt: skip
    for name in files:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    package = tmp_path / "package.zip"
    excludes = load(CLUSTER / "runtime_env.yaml")["excludes"]
    create_package(str(project), package, include_gitignore=False, excludes=excludes)
    with zipfile.ZipFile(package) as archive:
        stored = {name for name in archive.namelist() if not name.endswith("/")}
    assert stored == set(files[:3])


def test_compose_publishes_on_loopback_only() -> None:
    services = load(DOCKER / "compose.yaml")["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_takes_every_secret_from_its_environment() -> None:
    services = load(DOCKER / "compose.yaml")["services"]
    secrets = {
        name: value
        for service in services.values()
        for name, value in service.get("environment", {}).items()
        if any(word in name for word in SECRET_WORDS)
    }
    assert {"AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"} <= secrets.keys()
    assert all(value.startswith("${") for value in secrets.values())


def test_workers_of_compose_cannot_reach_mlflow() -> None:
    services = load(DOCKER / "compose.yaml")["services"]
    assert "tracking" not in services["worker"]["networks"]
    assert "MLFLOW_TRACKING_URI" not in services["worker"]["environment"]


def test_each_image_ends_as_a_user_without_rights() -> None:
    stages = (DOCKER / "Dockerfile").read_text().split("\nFROM ")[2:]
    assert len(stages) == 2
    for stage in stages:
        users = [line for line in stage.splitlines() if line.startswith("USER ")]
        assert users[-1] == "USER mono3d"
