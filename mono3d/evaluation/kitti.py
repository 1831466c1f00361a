"""Detections of KITTI frames → result table → the benchmark's metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mono3d.codec.kitti_results import result_columns
from mono3d.evaluation.kitti_ap import DIFFICULTIES, KittiCurves, Strictness, evaluate_kitti
from mono3d.evaluation.kitti_tables import LABEL_COLUMNS, KittiTable, parse_table
from mono3d.structures import Detections

_RULED = ("car", "pedestrian", "cyclist", "van", "truck")
"""Types with overlaps or a neighbour of their own."""
_UNSAID = -1.0
"""Truncation and occlusion of a result."""


@dataclass(frozen=True, kw_only=True)
class KittiAnswer:
    """What was found in one frame, and what there is."""

    label_file: tuple[str, bytes]
    """Its path, for messages, and content."""
    detections: Detections
    """In the rectified camera frame."""
    projection: Float[Tensor, "3 4"]
    image_size: tuple[int, int]
    """Height and width of the image that labels speak of."""


@dataclass(frozen=True, kw_only=True)
class KittiMetrics:
    """What the benchmark says of detections."""

    values: Mapping[str, float]
    """kitti_{class}_{kind}_{difficulty}: AP R40 in percent, of 2d, aos, bev and 3d; the same with
    `_loose` behind, at the looser overlaps; kitti_{kind}_{difficulty}: means over the classes.

    A class without detections has 0 everywhere.
    """
    curves: Mapping[Strictness, KittiCurves]


def evaluate_detections(
    answers: Sequence[KittiAnswer], class_names: Sequence[str], label_map: Mapping[str, str | None]
) -> KittiMetrics:
    """Metrics of a run's classes.

    A class that KITTI's Car (or Pedestrian, ...) is mapped to is measured as that: by its overlaps,
    and with its neighbour. A class to which no type of KITTI leads is measured by its own name.

    Args:
        answers: Of all frames to evaluate.
        class_names: The run's classes, in the order of labels.
        label_map: Type in the label files → class that it counts as; None ignores it.

    Raises:
        DataError: A label file is broken.
    """
    labels = parse_table([answer.label_file for answer in answers], LABEL_COLUMNS)
    measured_as = {name: _measured_as(name, label_map) for name in class_names}
    meaning = {name.lower(): measured_as[meant] for name, meant in label_map.items() if meant}
    types = [meaning.get(name, name) for name in labels.types.tolist()]
    labels = replace(labels, types=np.array(types, dtype=np.str_))
    kinds = list(measured_as.values())
    found = evaluate_kitti(labels, _results(answers, kinds), kinds)
    curves = {
        strictness: {name: by_kind[kind] for name, kind in measured_as.items()}
        for strictness, by_kind in found.items()
    }
    return KittiMetrics(values=_values(curves), curves=curves)


def _measured_as(class_name: str, label_map: Mapping[str, str | None]) -> str:
    """The type, in lower case, whose rules hold for a class: one that leads to it, or its own."""
    mapped = {name.lower() for name, meant in label_map.items() if meant == class_name}
    return next((kind for kind in _RULED if kind in mapped), class_name.lower())


def _results(answers: Sequence[KittiAnswer], kinds: Sequence[str]) -> KittiTable:
    tables, types = [np.zeros((0, 15))], []
    for answer in answers:
        detections = answer.detections
        columns, is_seen = result_columns(detections, answer.projection, answer.image_size)
        said = columns[is_seen].double().numpy()
        unsaid = np.full((len(said), 2), _UNSAID)
        scores = detections.scores[is_seen].double().numpy()
        tables.append(np.concatenate([unsaid, said, scores[:, None]], axis=1))
        types += [kinds[i] for i in detections.boxes.labels[is_seen].tolist()]
    return KittiTable(
        starts=np.cumsum([len(table) for table in tables]),
        types=np.array(types, dtype=np.str_),
        values=np.concatenate(tables),
    )


def _values(curves: Mapping[Strictness, KittiCurves]) -> dict[str, float]:
    values: dict[str, float] = {}
    for strictness, by_class in curves.items():
        ending = "" if strictness == "std" else "_loose"
        found: dict[str, list[float]] = {}
        for name, kinds in by_class.items():
            for kind, curve in kinds.items():
                levels = curve.r40 if curve else (0.0, 0.0, 0.0)
                for difficulty, ap in zip(DIFFICULTIES, levels, strict=True):
                    values[f"kitti_{name}_{kind}_{difficulty}{ending}"] = ap
                    found.setdefault(f"kitti_{kind}_{difficulty}{ending}", []).append(ap)
        values |= {name: float(np.mean(aps)) for name, aps in found.items()}
    return values
