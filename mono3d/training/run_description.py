"""What a run is and how good it came out, for people who look at MLflow's pages."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mono3d.config.data_sections import (
    DataConfig,
    KittiData,
    KittiSet,
    MergedData,
    NuScenesData,
    NuScenesFolder,
    NuScenesSet,
)
from mono3d.config.load import fingerprint
from mono3d.config.model_sections import LidarModel
from mono3d.config.schema import RunConfig
from mono3d.config.section import Section
from mono3d.tracking.metric_groups import CORE, CORE_METRICS, grouped


@dataclass(frozen=True, kw_only=True)
class RunPlace:
    """What a config does not say of a run."""

    recipe: str | None
    folder: str
    """Of the run, on storage."""
    splits: Mapping[str, str]
    """Name and size of the data, by what they are for."""
    run_id: str | None
    """In MLflow; None while it is not known."""


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """The best checkpoint of a run that is over."""

    checkpoint: str
    step: int
    metrics: Mapping[str, float]
    initial_metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the untrained network, if it was measured."""


def run_tags(config: RunConfig, recipe: str | None = None) -> dict[str, str]:
    """What runs are told apart by: columns of the run table, rows of a comparison."""
    tags = {
        "mining": config.mining.kind,
        "distillation": config.distillation.kind,
        "detector": config.model.kind,
        "dataset": dataset_name(config.data),
        "iou_loss": config.iou_loss.kind,
        "mono3d.fingerprint": fingerprint(config),
    }
    return tags if recipe is None else {"recipe": recipe, **tags}


def dataset_name(data: DataConfig) -> str:
    """`nuscenes v1.0-mini`, `kitti train`, or those of several sets with a plus between them."""
    folders = data.sets.values() if isinstance(data, MergedData) else [data]
    return " + ".join(map(_folder_name, folders))


def describe(config: RunConfig, place: RunPlace, outcome: RunOutcome | None = None) -> str:
    """A run's description in Markdown.

    MLflow shows five lines of it before one asks for more: what it is in one, and how good it came
    out, once it is over.
    """
    facts = {
        "detector": _detector(config),
        "mining": _choice(config.mining),
        "losses": _losses(config),
        "IoU loss": _choice(config.iou_loss),
        "distillation": _choice(config.distillation),
        **{f"{purpose} split": text for purpose, text in place.splits.items()},
        "training": _training(config),
        "run folder": f"`{place.folder}`",
    }
    if outcome is not None:
        facts["best checkpoint"] = f"`{outcome.checkpoint}`"
    measured = place.run_id or (outcome and outcome.checkpoint)
    if measured:
        facts["measure it again"] = f"`mono3d evaluate {measured}`"
    parts = [_in_short(config, place.recipe)]
    if outcome is not None:
        parts.append(_scores(config, outcome))
    parts.append("\n".join(f"- **{name}:** {text}" for name, text in facts.items()))
    return "\n\n".join(parts)


def _in_short(config: RunConfig, recipe: str | None) -> str:
    kinds = [f"{config.model.kind} detector", f"mining {config.mining.kind}"]
    if config.iou_loss.kind != "none":
        kinds.append(f"IoU loss {config.iou_loss.kind}")
    if config.distillation.kind != "none":
        kinds.append(f"distillation {config.distillation.kind}")
    if config.model.depth_input != "none":
        kinds.append(f"a teacher that reads {config.model.depth_input} depth")
    made_of = "" if recipe is None else f"Recipe `{recipe}`: "
    return f"{made_of}{', '.join(kinds)}; {dataset_name(config.data)}."


def _scores(config: RunConfig, outcome: RunOutcome) -> str:
    text = f"**{_listed(config, outcome.metrics)}** at step {outcome.step}"
    before = _listed(config, outcome.initial_metrics)
    return f"{text}; untrained {before}." if before else f"{text}."


def _listed(config: RunConfig, metrics: Mapping[str, float]) -> str:
    """The metrics that MLflow's charts begin with, and the one that says which is best."""
    again = grouped(metrics)
    core = [name for name in CORE_METRICS if name in again]
    values = {name.removeprefix(f"{CORE}/").replace("_", " "): again[name] for name in core}
    best = config.checkpoint.metric
    if best in metrics and not grouped({best: 0.0}):
        values[best] = metrics[best]
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())


def _detector(config: RunConfig) -> str:
    if isinstance(config.model, LidarModel):
        return f"{config.model.kind}, on LiDAR points"
    size = f"{config.input.image_width_px} x {config.input.image_height_px} px"
    return f"{config.model.kind} on {_choice(config.model.backbone)}; images {size}"


def _losses(config: RunConfig) -> str:
    weights = config.loss.model_dump(exclude={"depth_loss"}, exclude_defaults=True)
    return f"{config.loss.depth_loss}{_settings(weights)}"


def _training(config: RunConfig) -> str:
    train = config.train
    frames = f"{train.epochs} epochs"
    if train.epoch_frames is not None:
        frames += f" x {train.epoch_frames} frames"
    batch = config.cluster.workers * train.batch_size * train.accumulate
    optim = f"{config.optim.kind} with lr {config.optim.lr:g}"
    return f"{frames}, batch {batch}, {optim}, seed {config.seed}"


def _choice(section: Section) -> str:
    """A section's kind with its settings."""
    settings = section.model_dump()
    return f"{settings.pop('kind')}{_settings(settings)}"


def _settings(values: Mapping[str, object]) -> str:
    listed = ", ".join(f"{name}{_plain(value)}" for name, value in values.items())
    return f" ({listed})" if listed else ""


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return _settings(value)
    return f" {value:g}" if isinstance(value, float) else f" {value}"


def _folder_name(folder: NuScenesData | NuScenesSet | KittiData | KittiSet) -> str:
    if isinstance(folder, NuScenesFolder):
        return f"{folder.kind} {folder.version}"
    return f"{folder.kind} {folder.train_split or folder.val_split}"
