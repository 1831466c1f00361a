"""Which pod reaches which, by the rules of Kubernetes' network policies within one namespace."""

from collections.abc import Mapping, Sequence
from typing import Any

Labels = Mapping[str, str]


def is_selected(labels: Labels, selector: Mapping[str, Any]) -> bool:
    """Whether a pod selector means a pod with these labels; only `matchLabels` is in use."""
    assert selector.keys() <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def reaches(
    policies: Sequence[Mapping[str, Any]], source: Labels, target: Labels, port: int
) -> bool:
    """Whether policies let a TCP connection pass between two pods of the namespace."""
    return _passes(policies, "Egress", source, target, port) and _passes(
        policies, "Ingress", target, source, port
    )


def _passes(
    policies: Sequence[Mapping[str, Any]], direction: str, own: Labels, other: Labels, port: int
) -> bool:
    specs = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"]
        and is_selected(own, policy["spec"]["podSelector"])
    ]
    rules = [rule for spec in specs for rule in spec.get(direction.lower(), [])]
    side = "to" if direction == "Egress" else "from"
    return not specs or any(
        _names(rule.get(side), other) and _has_port(rule.get("ports"), port) for rule in rules
    )


def _names(peers: Sequence[Mapping[str, Any]] | None, labels: Labels) -> bool:
    """Whether one of a rule's peers is a pod of this namespace with these labels.

    Blocks of addresses and other namespaces are taken as meaning none of them.
    """
    if peers is None:
        return True
    return any(
        "podSelector" in peer
        and "namespaceSelector" not in peer
        and is_selected(labels, peer["podSelector"])
        for peer in peers
    )


def _has_port(ports: Sequence[Mapping[str, Any]] | None, port: int) -> bool:
    return ports is None or any(
        entry.get("protocol", "TCP") == "TCP" and entry["port"] == port for entry in ports
    )
