"""Manifests read as strictly as an API server with `kubectl apply --validate=strict` reads them.

The models of the kubernetes client know each field's name and type and which ones are required; by
themselves they neither refuse a key that they do not know nor look at types.
"""

import re
from typing import Any

from kubernetes import client
from kubernetes.utils.quantity import parse_quantity

MODELS = {
    ("v1", "Namespace"): "V1Namespace",
    ("v1", "ConfigMap"): "V1ConfigMap",
    ("v1", "Service"): "V1Service",
    ("v1", "PersistentVolumeClaim"): "V1PersistentVolumeClaim",
    ("apps/v1", "Deployment"): "V1Deployment",
    ("networking.k8s.io/v1", "NetworkPolicy"): "V1NetworkPolicy",
}
"""Of the kinds that are Kubernetes' own."""
_SCALARS = {"str": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}


class ManifestError(ValueError):
    """What is not so, and where."""


def read(tree: Any, type_name: str, where: str = "") -> Any:
    """What a tree is as a type of the client, such as V1PodTemplateSpec.

    Raises:
        ManifestError: A key is unknown, a required one missing, or a value of another type.
    """
    if type_name == "object":
        return tree
    if type_name in _SCALARS:
        return _scalar(tree, type_name, where)
    if parts := re.fullmatch(r"list\[(.+)\]", type_name):
        items = _of_type(tree, list, where)
        return [read(value, parts[1], f"{where}[{index}]") for index, value in enumerate(items)]
    if parts := re.fullmatch(r"dict[(\[]str, (.+)[)\]]", type_name):
        entries = _of_type(tree, dict, where)
        return {
            _scalar(key, "str", where): read(value, parts[1], f"{where}.{key}")
            for key, value in entries.items()
        }
    return _model(tree, type_name, where)


def _scalar(tree: Any, type_name: str, where: str) -> Any:
    # True is an int for Python; null stands for nothing in a manifest.
    is_bool = isinstance(tree, bool)
    if not isinstance(tree, _SCALARS[type_name]) or is_bool != (type_name == "bool"):
        raise ManifestError(f"{where}: {tree!r} is not of type {type_name}")
    return tree


def _of_type(tree: Any, kind: type, where: str) -> Any:
    if not isinstance(tree, kind):
        raise ManifestError(f"{where}: {tree!r} is not a {kind.__name__}")
    return tree


def _model(tree: Any, type_name: str, where: str) -> Any:
    model = getattr(client, type_name)
    names = {key: name for name, key in model.attribute_map.items()}
    if unknown := _of_type(tree, dict, where).keys() - names.keys():
        raise ManifestError(f"{where}: {type_name} has no {sorted(unknown)}")
    fields = {
        names[key]: read(value, model.openapi_types[names[key]], f"{where}.{key}")
        for key, value in tree.items()
    }
    try:
        made = model(**fields)
        if type_name == "V1ResourceRequirements":
            for amount in [*(made.requests or {}).values(), *(made.limits or {}).values()]:
                parse_quantity(amount)
    except ValueError as error:
        raise ManifestError(f"{where}: {type_name}: {error}") from error
    return made
