"""Recipe YAML and dotted overrides → RunConfig, and back."""

import copy
import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError

_MOST_NODES = 100_000
"""Of a YAML text with its aliases written out: a few lines of them can stand for billions."""


class _YamlLoader(yaml.SafeLoader):
    """YAML as people mean it: 3e-4 is a number, also without a decimal point."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _count_nodes(node, {}) > _MOST_NODES:
            raise yaml.YAMLError(f"has more than {_MOST_NODES} values, aliases written out")
        return node


def _count_nodes(node: yaml.Node, counts: dict[int, float]) -> float:
    """With aliases written out, which is endless for one inside of what it names."""
    if id(node) not in counts:
        counts[id(node)] = math.inf  # while it is counted
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            children = [part for pair in children for part in pair]
        counts[id(node)] = 1.0 + sum(_count_nodes(child, counts) for child in children)
    return counts[id(node)]


_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)

_ANY_NAME = "<name>"
_CREDENTIALS = re.compile(r"://(?:[^\s/@]*|[^\s/@]*:\S*)@")
"""Of a URI; a password may hold slashes, as AWS secrets do."""
RECIPES = resources.files("mono3d") / "recipes"


def read_yaml(text: str) -> Any:
    """A YAML text as a tree.

    Raises:
        yaml.YAMLError: It is none.
    """
    try:
        return yaml.load(text, _YamlLoader)  # noqa: S506 (a SafeLoader)
    except (ValueError, AttributeError) as error:  # PyYAML's, of a date, number or !!tag
        raise yaml.YAMLError(f"a value is not what it looks like ({error})") from error
    except RecursionError as error:
        raise yaml.YAMLError("is nested too deeply") from error


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(
        Path(entry.name).stem for entry in RECIPES.iterdir() if entry.name.endswith(".yaml")
    )


def load_recipe(recipe: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a recipe, apply `path=value` overrides, and check the whole.

    Args:
        recipe: Name of a shipped recipe, or path of a YAML file.
        overrides: `optim.lr=3e-4`; values are YAML.

    Raises:
        ConfigError: One line that names the key, the value and the rule.
    """
    tree = read_recipe(recipe)
    return parse(apply_overrides(tree, map(parse_override, overrides)), source=recipe)


def read_recipe(recipe: str) -> dict[str, Any]:
    """The YAML of a shipped name or a path, as a tree."""
    path = Path(recipe)
    if recipe in recipe_names():
        text = (RECIPES / f"{recipe}.yaml").read_text()
    elif path.is_file():
        text = path.read_text()
    else:
        shipped = ", ".join(recipe_names())
        raise ConfigError(f"recipe {recipe!r}: neither a file nor a shipped recipe ({shipped})")
    try:
        tree = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"recipe {recipe}: not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"recipe {recipe}: must be a mapping of sections, is {type(tree).__name__}"
        )
    return tree


def parse_override(text: str) -> tuple[str, Any]:
    """`path=value` to path and YAML value."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"override {text!r}: must be PATH=VALUE, such as optim.lr=3e-4")
    try:
        return path, read_yaml(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {text!r}: the value is not valid YAML") from error


def apply_overrides(
    tree: Mapping[str, Any], overrides: Iterable[tuple[str, Any]]
) -> dict[str, Any]:
    """A new tree with dotted paths set; the one function for command line, search and tests.

    Another `x.kind` resets the section x. Kinds are set first, outer ones before inner ones, so
    the order in which overrides are given does not matter.
    """
    result: dict[str, Any] = copy.deepcopy(dict(tree))
    for path, value in sorted(overrides, key=lambda item: _kinds_first(item[0])):
        *parents, leaf = path.split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"override {path}={value}: {parent} is a value, not a section")
        if leaf == "kind" and node.get("kind") != value:
            node.clear()
        node[leaf] = copy.deepcopy(value)
    return result


def _kinds_first(path: str) -> tuple[bool, int]:
    *parents, leaf = path.split(".")
    is_kind = leaf == "kind"
    return not is_kind, len(parents) if is_kind else 0


def parse(tree: Mapping[str, Any], *, source: str) -> RunConfig:
    """Check a tree against the schema.

    Raises:
        ConfigError: The first thing that is wrong, with the nearest valid key for an unknown one;
            or a URI has a password, which would go into run.json, checkpoints and MLflow.
    """
    for path, value in flatten_tree(tree).items():
        if _CREDENTIALS.search(value):
            raise ConfigError(
                f"{source}: {path}: is a URI with a user name or password in it; credentials "
                "belong into the environment (AWS_ACCESS_KEY_ID, ...)"
            )
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    place = _place(first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {place.path}{_suggest(place)}"
    if first["type"] == "value_error":
        message = first["msg"].removeprefix("Value error, ")
        return f"{place.path}: {message}" if place.path else message
    if first["type"] == "union_tag_invalid":
        choices = first["ctx"]["expected_tags"]
        return f"{place.path}.kind={first['ctx']['tag']}: must be one of {choices}"
    if first["type"] == "union_tag_not_found":
        return f"{place.path}.kind: must be given"
    value = "" if first["type"] == "missing" else f"={first['input']!r}"
    return f"{place.path}{value}: {first['msg']}"


@dataclass(frozen=True)
class _Place:
    """Where in a config something is wrong."""

    path: str
    """As one writes it."""
    key: str
    """As `all_keys` has it."""
    choice: str
    """The innermost choice that it is under, such as mining.kind=none."""


def _place(location: Sequence[str | int]) -> _Place:
    """Read pydantic's location, which has the tag of a union between a section and its field."""
    path: list[str] = []
    key: list[str] = []
    choice = ""
    where: Any = RunConfig
    for part in map(str, location):
        sections = _sections(where)
        by_kind = {s.model_fields["kind"].default: s for s in sections if "kind" in s.model_fields}
        if get_origin(where) is dict:
            path.append(part)
            key.append(_ANY_NAME)
            where = get_args(where)[1]
        elif len(sections) > 1 and part in by_kind:
            choice = f"{'.'.join(path)}.kind={part}"
            where = by_kind[part]
        else:
            path.append(part)
            key.append(part)
            fields = sections[0].model_fields if len(sections) == 1 else {}
            where = fields[part].annotation if part in fields else None
    return _Place(".".join(path), ".".join(key), choice)


def _suggest(place: _Place) -> str:
    keys = sorted(all_keys(RunConfig))
    if place.key in keys:  # another kind of the section has it
        return f" where {place.choice}"
    near = difflib.get_close_matches(place.key, keys, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def all_keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Every dotted path that a config may hold, all variants of unions included.

    Sections under names of the user's stand under `<name>`.
    """
    keys = set()
    for name, field in model.model_fields.items():
        keys.add(prefix + name)
        below = f"{name}.{_ANY_NAME}" if get_origin(field.annotation) is dict else name
        for section in _sections(field.annotation):
            keys |= all_keys(section, f"{prefix}{below}.")
    return keys


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections(argument)]


def flatten(config: RunConfig) -> dict[str, str]:
    """Dotted path → value as text, for MLflow's params."""
    return flatten_tree(config.model_dump(mode="json"))


def flatten_tree(tree: Mapping[str, Any]) -> dict[str, str]:
    """The same of a config, or of a part of one, as a tree."""
    flat: dict[str, str] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, item in value.items():
                visit(f"{prefix}.{key}" if prefix else key, item)
        else:
            flat[prefix] = value if isinstance(value, str) else json.dumps(value)

    visit("", tree)
    return flat


def dump_yaml(config: RunConfig) -> str:
    """The resolved run as a recipe that `load_recipe` takes."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=100)


def fingerprint(config: RunConfig) -> str:
    """Sixteen hex digits that two equal configs share."""
    canonical = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
