"""What is in cluster/kuberay, and rules that each of its pods keeps."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "cluster" / "kuberay"
Tree = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A template of pods."""

    owner: str
    """Kind and role, such as RayJob/worker."""
    template: Tree

    @property
    def labels(self) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.template["metadata"]["labels"]
        return labels

    @property
    def containers(self) -> list[Tree]:
        spec = self.template["spec"]
        return [*spec.get("initContainers", []), *spec["containers"]]


def files() -> list[Path]:
    """Every manifest; kustomization.yaml is none."""
    return sorted(set(KUBERAY.glob("*.yaml")) - {KUBERAY / "kustomization.yaml"})


def manifests() -> list[Tree]:
    return [tree for path in files() for tree in yaml.safe_load_all(path.read_text())]


def of_kind(*kinds: str) -> list[Tree]:
    return [tree for tree in manifests() if tree["kind"] in kinds]


def only(kind: str) -> Tree:
    (tree,) = of_kind(kind)
    return tree


def cluster_spec(tree: Tree) -> Tree:
    """The cluster in a RayCluster or RayJob."""
    spec: Tree = tree["spec"]
    return spec.get("rayClusterSpec", spec)


def pods() -> list[Pod]:
    return [
        Pod(f"{tree['kind']}/{template['metadata']['labels']['mono3d/role']}", template)
        for tree in manifests()
        for template in _templates(tree)
    ]


def _templates(tree: Tree) -> Iterator[Tree]:
    if tree["kind"] == "Deployment":
        yield tree["spec"]["template"]
    if tree["kind"] in {"RayCluster", "RayJob"}:
        cluster = cluster_spec(tree)
        yield cluster["headGroupSpec"]["template"]
        yield from (group["template"] for group in cluster["workerGroupSpecs"])
    if tree["kind"] == "RayJob":
        yield tree["spec"]["submitterPodTemplate"]


class RuleError(AssertionError):
    """A pod breaks a rule of ours."""


def check_pod(pod: Pod) -> None:
    """The rules that hold for each pod.

    Raises:
        RuleError: With the first that is broken.
    """
    spec, role = pod.template["spec"], pod.labels["mono3d/role"]
    context = spec.get("securityContext", {})
    _hold(context.get("runAsNonRoot") is True, "runs as root")
    _hold(context.get("runAsUser") == 1000, "is not the user of the image")
    _hold(context.get("seccompProfile") == {"type": "RuntimeDefault"}, "has no seccomp profile")
    # The autoscaler in the head of a cluster that grows asks Kubernetes for nodes.
    if pod.owner != "RayCluster/head":
        _hold(spec.get("automountServiceAccountToken") is False, "holds a token of Kubernetes")
    host = {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    _hold(not host, f"is on its host: {host}")
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for container in pod.containers:
        _check_container(container, is_served=role != "submitter")
        for mount in container.get("volumeMounts", []):
            _hold(mount["name"] in volumes, f"mounts {mount['name']}, which is no volume")
    for volume in volumes.values():
        kind = volume.keys() - {"name"}
        _hold(kind <= {"emptyDir", "persistentVolumeClaim"}, f"mounts {kind}")
        _hold("sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}), "fills its machine's disk")


def _check_container(container: Tree, *, is_served: bool) -> None:
    context = container.get("securityContext", {})
    _hold(context.get("allowPrivilegeEscalation") is False, "may gain rights")
    _hold(context.get("readOnlyRootFilesystem") is True, "can change its own files")
    _hold(context.get("capabilities") == {"drop": ["ALL"]}, "keeps capabilities")
    for kind in ("requests", "limits"):
        amounts = container.get("resources", {}).get(kind, {})
        _hold({"cpu", "memory", "ephemeral-storage"} <= amounts.keys(), f"has no {kind}")
    probes = {"startupProbe", "readinessProbe", "livenessProbe"}
    if is_served:
        _hold(probes <= container.keys(), "is not probed")
    for variable in container.get("env", []):
        is_secret = any(word in variable["name"] for word in ("KEY", "SECRET", "TOKEN", "PASS"))
        _hold(not (is_secret and "value" in variable), f"shows {variable['name']}")


def _hold(is_kept: bool, complaint: str) -> None:
    if not is_kept:
        raise RuleError(complaint)
