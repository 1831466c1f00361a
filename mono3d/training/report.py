"""What is made of an evaluation: pictures, the row-to-depth baseline, and a table."""

from pathlib import Path

import numpy as np
import torch

from mono3d.config.schema import RunConfig
from mono3d.data.sampling import FrameDataset
from mono3d.evaluation.depth_quality import pair_depths
from mono3d.evaluation.figures import (
    depth_scatter_figure,
    error_by_range_figure,
    error_by_visibility_figure,
    precision_recall_figure,
    write_png,
)
from mono3d.evaluation.prediction_figure import predictions_figure
from mono3d.evaluation.row_baseline import fit_row_baseline, ground_rows
from mono3d.evaluation.shown_scores import shown_scores
from mono3d.structures import Detections
from mono3d.training.evaluate import Evaluation

_CURVE_TITLES = {
    "nuscenes": "Within 2 m; average precision over 0.5 to 4 m",
    "kitti": "3D, moderate; average precision over 40 recalls",
}


def write_figures(
    config: RunConfig, dataset: FrameDataset, evaluation: Evaluation, folder: Path
) -> list[Path]:
    """Draw an evaluation: depth error by range, depths, curves, and the fullest frames.

    Returns:
        The PNG files, in `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names, pairs = config.data.class_names, evaluation.centers
    figures = {
        "depth_error_by_range": error_by_range_figure(pairs, names, "Depth error by range"),
        "depth_error_by_visibility": error_by_visibility_figure(
            pairs, names, "Depth error by visible share"
        ),
        "depth_predicted_vs_true": depth_scatter_figure(pairs, names, "Depth at true centres"),
    }
    if evaluation.curves:
        figures["precision_recall"] = precision_recall_figure(
            evaluation.curves, _CURVE_TITLES[config.data.kind]
        )
    for rank, (index, detections) in enumerate(_frames_to_draw(config, dataset, evaluation)):
        # On the whole image, of which the network may see a small and cropped version.
        figures[f"predictions_{rank}"] = predictions_figure(dataset[index], detections, names)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        write_png(figure, paths[-1])
    return paths


def _frames_to_draw(
    config: RunConfig, dataset: FrameDataset, evaluation: Evaluation
) -> list[tuple[int, Detections]]:
    """Of the frames with most objects, one of each sample, as many as wanted."""
    number_of = {frame_id: number for number, frame_id in enumerate(dataset.frame_ids)}
    counts = sorted(
        (
            (max(len(answer.centers), len(answer.matched)), number_of[answer.frame_id], answer)
            for answer in evaluation.answers
        ),
        key=lambda row: (-row[0], row[1]),
    )
    # Weaker detections would hide the picture.
    thresholds = shown_scores(config.data.class_names, evaluation.metrics)
    drawn: dict[str, tuple[int, Detections]] = {}
    for _, index, answer in counts:
        if len(drawn) == config.tracking.max_figures:
            break
        detections = answer.detections
        strong = detections.select(detections.scores >= thresholds[detections.boxes.labels])
        drawn.setdefault(dataset.moment_of(index), (index, strong))
    return list(drawn.values())


def row_baseline_abs_rel(
    train: FrameDataset, held_out: FrameDataset, num_classes: int, *, max_frames: int = 1000
) -> float:
    """Mean relative depth error of what the image row alone gives away, on held-out frames.

    Fitted on up to `max_frames` training frames, it is told each held-out object's true row and
    class. A detector must beat it.
    """
    rows, depths, labels = _rows_and_depths(train, max_frames)
    baseline = fit_row_baseline(rows, depths, labels, num_classes)
    rows, depths, labels = _rows_and_depths(held_out, max_frames)
    return float((np.abs(baseline.predict(rows, labels) - depths) / depths).mean())


def _rows_and_depths(
    dataset: FrameDataset, max_frames: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ground row, true depth and class of every object not known to hold no LiDAR points."""
    rows, pairs = [], []
    for index in np.linspace(0, len(dataset) - 1, min(max_frames, len(dataset))).astype(int):
        for boxes, projection in dataset.camera_labels(int(index)):
            learnt = boxes.select((boxes.num_points != 0) & (boxes.centers[:, 2] > 1.0))
            rows.append(ground_rows(learnt, projection))
            pairs.append(pair_depths(torch.zeros(len(learnt)), learnt))
    depths = np.concatenate([pair.true_m for pair in pairs])
    return np.concatenate(rows), depths, np.concatenate([pair.labels for pair in pairs])
