"""cluster/kuberay/, as far as it can be checked without Kubernetes."""

import copy
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
import ray
import typer.main
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
    _generate_available_node_types_from_ray_cr_spec,
)

from mono3d.cli.main import app
from mono3d.config.load import load_recipe
from tests.cluster.kubernetes_models import MODELS, ManifestError, read
from tests.cluster.manifests import (
    KUBERAY,
    ROOT,
    Pod,
    RuleError,
    Tree,
    check_pod,
    cluster_spec,
    files,
    manifests,
    of_kind,
    only,
    pods,
)
from tests.cluster.network import is_selected, reaches

OF_KUBERAY = ("RayCluster", "RayJob")
"""Kinds without a schema in any installed package."""


def by_owner(owner: str) -> Pod:
    (pod,) = (pod for pod in pods() if pod.owner == owner)
    return pod


def test_each_manifest_of_kubernetes_own_kinds_is_valid() -> None:
    found = [tree for tree in manifests() if tree["kind"] not in OF_KUBERAY]
    assert {tree["kind"] for tree in found} == {kind for _, kind in MODELS}
    for tree in found:
        read(tree, MODELS[tree["apiVersion"], tree["kind"]], tree["kind"])


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod.owner)
def test_each_pod_template_is_valid(pod: Pod) -> None:
    read(pod.template, "V1PodTemplateSpec", pod.owner)


def test_what_the_operator_adds_to_the_head_is_valid() -> None:
    options = only("RayCluster")["spec"]["autoscalerOptions"]
    read(options["resources"], "V1ResourceRequirements", "autoscaler")
    read(options["securityContext"], "V1SecurityContext", "autoscaler")


def first_container(tree: Tree) -> Tree:
    container: Tree = tree["spec"]["template"]["spec"]["containers"][0]
    return container


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tree: tree["spec"].update(replica=1), "has no"),
        (lambda tree: first_container(tree).update(imagePullpolicy="Always"), "has no"),
        (lambda tree: first_container(tree).pop("name"), "must not be `None`"),
        (lambda tree: tree["spec"].pop("selector"), "must not be `None`"),
        (lambda tree: tree["spec"].update(replicas="1"), "not of type int"),
        (lambda tree: first_container(tree)["env"][0].update(value=True), "not of type str"),
        (lambda tree: first_container(tree).update(ports={"containerPort": 1}), "not a list"),
        (
            lambda tree: first_container(tree)["resources"]["limits"].update(memory="2 GB"),
            "Invalid|not a",
        ),
    ],
)
def test_a_broken_manifest_is_refused(change: Callable[[Tree], Any], complaint: str) -> None:
    tree = copy.deepcopy(only("Deployment"))
    change(tree)
    with pytest.raises((ManifestError, ValueError), match=complaint):
        read(tree, "V1Deployment")


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod.owner)
def test_each_pod_is_locked_limited_and_probed(pod: Pod) -> None:
    check_pod(pod)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda spec: spec["securityContext"].pop("runAsNonRoot"), "root"),
        (lambda spec: spec["securityContext"].pop("seccompProfile"), "seccomp"),
        (lambda spec: spec.pop("automountServiceAccountToken"), "token of Kubernetes"),
        (lambda spec: spec.update(hostNetwork=True), "on its host"),
        (lambda spec: spec["containers"][0]["resources"].pop("limits"), "limits"),
        (lambda spec: spec["containers"][0]["resources"]["requests"].pop("memory"), "requests"),
        (lambda spec: spec["containers"][0].pop("livenessProbe"), "probed"),
        (lambda spec: spec["containers"][0]["securityContext"].pop("capabilities"), "capabilities"),
        (
            lambda spec: spec["containers"][0]["env"].append(
                {"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}
            ),
            "shows AWS_SECRET_ACCESS_KEY",
        ),
        (lambda spec: spec["volumes"].pop(), "which is no volume"),
        (
            lambda spec: spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
            "hostPath",
        ),
    ],
)
def test_a_pod_that_breaks_a_rule_is_noticed(change: Callable[[Tree], Any], complaint: str) -> None:
    template = copy.deepcopy(by_owner("RayCluster/worker").template)
    change(template["spec"])
    with pytest.raises(RuleError, match=complaint):
        check_pod(Pod("RayCluster/worker", template))


def test_all_is_in_one_namespace_and_named_once() -> None:
    (namespace,) = (tree["metadata"]["name"] for tree in of_kind("Namespace"))
    rest = [tree for tree in manifests() if tree["kind"] != "Namespace"]
    assert {tree["metadata"]["namespace"] for tree in rest} == {namespace}
    names = [(tree["kind"], tree["metadata"]["name"]) for tree in manifests()]
    assert len(names) == len(set(names))


def test_kustomize_takes_every_file_but_the_job() -> None:
    listed = yaml.safe_load((KUBERAY / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted({path.name for path in files()} - {"ray-job.yaml"})


def secrets_of_the_page() -> dict[str, set[str]]:
    """Names and keys of the Secrets that docs/cluster.md has one make."""
    page = (ROOT / "docs" / "cluster.md").read_text().replace("\\\n", " ")
    return {
        name: set(re.findall(r"--from-(?:literal|file)=(\w+)=", rest))
        for name, rest in re.findall(r"create secret generic ([\w-]+) (.*)", page)
    }


def test_what_pods_refer_to_exists() -> None:
    claims = {tree["metadata"]["name"] for tree in of_kind("PersistentVolumeClaim")}
    maps = {tree["metadata"]["name"] for tree in of_kind("ConfigMap")}
    secrets = secrets_of_the_page()
    for pod in pods():
        for volume in pod.template["spec"]["volumes"]:
            claim = volume.get("persistentVolumeClaim")
            assert claim is None or claim["claimName"] in claims
        for container in pod.containers:
            for source in container.get("envFrom", []):
                (kind,) = source
                assert source[kind]["name"] in (maps if kind == "configMapRef" else secrets)
            for variable in container["env"]:
                if "valueFrom" in variable:
                    reference = variable["valueFrom"]["secretKeyRef"]
                    assert reference["key"] in secrets[reference["name"]]
    assert secrets["mono3d-s3"] == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_mlflow_answers_at_the_address_that_the_head_has() -> None:
    service, pod = only("Service"), by_owner("Deployment/mlflow")
    (port,) = service["spec"]["ports"]
    assert is_selected(pod.labels, {"matchLabels": service["spec"]["selector"]})
    (container,) = pod.containers
    assert port["targetPort"] in {entry["name"] for entry in container["ports"]}
    address = f"{service['metadata']['name']}:{port['port']}"
    for kind in OF_KUBERAY:
        variables = by_owner(f"{kind}/head").containers[0]["env"]
        assert {"name": "MLFLOW_TRACKING_URI", "value": f"http://{address}"} in variables
    assert address in next(word for word in container["command"] if "allowed-hosts" in word)


@pytest.mark.parametrize("kind", OF_KUBERAY)
def test_workers_have_the_token_and_s3_but_nothing_of_mlflow(kind: str) -> None:
    (container,) = by_owner(f"{kind}/worker").containers
    names = {variable["name"] for variable in container["env"]}
    assert {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"} <= names
    assert not [name for name in names if name.startswith("MLFLOW")]
    assert {"secretRef": {"name": "mono3d-s3"}} in container["envFrom"]


@pytest.mark.parametrize("kind", OF_KUBERAY)
def test_ray_probes_ask_the_port_that_its_agent_is_given(kind: str) -> None:
    cluster = cluster_spec(only(kind))
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        port = group["rayStartParams"]["dashboard-agent-listen-port"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"] == {"path": "/api/healthz", "port": int(port)}
        (shm,) = (v for v in group["template"]["spec"]["volumes"] if v["name"] == "shm")
        assert shm["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize("kind", OF_KUBERAY)
def test_a_ray_kind_names_its_api_this_ray_its_token_and_each_group_once(kind: str) -> None:
    tree = only(kind)
    cluster = cluster_spec(tree)
    assert tree["apiVersion"] == "ray.io/v1"
    assert cluster["rayVersion"] == ray.__version__
    assert cluster["authOptions"] == {"mode": "token", "secretName": "mono3d-ray-token"}
    names = [group["groupName"] for group in cluster["workerGroupSpecs"]]
    assert len(names) == len(set(names))
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        read(group["rayStartParams"], "dict(str, str)", kind)


def test_the_job_has_the_cluster_that_stays_but_for_its_size_and_disk() -> None:
    job, stays = (copy.deepcopy(cluster_spec(only(kind))) for kind in ("RayJob", "RayCluster"))
    for key in ("enableInTreeAutoscaling", "autoscalerOptions"):
        del stays[key]
    for cluster in (job, stays):
        (group,) = cluster["workerGroupSpecs"]
        for key in ("replicas", "minReplicas", "maxReplicas"):
            del group[key]
        head = cluster["headGroupSpec"]["template"]["spec"]
        head.pop("automountServiceAccountToken", None)
        head["volumes"] = [volume for volume in head["volumes"] if volume["name"] != "work"]
    assert job == stays


def test_rays_autoscaler_reads_the_ray_cluster() -> None:
    tree = only("RayCluster")
    config = _derive_autoscaling_config_from_ray_cr(tree)
    workers = config["available_node_types"]["gpu"]
    assert (workers["min_workers"], workers["max_workers"]) == (0, 4)
    assert (workers["resources"]["CPU"], workers["resources"]["GPU"]) == (8, 1)
    assert config["idle_timeout_minutes"] == 10
    broken = copy.deepcopy(tree)
    del broken["spec"]["workerGroupSpecs"][0]["maxReplicas"]
    with pytest.raises(KeyError, match="maxReplicas"):
        _derive_autoscaling_config_from_ray_cr(broken)


def test_the_job_runs_a_command_of_ours_that_fits_its_cluster() -> None:
    tree = only("RayJob")
    program, command, recipe, *words = shlex.split(tree["spec"]["entrypoint"])
    assert (program, command) == ("mono3d", "train")
    options = {
        option
        for parameter in typer.main.get_command(app).commands["train"].params
        for option in parameter.opts
    }
    assert {word for word in words if word.startswith("-")} <= options
    config = load_recipe(recipe, [word for word in words if "=" in word])
    assert config.cluster.storage is not None
    assert config.cluster.storage.startswith("s3://")
    assert str(config.data.root).startswith("s3://")
    (group,) = cluster_spec(tree)["workerGroupSpecs"]
    nodes = _generate_available_node_types_from_ray_cr_spec(cluster_spec(tree))
    room = nodes["gpu"]["resources"]
    assert config.cluster.workers <= group["replicas"] * room["GPU"]
    assert config.cluster.cpus_per_worker * room["GPU"] <= room["CPU"]


def test_images_are_those_of_the_dockerfile() -> None:
    stages = re.findall(
        r"^FROM \S+ AS (\w+)$", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE
    )
    images = {
        pod.owner.partition("/")[2]: container["image"]
        for pod in pods()
        for container in pod.containers
    }
    assert images == {
        "head": "mono3d:cpu",
        "worker": "mono3d:gpu",
        "submitter": "mono3d:cpu",
        "mlflow": "mono3d:cpu",
    }
    assert {"cpu", "gpu"} <= set(stages)


CONNECTIONS = {
    ("RayCluster/head", "Deployment/mlflow", 5000): True,
    ("RayJob/head", "Deployment/mlflow", 5000): True,
    ("RayCluster/worker", "Deployment/mlflow", 5000): False,
    ("RayJob/worker", "Deployment/mlflow", 5000): False,
    ("RayJob/submitter", "Deployment/mlflow", 5000): False,
    ("RayCluster/worker", "RayCluster/head", 6379): True,
    ("RayCluster/head", "RayCluster/worker", 20000): True,
    ("RayCluster/worker", "RayCluster/worker", 20000): True,
    ("RayJob/submitter", "RayJob/head", 8265): True,
    ("RayJob/submitter", "RayJob/head", 6379): False,
    ("RayJob/submitter", "RayJob/worker", 8265): False,
    ("Deployment/mlflow", "RayCluster/head", 8265): False,
    ("Deployment/mlflow", "RayCluster/worker", 20000): False,
}


@pytest.mark.parametrize(("source", "target", "port"), CONNECTIONS)
def test_pods_reach_whom_they_must_and_nobody_else(source: str, target: str, port: int) -> None:
    ends = (by_owner(source).labels, by_owner(target).labels)
    assert reaches(of_kind("NetworkPolicy"), *ends, port) == CONNECTIONS[source, target, port]


def test_a_stranger_in_the_namespace_reaches_nothing_and_without_policies_everything() -> None:
    policies = of_kind("NetworkPolicy")
    for pod in pods():
        for port in (5000, 6379, 8265):
            assert not reaches(policies, {"app": "stranger"}, pod.labels, port)
            assert reaches([], {"app": "stranger"}, pod.labels, port)


def selectors(tree: Any) -> list[Tree]:
    """Every pod selector in a tree that means pods of this namespace."""
    if isinstance(tree, list):
        return [found for item in tree for found in selectors(item)]
    if not isinstance(tree, dict):
        return []
    own = [tree["podSelector"]] if "podSelector" in tree and "namespaceSelector" not in tree else []
    return own + [found for value in tree.values() for found in selectors(value)]


def test_each_policy_selects_pods_that_exist() -> None:
    for policy in of_kind("NetworkPolicy"):
        for selector in selectors(policy["spec"]):
            assert any(is_selected(pod.labels, selector) for pod in pods()), policy["metadata"]


def test_only_pods_that_use_s3_leave_the_cluster_and_never_for_its_machines_credentials() -> None:
    leaving = {}
    for policy in of_kind("NetworkPolicy"):
        peers = [peer for rule in policy["spec"].get("egress", []) for peer in rule["to"]]
        for block in (peer["ipBlock"] for peer in peers if "ipBlock" in peer):
            assert block["except"] == ["169.254.0.0/16"]
            leaving[policy["metadata"]["name"]] = policy["spec"]["podSelector"]
    assert leaving.keys() == {"head", "s3"}
    assert {pod.owner for pod in pods() if is_selected(pod.labels, leaving["s3"])} == {
        pod.owner for pod in pods() if pod.containers[0].get("envFrom")
    }
