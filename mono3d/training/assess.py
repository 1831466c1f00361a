"""A finished checkpoint: measured, drawn, and put on record."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mono3d.config.data_sections import has_official_metrics
from mono3d.config.model_sections import GridModel
from mono3d.config.schema import RunConfig
from mono3d.data.loaders import evaluation_batches
from mono3d.data.sampling import FrameDataset
from mono3d.errors import ConfigError
from mono3d.evaluation.oracle import Quantity
from mono3d.tracking.tracker import Tracker
from mono3d.training.assembly import build_preparation
from mono3d.training.batch_trial import evaluation_fits
from mono3d.training.checkpoint import load_student
from mono3d.training.datasets import build_dataset
from mono3d.training.evaluate import evaluate_split, oracle_scores
from mono3d.training.export import ExportedDetector
from mono3d.training.model_assembly import build_codec, build_model, load_network
from mono3d.training.report import write_figures

_logger = logging.getLogger(__name__)
EXPORT_EXAMPLES = 2
"""Images of the example input: with two, the exported batch size stays free."""


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What a checkpoint's network scores, and the pictures of it."""

    metrics: Mapping[str, float]
    figures: Sequence[Path]
    oracles: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Metrics with a quantity replaced by the truth, by quantity."""


def assess_checkpoint(
    location: str,
    overrides: Sequence[str],
    figures: Path | None,
    oracles: Sequence[Quantity] = (),
) -> Assessment:
    """Measure a checkpoint's averaged weights on its validation split.

    Args:
        location: Folder or s3:// URI.
        overrides: PATH=VALUE changes to the checkpoint's config, for other data.
        figures: Folder for them; None draws none.
        oracles: Quantities to replace by the truth, one after the other.

    Raises:
        ConfigError: Oracles are wanted of data without official detection metrics, or a batch does
            not fit into memory.
    """
    config, network = load_network(location, overrides)
    if oracles and not has_official_metrics(config.data):
        raise ConfigError(
            f"--oracle: data.kind={config.data.kind} with the classes {[*config.data.class_names]} "
            "has no detection metrics to compare"
        )
    if oracles and isinstance(config.model, GridModel):
        raise ConfigError(
            f"--oracle: replaces what detections say camera by camera; model.kind="
            f"{config.model.kind} answers on a grid"
        )
    dataset = build_dataset(config, "val")
    with evaluation_fits(config, next(network.parameters()).device, _logger.warning):
        evaluation = evaluate_split(config, network, None, dataset)
    drawn = [] if figures is None else write_figures(config, dataset, evaluation, figures)
    return Assessment(
        metrics=evaluation.metrics,
        figures=drawn,
        oracles=oracle_scores(config, dataset, evaluation, oracles),
    )


def record_network(location: str | Path, config: RunConfig, tracker: Tracker) -> None:
    """Export a checkpoint's averaged weights and put them on the run's record."""
    network = build_model(config)
    load_student(location, network)
    tracker.log_model(
        ExportedDetector(network.eval(), build_codec(config), config.evaluation),
        example_inputs(config, build_dataset(config, "val")),
        name="model",
        registered_name=config.tracking.registered_model,
        metadata={"class_names": json.dumps(config.data.class_names)},
    )


def example_inputs(config: RunConfig, dataset: FrameDataset) -> dict[str, torch.Tensor]:
    """First frames of a split as the exported network takes them."""
    codec = build_codec(config)
    preparation = build_preparation(config, codec, training=False)
    indices = [index % len(dataset) for index in range(EXPORT_EXAMPLES)]
    batches = evaluation_batches(
        dataset, preparation, indices, batch_size=EXPORT_EXAMPLES, num_workers=0
    )
    batch = next(batches)
    views = (batch.images, batch.projection, batch.bev_from_cam)
    if not codec.in_bev:
        views = (batch.images[:, 0], batch.projection[:, 0], batch.bev_from_cam[:, 0])
    names = ("image", "projection", "bev_from_cam")
    return {name: view.contiguous() for name, view in zip(names, views, strict=True)}
