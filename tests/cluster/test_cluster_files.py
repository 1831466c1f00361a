"""cluster/*.yaml, as far as they can be checked without a cluster."""

import copy
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from botocore.session import get_session
from botocore.validate import ParamValidator
from ray._private.runtime_env.packaging import create_package
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import (
    CloudResourceMonitor,
)
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent
from ray.runtime_env import RuntimeEnv

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
RAY_SCHEMA = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
SECRET_WORDS = ("KEY", "SECRET", "TOKEN", "PASSWORD")
LAUNCHED = ("local", "aws")
"""By `ray up`."""
SPOT, ON_DEMAND = "gpu_spot", "gpu_on_demand"


def load(path: Path) -> dict[str, Any]:
    tree = yaml.safe_load(path.read_text())
    assert isinstance(tree, dict)
    return tree


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_cluster_has_the_schema_of_ray(name: str) -> None:
    cluster = load(CLUSTER / f"{name}.yaml")
    schema = json.loads(RAY_SCHEMA.read_text())
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "max_worker": 1}, schema)


@pytest.mark.parametrize("name", LAUNCHED)
def test_every_node_starts_with_token_authentication_and_ports_clear_of_the_services(
    name: str,
) -> None:
    cluster = load(CLUSTER / f"{name}.yaml")
    for role in ("head", "worker"):
        start = cluster[f"{role}_start_ray_commands"][-1]
        assert "RAY_AUTH_MODE=token" in start
        assert "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S=0.2" in start
        assert "--min-worker-port=20000 --max-worker-port=20999" in start
    assert "--dashboard-host=127.0.0.1" in cluster["head_start_ray_commands"][-1]


@pytest.mark.parametrize("path", sorted(CLUSTER.rglob("*.yaml")), ids=lambda path: path.name)
def test_no_file_holds_a_key_or_a_token(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|[0-9a-fA-F]{32}", text)
    named = re.findall(rf"\w*(?:{'|'.join(SECRET_WORDS)})\w*\s*[=:]\s*(?=\S)", text)
    assert not named


def test_the_runtime_environment_is_valid_and_holds_no_secret() -> None:
    tree = load(CLUSTER / "runtime_env.yaml")
    RuntimeEnv(**tree)
    assert not [name for name in tree["env_vars"] if name.endswith(SECRET_WORDS)]


def test_an_upload_holds_what_is_ones_own_and_nothing_that_nodes_have(tmp_path: Path) -> None:
    project = tmp_path / "project"
    files = (
        "mine.yaml", "tune_spaces/mine.py", "pyproject.toml", "mono3d/data/nuscenes.py",
        ".git/config", ".venv/bin/python", "data/images.bin", "runs/demo/weights", ".ci/run",
        "mono3d.egg-info/PKG-INFO", "tune_spaces/__pycache__/mine.pyc", "docs/.mypy_cache/x",
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


def test_an_upload_of_this_project_is_less_than_a_megabyte(tmp_path: Path) -> None:
    """Ray's limits are for the content; it stores files as they are."""
    package = tmp_path / "package.zip"
    excludes = load(CLUSTER / "runtime_env.yaml")["excludes"]
    create_package(str(CLUSTER.parent), package, include_gitignore=True, excludes=excludes)
    assert package.stat().st_size < 1_000_000
    with zipfile.ZipFile(package) as archive:
        assert "cluster/runtime_env.yaml" in archive.namelist()


def aws_as_ray_completes_it() -> dict[str, Any]:
    """As `ray up` has it before it asks EC2 anything."""
    completed = prepare_config(load(CLUSTER / "aws.yaml"))
    assert isinstance(completed, dict)
    return completed


def test_ray_completes_the_aws_cluster_without_commands_of_its_own() -> None:
    cluster, completed = load(CLUSTER / "aws.yaml"), aws_as_ray_completes_it()
    validate_config(completed)
    assert completed["head_setup_commands"] == cluster["setup_commands"]
    assert completed["worker_setup_commands"] == cluster["setup_commands"]
    assert completed["available_node_types"]["head"]["max_workers"] == 0
    del completed["available_node_types"]["head"]
    with pytest.raises(ValueError, match="head_node_type"):
        validate_config(completed)


def launch_complaints(node_config: dict[str, Any]) -> str:
    """What boto3 would say before it sends a launch of such a machine."""
    model = get_session().get_service_model("ec2").operation_model("RunInstances")
    request = {**node_config, "MinCount": 1, "MaxCount": 1}
    report = ParamValidator().validate(request, model.input_shape)
    return str(report.generate_report())


def test_boto3_accepts_the_launch_of_each_type_of_machine() -> None:
    types = load(CLUSTER / "aws.yaml")["available_node_types"]
    for kind in types.values():
        assert not launch_complaints(kind["node_config"])
    broken = copy.deepcopy(types[SPOT]["node_config"])
    broken["InstanceMarketOptions"]["SpotOption"] = {}
    assert "SpotOption" in launch_complaints(broken)


def test_machines_have_rights_of_their_role_and_a_group_that_is_not_rays() -> None:
    types = load(CLUSTER / "aws.yaml")["available_node_types"]
    profiles = {name: kind["node_config"]["IamInstanceProfile"] for name, kind in types.items()}
    assert profiles[SPOT] == profiles[ON_DEMAND] != profiles["head"]
    assert all(kind["node_config"]["SecurityGroupIds"] for kind in types.values())
    assert all(
        kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
        for kind in types.values()
    )


def test_workers_get_the_token_with_the_code() -> None:
    assert "~/.ray/auth_token" in load(CLUSTER / "aws.yaml")["file_mounts"]


def test_on_demand_workers_are_the_spot_ones_but_for_the_market() -> None:
    types = load(CLUSTER / "aws.yaml")["available_node_types"]
    spot = copy.deepcopy(types[SPOT])
    assert spot["node_config"].pop("InstanceMarketOptions")["MarketType"] == "spot"
    assert spot.pop("priority") > types[ON_DEMAND]["priority"]
    assert spot == {key: value for key, value in types[ON_DEMAND].items() if key != "priority"}


def launches(
    gpus: int,
    *,
    spot_max: int = 4,
    availability: dict[str, float] | None = None,
) -> dict[str, int]:
    """The machines that Ray's autoscaler asks for when so many workers with a GPU wait."""
    cluster = aws_as_ray_completes_it()
    cluster["available_node_types"][SPOT]["max_workers"] = spot_max
    config = AutoscalingConfig(cluster, skip_content_hash=True)
    waiting = [ResourceRequestUtil.make({"CPU": 6, "GPU": 1}) for _ in range(gpus)]
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count(waiting),
        recoverable_resource_availabilities=availability or {},
    )
    reply = ResourceDemandScheduler().schedule(request)
    asked = {launch.instance_type: launch.count for launch in reply.to_launch}
    return {name: count for name, count in asked.items() if name != "head"}


def test_the_autoscaler_takes_spot_machines_first_and_on_demand_ones_beyond_their_limit() -> None:
    assert launches(2) == {SPOT: 2}
    assert launches(3, spot_max=1) == {SPOT: 1, ON_DEMAND: 2}
    assert launches(2, spot_max=0) == {ON_DEMAND: 2}


def test_the_autoscaler_takes_on_demand_machines_while_spot_ones_count_as_unavailable() -> None:
    assert launches(2, availability={SPOT: 0.0}) == {ON_DEMAND: 2}
    assert launches(2, availability={SPOT: 0.9}) == {ON_DEMAND: 2}
    assert launches(2, availability={SPOT: 1.0}) == {SPOT: 2}


@pytest.mark.parametrize(
    ("status", "is_noticed"),
    [(Instance.ALLOCATION_TIMEOUT, True), (Instance.ALLOCATION_FAILED, False)],
)
def test_a_machine_that_never_joins_makes_its_type_unavailable_and_a_refused_one_does_not(
    status: int, is_noticed: bool
) -> None:
    monitor = CloudResourceMonitor()
    event = InstanceUpdateEvent(instance_type=SPOT, new_instance_status=status)
    monitor.notify([event])
    assert (SPOT in monitor.get_recoverable_resource_availabilities()) == is_noticed
