"""All that decides a search: kept in its database, so that its name alone is enough to go on."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from mono3d.config.section import Section
from mono3d.errors import ConfigError

SamplerKind = Literal["tpe", "gp", "random", "cmaes", "grid", "nsga2"]
SchedulerKind = Literal["asha", "median", "hyperband", "none"]


class Budget(Section):
    """When no further trial begins and those that run are stopped; any one of these is enough.

    Looked at after every evaluation of a trial. It may be raised when a search goes on.
    """

    trials: int = Field(ge=1)
    """Run here, failed ones among them; those taken from elsewhere do not count."""
    hours: float | None = Field(None, gt=0)
    """Of the search, all calls together, from the first trial of each."""
    gpu_hours: float | None = Field(None, gt=0)
    """GPUs of a trial times its hours, over all trials."""


class SearchSettings(Section):
    """A search. All but the budget is fixed when it begins."""

    recipe: str
    """What it was made from, in words."""
    tree: dict[str, Any]
    """The recipe with the overrides of the command line."""
    overrides: list[str] = Field(default_factory=list)
    """Those overrides."""
    command: str
    """That began it."""
    space: str
    """Path of the file."""
    about: str = ""
    """The space's question."""
    space_digest: str
    """Of its text: a search does not go on in another space."""
    shape_digest: str = ""
    """Of what the text says together with its environment; empty where that was not kept."""
    objectives: dict[str, Literal["min", "max"]] = Field(min_length=1)
    """Metric → which way is better."""
    sampler: SamplerKind = "tpe"
    scheduler: SchedulerKind = "asha"
    grace_epochs: int = Field(1, ge=1)
    """Before which nothing is stopped early."""
    reduction: int = Field(3, ge=2)
    """Of asha and hyperband: one trial of so many goes on from each rung, rungs lie so many times
    as many epochs apart."""
    grid_points: int = Field(3, ge=2)
    """Of the grid sampler, in a range without steps of its own."""
    population: int = Field(8, ge=2)
    """Of nsga2: trials of a generation."""
    seed: int = Field(0, ge=0)
    """Of the proposals, and of the trials: all have the same."""
    repeats: int = Field(1, ge=1)
    """Runs of a trial, with the seeds from `seed` on; its value is their mean."""
    warm_start: list[str] = Field(default_factory=list)
    """Searches whose trials are known before the first one here."""
    warm_start_mlflow: str | None = None
    """A query that finds runs in MLflow, known too."""
    budget: Budget

    @model_validator(mode="after")
    def _agree(self) -> "SearchSettings":
        if len(self.objectives) > 1:
            if self.scheduler != "none":
                raise ValueError(
                    f"scheduler={self.scheduler}: with several objectives no trial is stopped "
                    "early, since none of them says alone which one is bad; take none"
                )
            if self.sampler == "cmaes":
                raise ValueError("sampler=cmaes: has one objective; take nsga2")
        return self

    @property
    def seeds(self) -> range:
        """Of a trial's runs."""
        return range(self.seed, self.seed + self.repeats)


def read_settings(tree: Mapping[str, Any], *, source: str) -> SearchSettings:
    """Check settings from the command line or a database.

    Raises:
        ConfigError: The first thing that is wrong.
    """
    try:
        return SearchSettings.model_validate(tree)
    except ValidationError as error:
        raise _explained(error, source) from error


def raised(budget: Budget, changed: Mapping[str, Any]) -> Budget:
    """A budget with some of its parts changed.

    Raises:
        ConfigError: A part is out of range.
    """
    try:
        return Budget.model_validate({**budget.model_dump(), **changed})
    except ValidationError as error:
        raise _explained(error, "--resume") from error


def _explained(error: ValidationError, source: str) -> ConfigError:
    first = error.errors()[0]
    what = first["msg"].removeprefix("Value error, ")
    where = ".".join(map(str, first["loc"]))
    return ConfigError(f"{source}: {where + ': ' if where else ''}{what}")
