"""What a study compares: a recipe under named sets of overrides, each with several seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from mono3d.config.load import (
    apply_overrides,
    flatten,
    parse,
    parse_override,
    read_recipe,
    read_yaml,
)
from mono3d.config.schema import RunConfig
from mono3d.config.section import Section
from mono3d.errors import ConfigError

_SECTION, _KIND = "mining.", "mining.kind"
_SHARED = ("mining.warmup_epochs", "mining.ramp_epochs")
STUDIES = resources.files("mono3d") / "studies"


class Variant(Section):
    """One arm of a study."""

    about: str = ""
    """What it is there for, in a sentence."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Config path → value, on top of recipe and command line."""
    times: dict[str, float] = Field(default_factory=dict)
    """Config path → factor on the number that it has then."""

    @property
    def settings(self) -> list[str]:
        """What it changes, in words."""
        changed = [f"{path}={value}" for path, value in self.set.items()]
        return changed + [f"{path} x {factor:g}" for path, factor in self.times.items()]


class StudySpec(Section):
    """A file of variants.

    A variant that chooses a kind of mining starts that section afresh, so that a recipe's own
    settings of one kind do not speak for it alone; only when mining begins is the same for all.
    """

    about: str = ""
    """The question."""
    metric: str = "val/centers_depth_abs_rel"
    """The declared one: chosen before the runs, and the only one judged without correction."""
    mode: Literal["min", "max"] = "min"
    """Whether less or more of it is better."""
    baseline: str
    """Variant that all others are compared with."""
    least: dict[str, float] = Field(default_factory=dict)
    """What the baseline must reach, on average over seeds, for the study to count: metric → value,
    where it is measured."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Config path → value in all variants, which may say otherwise."""
    variants: dict[str, Variant] = Field(min_length=2)

    @model_validator(mode="after")
    def _agree(self) -> "StudySpec":
        if self.baseline not in self.variants:
            raise ValueError(f"baseline={self.baseline}: is none of {', '.join(self.variants)}")
        for name in self.variants:
            if not name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"variants.{name}: a name is letters, digits, dashes, underscores")
        for path in (path for name in self.variants for path in self.decided(name)):
            if path == "seed":
                raise ValueError("seed: is --seeds, the same for all variants")
            if path == "mining":
                raise ValueError("mining: is set key by key, mining.kind and the like")
        return self

    def decided(self, name: str) -> dict[str, Any]:
        """What the file itself sets for a variant."""
        return {**self.set, **self.variants[name].set}

    def against(self, baseline: str) -> "StudySpec":
        """The same with another baseline.

        Raises:
            ConfigError: It is none of the variants.
        """
        if baseline not in self.variants:
            raise ConfigError(f"--baseline {baseline}: is none of {', '.join(self.variants)}")
        return self.model_copy(update={"baseline": baseline})

    def only(self, names: Sequence[str]) -> "StudySpec":
        """The same with the baseline and some of the other variants.

        Raises:
            ConfigError: A name is unknown, or nothing is left to compare.
        """
        for name in names:
            if name not in self.variants:
                raise ConfigError(f"--only {name}: is none of {', '.join(self.variants)}")
        kept = {k: v for k, v in self.variants.items() if k in {*names, self.baseline}}
        if len(kept) < 2:
            raise ConfigError(f"--only {','.join(names)}: nothing to compare {self.baseline} with")
        return self.model_copy(update={"variants": kept})


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a study."""

    variant: str
    seed: int
    config: RunConfig

    @property
    def label(self) -> str:
        """Names it within its study."""
        return f"{self.variant}-seed{self.seed}"


def study_names() -> list[str]:
    """Names of the shipped files of variants."""
    return sorted(
        Path(entry.name).stem for entry in STUDIES.iterdir() if entry.name.endswith(".yaml")
    )


def load_variants(source: str) -> StudySpec:
    """Read a shipped name or a path.

    Raises:
        ConfigError: One line that names the file, the key, the value and the rule.
    """
    path = Path(source)
    if source in study_names():
        text = (STUDIES / f"{source}.yaml").read_text()
    elif path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--variants {source}: cannot be read ({error})") from error
    else:
        raise ConfigError(
            f"--variants {source}: neither a file nor a shipped one ({', '.join(study_names())})"
        )
    try:
        return StudySpec.model_validate(read_yaml(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{source}: {where + ': ' if where else ''}{what}") from error


def plan_cells(
    recipe: str, overrides: Sequence[str], spec: StudySpec, seeds: Sequence[int]
) -> list[Cell]:
    """Every run, checked before the first one starts; seed by seed, so that pairs come early.

    Raises:
        ConfigError: The recipe, an override or a variant does not fit the schema, or two variants
            are the same.
    """
    given = [parse_override(text) for text in overrides]
    _check_reach(given, spec)
    tree = apply_overrides(read_recipe(recipe), given)
    configs = {
        name: _config_of(tree, spec, name, source=f"{recipe}, variant {name}")
        for name in spec.variants
    }
    for one, other in combinations(configs, 2):
        if configs[one] == configs[other]:
            raise ConfigError(f"variants {one} and {other}: are the same run of {recipe}")
    return [
        Cell(variant=name, seed=seed, config=config.model_copy(update={"seed": seed}))
        for seed in seeds
        for name, config in configs.items()
    ]


def _check_reach(given: Sequence[tuple[str, Any]], spec: StudySpec) -> None:
    """A setting on the command line that the file would drop shall not seem to count."""
    decided = {name: spec.decided(name) for name in spec.variants}
    for path, value in given:
        if path == "seed":
            raise ConfigError(f"seed={value}: the seeds of a study are those of --seeds")
        for name, settings in decided.items():
            if any(path == own or own.startswith(f"{path}.") for own in settings):
                raise ConfigError(
                    f"{path}={value}: the file of variants decides that for {name}; say it there"
                )
            if _KIND in settings and path.startswith(_SECTION) and path not in _SHARED:
                raise ConfigError(
                    f"{path}={value}: variant {name} chooses its own mining; say it in the file "
                    f"of variants ({' and '.join(_SHARED)} count for all)"
                )


def _config_of(tree: Mapping[str, Any], spec: StudySpec, name: str, *, source: str) -> RunConfig:
    settings, times = spec.decided(name), spec.variants[name].times
    kind = settings.get(_KIND)
    if kind is not None:
        before = tree.get("mining", {})
        shared = {path: before.get(path.removeprefix(_SECTION)) for path in _SHARED}
        tree = {**tree, "mining": {}}
        if kind != "none":
            settings = {k: v for k, v in shared.items() if v is not None} | settings
    changed = apply_overrides(tree, settings.items())
    config = parse(changed, source=source)
    if not times:
        return config
    values = flatten(config)
    products = []
    for path, factor in times.items():
        try:
            products.append((path, float(values[path]) * factor))
        except (KeyError, ValueError) as error:
            raise ConfigError(f"{source}: times.{path}: there is no number to multiply") from error
    return parse(apply_overrides(changed, products), source=source)
