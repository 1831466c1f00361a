"""Before the first trial: walk all branches of a space, and see that each makes a run.

Nothing is drawn at random. Each walk answers the space by a script that goes where no walk was yet.
"""

import difflib
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)

from mono3d.config.load import all_keys, apply_overrides, parse
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError
from mono3d.search.space import Space, SpaceShape, overrides_of

_MOST_WALKS = 2000
_IDLE_WALKS = 100
"""In a row without anything new, after which all is taken to be seen."""
_OTHER_DATA = "trials would be measured on other data and could not be compared"
_BY_COMMAND = "say it on the command line, the same for all trials"
_DECIDED = {
    "seed": "--seed and --repeats of the search do",
    "checkpoint": f"what is kept of a trial says nothing about how good it is; {_BY_COMMAND}",
    "tracking": f"trials of one search are logged together; {_BY_COMMAND}",
    "cluster": f"what a trial asks of Ray is settled before there is one; {_BY_COMMAND}",
    "data.kind": _OTHER_DATA,
    "data.root": _OTHER_DATA,
    "data.version": _OTHER_DATA,
    "data.class_names": _OTHER_DATA,
    "data.val_split": _OTHER_DATA,
    "data.sets.<name>.val_split": _OTHER_DATA,
    "evaluation.max_frames": _OTHER_DATA,
    "evaluation.every_epochs": f"trials are compared epoch by epoch; {_BY_COMMAND}",
}
"""Keys, or sections of them, that no space may touch, and why."""


class ScriptedTrial:
    """A trial without a study: a function says what it suggests."""

    def __init__(self, answer: Callable[[str, BaseDistribution], Any]) -> None:
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}
        self._answer = answer

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """As Optuna's."""
        answer: float = self._suggest(name, FloatDistribution(low, high, log=log, step=step))
        return answer

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """As Optuna's."""
        answer: int = self._suggest(name, IntDistribution(low, high, log=log, step=step))
        return answer

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """As Optuna's."""
        for choice in choices:
            if not isinstance(choice, str | int | float | None):
                raise ValueError(
                    f"{name}: choices must be texts, numbers, booleans or None, which a study can "
                    f"keep; {choice!r} is none"
                )
        return self._suggest(name, CategoricalDistribution(choices))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a space may call suggest_float, suggest_int and suggest_categorical, not {name}"
        )

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if name not in self.params:
            self.params[name] = self._answer(name, distribution)
            self.distributions[name] = distribution
        elif distribution != self.distributions[name]:
            raise ValueError(f"{name}: is suggested twice in one trial, in different ways")
        return self.params[name]


def inner_point(distribution: FloatDistribution | IntDistribution) -> int | float:
    """A number of a range that is not at its ends, where it has one.

    Not the middle, which of many ranges of real numbers is a whole one.
    """
    low, high, share = distribution.low, distribution.high, 0.618
    if distribution.log:
        value = math.exp(math.log(low) + share * math.log(high / low))
    else:
        value = low + share * (high - low)
    return nearest(distribution, float(f"{value:.3g}"))


def nearest(distribution: FloatDistribution | IntDistribution, value: int | float) -> int | float:
    """The allowed number that is nearest to a given one."""
    low, high, step = distribution.low, distribution.high, distribution.step
    value = min(max(value, low), high)
    if step is not None:
        value = min(low + round((value - low) / step) * step, high)
    return int(value) if isinstance(distribution, IntDistribution) else float(value)


def check_space(space: Space, tree: Mapping[str, Any], *, source: str) -> SpaceShape:
    """Walk a space on top of a recipe: that it names config paths, and that its ends are runs.

    A fault that needs three choices together, none of which depends on another, may be missed.

    Args:
        space: What is checked.
        tree: The recipe with the overrides of the command line.
        source: What it was made from, for messages.

    Raises:
        ConfigError: The first thing that is wrong, with the file and the config path.
    """
    known: dict[str, BaseDistribution] = {}
    checked: set[str] = set()
    said: set[str] = set()
    is_flat = True
    first: Mapping[str, BaseDistribution] | None = None
    for distributions, overrides in _walks(space):
        for name in [name for name, _ in overrides if name not in checked]:
            _check_name(space, name)
            checked.add(name)
        for name, distribution in distributions.items():
            _check_same(space, name, known.setdefault(name, distribution), distribution)
        _check_run(space, tree, overrides, source=source)
        fixed = ((name, value) for name, value in overrides if name not in distributions)
        said.update(map(repr, [*distributions.items(), *fixed]))
        first = distributions if first is None else first
        is_flat = is_flat and distributions == first
    if not known:
        raise ConfigError(f"space {space.source}: suggests nothing, so there is nothing to search")
    is_numeric = not any(isinstance(d, CategoricalDistribution) for d in known.values())
    return SpaceShape(
        distributions=known,
        is_flat=is_flat,
        is_numeric=is_numeric,
        digest=hashlib.sha256("\n".join(sorted(said)).encode()).hexdigest(),
    )


_Option = tuple[str, int]
"""A name, and which of the answers to it; -1 is a range's inner point."""


class _Script:
    """Answers walk after walk, so that answers meet that have not met yet, two by two.

    Of the answers to a question comes first what has met least of those given in this walk, then
    what has most to meet behind it, then what came least often. Inner points need meet nothing.
    """

    def __init__(self) -> None:
        self.is_new = False
        """Whether this walk brought two together."""
        self._path: tuple[_Option, ...] = ()
        self._ends: list[_Option] = []
        self._met: dict[tuple[_Option, _Option], int] = {}
        self._asked: set[tuple[_Option, str]] = set()
        self._to_meet: Counter[_Option] = Counter()
        self._paths: Counter[tuple[_Option, ...]] = Counter()

    def begin(self) -> None:
        """Another walk."""
        self._path, self._ends, self.is_new = (), [], False

    def answer(self, name: str, distribution: BaseDistribution) -> Any:
        """One of the choices, or an end or an inner point of a range."""
        answers = {(name, index): value for index, value in _answers(distribution).items()}
        for earlier in self._ends:
            if (earlier, name) not in self._asked:
                self._asked.add((earlier, name))
                self._to_meet[earlier] += sum(index >= 0 for _, index in answers)
        option = min(answers, key=self._rank)
        self._path = (*self._path, option)
        self._paths[self._path] += 1
        for other in self._partners(option):
            times = self._met.get((option, other), 0)
            self._met[option, other] = times + 1
            if times == 0:
                self.is_new = True
                self._to_meet[other] -= other != option
        if option[1] >= 0:
            self._ends.append(option)
        return answers[option]

    def _rank(self, option: _Option) -> tuple[int, int, bool, int, int]:
        times = [self._met.get((option, other), 0) for other in self._partners(option)]
        taken = self._paths[(*self._path, option)]
        return -times.count(0), -self._to_meet[option], option[1] < 0, taken, sum(times)

    def _partners(self, option: _Option) -> list[_Option]:
        """What an answer meets in this walk, first itself."""
        return [option] if option[1] < 0 else [option, *self._ends]


def _answers(distribution: BaseDistribution) -> dict[int, Any]:
    if isinstance(distribution, CategoricalDistribution):
        return dict(enumerate(distribution.choices))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.single():
        return {0: distribution.low}
    return {0: distribution.low, 1: distribution.high, -1: inner_point(distribution)}


def _walks(
    space: Space,
) -> Iterator[tuple[dict[str, BaseDistribution], list[tuple[str, Any]]]]:
    """Distributions and overrides of walk after walk, until they bring nothing new."""
    script, idle = _Script(), 0
    for _ in range(_MOST_WALKS):
        script.begin()
        trial = ScriptedTrial(script.answer)
        overrides = overrides_of(space, trial)
        yield trial.distributions, overrides
        idle = 0 if script.is_new else idle + 1
        if idle == _IDLE_WALKS:
            return


def _check_name(space: Space, name: str) -> None:
    for key, reason in _DECIDED.items():
        if _overlap(name, key):
            raise ConfigError(f"space {space.source}: {name}: a space may not decide it: {reason}")
    keys = all_keys(RunConfig)
    if any(_overlap(name, key) and _depth(name) == _depth(key) for key in keys):
        return
    # Below a key that is no section there may be names of anyone's: model.backbone.options.
    sections = {key[:end] for key in keys for end, sign in enumerate(key) if sign == "."}
    if any(_overlap(name, key) and _depth(name) > _depth(key) for key in keys - sections):
        return
    near = difflib.get_close_matches(name, sorted(keys), n=1, cutoff=0.6)
    raise ConfigError(
        f"space {space.source}: {name}: is no config path"
        + (f"; did you mean {near[0]}?" if near else "")
    )


def _overlap(name: str, key: str) -> bool:
    """Whether a path is a key, or one of them is a part of the other; keys may have <name>."""
    pairs = zip(name.split("."), key.split("."), strict=False)
    return all(own in {part, "<name>"} for part, own in pairs)


def _depth(path: str) -> int:
    return path.count(".")


def _check_same(space: Space, name: str, known: BaseDistribution, new: BaseDistribution) -> None:
    try:
        check_distribution_compatibility(known, new)
    except ValueError as error:
        raise ConfigError(
            f"space {space.source}: {name}: is {known} on one branch and {new} on another; a study "
            "keeps numbers of different ranges under one name, but one kind of number, all with or "
            "all without log, and one list of choices"
        ) from error


def _check_run(
    space: Space, tree: Mapping[str, Any], overrides: list[tuple[str, Any]], *, source: str
) -> None:
    where = f"{source}, space {space.source}"
    try:
        changed = apply_overrides(tree, overrides)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    parse(changed, source=where)
