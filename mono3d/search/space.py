"""What a search may change of a recipe: Python files, define by run.

A file has `METRIC` and `MODE`, or `OBJECTIVES = {metric: "min" or "max", ...}`, and a function
`space(trial)`. What it suggests is named by config paths; what it returns is fixed, path → value.
`mono3d.search.space_walk` checks all of a file before the first trial.
"""

import hashlib
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol, runtime_checkable

from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError

from mono3d.errors import ConfigError, Mono3dError

_part_digests: ContextVar[list[str] | None] = ContextVar("part_digests", default=None)
"""Of the spaces that the file being executed has loaded."""


@runtime_checkable
class Suggest(Protocol):
    """What a space may ask of a trial, which may be Optuna's."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number between two, both among them."""
        ...

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """A whole number between two, both among them."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices: texts, numbers, booleans or None."""
        ...


@runtime_checkable
class TrialLike(Suggest, Protocol):
    """A trial that keeps what it suggested, as Optuna's does."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Name → value of all suggestions so far."""
        ...


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A number that a search makes small or great."""

    metric: str
    mode: Literal["min", "max"]


@dataclass(frozen=True, kw_only=True)
class Space:
    """A file that declares a search space."""

    source: str
    """Its path, as given."""
    digest: str
    """SHA-256 of its text, and of those that it loads by `load_space`, in hex digits."""
    about: str
    """First paragraph of its docstring as one line; empty without one."""
    objectives: tuple[Objective, ...]
    """At least one."""
    draw: Callable[[Suggest], Mapping[str, Any]]
    """Its function `space`: suggests, and returns what is fixed."""


@dataclass(frozen=True, kw_only=True)
class SpaceShape:
    """What there is in a space, on all of its branches."""

    distributions: Mapping[str, BaseDistribution]
    """Of every name; where branches differ in its range, the one met first."""
    is_flat: bool
    """Every trial has the same names with the same ranges."""
    is_numeric: bool
    """There are numbers only, no choices."""
    digest: str
    """SHA-256 of all that it suggests and fixes, which a file may take from its environment."""


def load_space(source: str) -> Space:
    """Execute a file and read what it declares.

    A file that puts others together may load them with this function.

    Raises:
        ConfigError: One line that names file, thing and rule.
    """
    text = _read(source)
    token = _part_digests.set([])
    try:
        module = _execute(source, text)
        parts = _part_digests.get() or []
    finally:
        _part_digests.reset(token)
    digest = hashlib.sha256("".join([text, *parts]).encode()).hexdigest()
    outer = _part_digests.get()
    if outer is not None:
        outer.append(digest)
    draw = getattr(module, "space", None)
    if not callable(draw):
        raise ConfigError(f"space {source}: has no function space(trial)")
    return Space(
        source=source,
        digest=digest,
        about=" ".join((module.__doc__ or "").strip().split("\n\n")[0].split()),
        objectives=_declared_objectives(source, vars(module)),
        draw=draw,
    )


def objectives_of(texts: Sequence[str]) -> tuple[Objective, ...]:
    """Those of the command line, each METRIC:MODE.

    Raises:
        ConfigError: One is of another form, no metric of validation, or there twice.
    """
    objectives: list[Objective] = []
    for text in texts:
        metric, colon, mode = text.rpartition(":")
        if not colon:
            raise ConfigError(
                f"--objective {text}: must be METRIC:MODE, such as val/nuscenes_map:max"
            )
        objective = _objective(metric, mode, where="--objective")
        if any(metric == other.metric for other in objectives):
            raise ConfigError(f"--objective {text}: {metric} is there twice")
        objectives.append(objective)
    return tuple(objectives)


def overrides_of(space: Space, trial: TrialLike) -> list[tuple[str, Any]]:
    """What a trial changes of the recipe: config path and value, fixed ones first.

    Raises:
        ConfigError: The function `space` raised something, returned something else than what is
            fixed, or fixes what it also suggests.
    """
    try:
        fixed = space.draw(trial)
    except (Mono3dError, StorageInternalError):
        raise
    except Exception as error:
        raise _failure(space.source, error) from error
    if not isinstance(fixed, Mapping) or not all(isinstance(name, str) for name in fixed):
        raise ConfigError(
            f"space {space.source}: space(trial) must return a dict of what is fixed, config path "
            f"→ value, {{}} for nothing; it returned {fixed!r}"
        )
    params = dict(trial.params)
    for name in fixed:
        for suggested in params:
            if f"{suggested}.".startswith(f"{name}."):
                raise ConfigError(
                    f"space {space.source}: {suggested}: is suggested, and {name} is returned as "
                    "fixed; one or the other"
                )
    return [*fixed.items(), *params.items()]


def _read(source: str) -> str:
    path = Path(source)
    if not path.is_file():
        there = ", ".join(str(path) for path in sorted(Path("tune_spaces").glob("*.py")))
        raise ConfigError(
            f"space {source}: no such file" + (f"; there are {there}" if there else "")
        )
    if path.suffix != ".py":
        raise ConfigError(f"space {source}: must be a Python file, .py")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"space {source}: cannot be read ({error})") from error


def _execute(source: str, text: str) -> ModuleType:
    # Data classes of the file look for their module while they are made. It is forgotten then, so
    # that it hides no other, and what comes from it is pickled by value.
    name = f"_mono3d_space_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    module = ModuleType(name)
    module.__file__ = source
    sys.modules[name] = module
    try:
        # A space is a program that the user names, by design: docs/security.md.
        exec(compile(text, source, "exec", dont_inherit=True), vars(module))  # noqa: S102
    except Mono3dError:
        raise
    except (Exception, SystemExit) as error:
        raise _failure(source, error) from error
    finally:
        sys.modules.pop(name, None)
    return module


def _failure(source: str, error: BaseException) -> ConfigError:
    """What the user's code raised, and where in the file."""
    if isinstance(error, SyntaxError) and error.filename == source:
        line, message = error.lineno, error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == source]
        line, message = (lines[-1] if lines else None), " ".join(str(error).split())
    where = f"space {source}" + (f", line {line}" if line else "")
    return ConfigError(f"{where}: {type(error).__name__}" + (f": {message}" if message else ""))


def _declared_objectives(source: str, declared: Mapping[str, Any]) -> tuple[Objective, ...]:
    where = f"space {source}"
    single = [name for name in ("METRIC", "MODE") if name in declared]
    if "OBJECTIVES" not in declared:
        if len(single) < 2:
            missing = "MODE" if single == ["METRIC"] else "METRIC"
            raise ConfigError(f"{where}: has no {missing}; must have METRIC and MODE or OBJECTIVES")
        return (_objective(declared["METRIC"], declared["MODE"], where=where),)
    if single:
        raise ConfigError(f"{where}: has {single[0]} and OBJECTIVES; one or the other")
    several = declared["OBJECTIVES"]
    if not isinstance(several, Mapping) or not several:
        raise ConfigError(
            f"{where}: OBJECTIVES={several!r}: must be a dict of one metric or more → min or max"
        )
    return tuple(_objective(metric, mode, where=where) for metric, mode in several.items())


def _objective(metric: Any, mode: Any, *, where: str) -> Objective:
    if not isinstance(metric, str) or not metric.removeprefix("val/"):
        raise ConfigError(f"{where}: metric {metric!r}: must be a name, such as val/nuscenes_map")
    if not metric.startswith("val/"):
        raise ConfigError(f"{where}: metric {metric}: must be of validation, begin with val/")
    if mode not in ("min", "max"):
        raise ConfigError(f"{where}: mode {mode!r} of {metric}: must be min or max")
    return Objective(metric=metric, mode=mode)
