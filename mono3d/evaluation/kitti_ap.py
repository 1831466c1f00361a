"""KITTI's object benchmark: average precision in the image, from above and in space, and AOS.

Equal to the official program (evaluate_object_3d_offline.cpp), its peculiarities included:

* One precision is taken for each of up to 41 scores, those nearest to recalls of 0, 1/40, ... 1.
  Their number is bounded by the number of objects, so few objects never reach 100.
* A label counts if it is more than 40 (25, 25) pixels high, its occlusion is at most 0 (1, 2) and
  its truncation at most 0.15 (0.3, 0.5): easy (moderate, hard). Others of its class, and those of
  the neighbouring class (Van to Car, Person_sitting to Pedestrian), are neither hits nor misses.
* A result less than 40 (25, 25) pixels high, of whatever class, is no false positive, and takes a
  label that nothing else takes, which then is no miss.
* An overlap has to exceed the threshold. The first pass, which finds the 41 scores, gives a label
  its best-scored candidate; the second, which counts, gives it the one that overlaps most.
* Results inside DontCare regions are no false positives.
* One alpha of -10 anywhere leaves out AOS, for all classes. A class without results that have a
  rectangle (x1 >= 0) or a box is not evaluated in that kind.

R40 is the mean of points 1 to 40, R11 that of every fourth from 0, both in percent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, no_type_check

import numba
import numpy as np
from jaxtyping import Float64, Int64

from mono3d.evaluation.kitti_overlaps import KINDS, KittiOverlaps, find_overlaps
from mono3d.evaluation.kitti_tables import KittiTable

DIFFICULTIES = ("easy", "moderate", "hard")
CLASSES = ("Car", "Pedestrian", "Cyclist")
"""What the benchmark evaluates."""
Strictness = Literal["std", "loose"]
_STRICTNESSES: tuple[Strictness, ...] = ("std", "loose")
_VEHICLES = {"car", "van", "truck"}
_NEIGHBOUR = {"car": "van", "pedestrian": "person_sitting"}
_MIN_HEIGHT_PX = (40, 25, 25)
_MAX_OCCLUSION = (0, 1, 2)
_MAX_TRUNCATION = (0.15, 0.3, 0.5)
_NUM_POINTS = 41
RECALLS: Float64[np.ndarray, "41"] = np.linspace(0, 1, _NUM_POINTS)
"""Of the points of a curve."""
_UNKNOWN_ALPHA = -10
_UNKNOWN_PLACE = -1000
_COUNTS, _IGNORED, _ABSENT = 0, 1, -1


@dataclass(frozen=True, kw_only=True)
class KittiCurve:
    """Precision, or orientation similarity, of one class at 41 recalls for each difficulty."""

    points: Float64[np.ndarray, "3 41"]

    @property
    def r40(self) -> tuple[float, float, float]:
        """Average over recalls 1/40 to 1, percent: easy, moderate, hard."""
        return _percent(self.points[:, 1:])

    @property
    def r11(self) -> tuple[float, float, float]:
        """Average over recalls 0, 0.1, ... 1, percent: easy, moderate, hard."""
        return _percent(self.points[:, ::4])


class _Contest(NamedTuple):
    """Results that may hit labels of one class, at one difficulty, in one kind."""

    starts: Int64[np.ndarray, " starts"]
    candidates: Int64[np.ndarray, " pairs"]
    iou: Float64[np.ndarray, " pairs"]
    """As in `KittiOverlaps`."""
    min_overlap: float
    label_roles: Int64[np.ndarray, " labels"]
    """_COUNTS, _IGNORED (neither hit nor miss) or _ABSENT."""
    roles: Int64[np.ndarray, " results"]
    scores: Float64[np.ndarray, " results"]


KittiCurves = Mapping[str, Mapping[str, KittiCurve | None]]
"""By class, then "2d", "aos", "bev" and "3d"; None where the benchmark does not evaluate."""


def min_overlaps(strictness: Strictness, class_name: str) -> tuple[float, float, float]:
    """Overlap that a hit has to exceed, by kind in KINDS.

    Those of Car, Pedestrian and Cyclist are the benchmark's ("std") and what many papers report
    beside ("loose"); Van and Truck are measured as Car, any other class as Pedestrian.
    """
    is_vehicle = class_name.lower() in _VEHICLES
    strict, loose = (0.7, 0.5) if is_vehicle else (0.5, 0.25)
    return (strict, strict, strict) if strictness == "std" else (strict, loose, loose)


def evaluate_kitti(
    labels: KittiTable, results: KittiTable, class_names: Sequence[str] = CLASSES
) -> dict[Strictness, KittiCurves]:
    """All curves at the benchmark's overlaps ("std") and at the looser ones of many papers.

    Args:
        labels: Of the frames to evaluate.
        results: Of the same frames.
        class_names: In any case; see `min_overlaps`.
    """
    above = min(
        overlap
        for strictness in _STRICTNESSES
        for name in class_names
        for overlap in min_overlaps(strictness, name)
    )
    overlaps = find_overlaps(labels, results, above=above)
    return curves_of_overlaps(labels, results, overlaps, class_names)


def curves_of_overlaps(
    labels: KittiTable, results: KittiTable, overlaps: KittiOverlaps, class_names: Sequence[str]
) -> dict[Strictness, KittiCurves]:
    """`evaluate_kitti` where overlaps are known, for those who measure its parts."""

    @cache  # in the image both have the same overlaps
    def curves_of(name: str, kind: str, min_overlap: float) -> dict[str, KittiCurve | None]:
        return _curves(labels, results, overlaps, name, kind, min_overlap)

    return {
        strictness: {
            name: {
                part: curve
                for kind, min_overlap in zip(KINDS, min_overlaps(strictness, name), strict=True)
                for part, curve in curves_of(name, kind, min_overlap).items()
            }
            for name in class_names
        }
        for strictness in _STRICTNESSES
    }


def as_json(curves: Mapping[Strictness, KittiCurves]) -> dict[str, Any]:
    """R40 and R11 as `mono3d metrics kitti --json` writes them; null where not evaluated."""
    return {
        strictness: {
            name: {
                kind: None if curve is None else {"R40": list(curve.r40), "R11": list(curve.r11)}
                for kind, curve in kinds.items()
            }
            for name, kinds in by_class.items()
        }
        for strictness, by_class in curves.items()
    }


def _percent(points: Float64[np.ndarray, "3 _"]) -> tuple[float, float, float]:
    easy, moderate, hard = (100 * points.mean(axis=1)).tolist()
    return easy, moderate, hard


def _curves(
    labels: KittiTable,
    results: KittiTable,
    overlaps: KittiOverlaps,
    class_name: str,
    kind: str,
    min_overlap: float,
) -> dict[str, KittiCurve | None]:
    """The kind's curve, and with "2d" that of the orientation."""
    names = ("2d", "aos") if kind == "2d" else (kind,)
    if not _is_evaluated(results, class_name, kind):
        return dict.fromkeys(names)
    number = KINDS.index(kind)
    iou = np.ascontiguousarray(overlaps.iou[:, number])
    is_harmless = overlaps.in_dont_care[:, number] > min_overlap
    points = np.zeros((2, len(DIFFICULTIES), _NUM_POINTS))
    for difficulty in range(len(DIFFICULTIES)):
        contest = _Contest(
            starts=overlaps.starts,
            candidates=overlaps.results,
            iou=iou,
            min_overlap=min_overlap,
            label_roles=_label_roles(labels, class_name, difficulty),
            roles=_result_roles(results, class_name, difficulty),
            scores=np.ascontiguousarray(results.scores),
        )
        num_labels = int((contest.label_roles == _COUNTS).sum())
        thresholds = _recall_thresholds(_scores_of_hits(contest), num_labels)
        found = _count(contest, thresholds, is_harmless, labels.alpha, results.alpha)
        points[:, difficulty, : len(thresholds)] = _monotone(*found)
    precision, similarity = (KittiCurve(points=curve) for curve in points)
    if kind != "2d":
        return {kind: precision}
    has_alpha = not (results.alpha == _UNKNOWN_ALPHA).any()
    return {"2d": precision, "aos": similarity if has_alpha else None}


def _is_evaluated(results: KittiTable, class_name: str, kind: str) -> bool:
    """Whether one result of the class or more says what the kind needs."""
    mine = results.types == class_name.lower()
    if kind == "2d":
        return bool((results.rectangles_px[mine, 0] >= 0).any())
    axes, sizes = ([0, 2], [1, 2]) if kind == "bev" else ([0, 1, 2], [0, 1, 2])
    is_placed = (results.bottoms[mine][:, axes] != _UNKNOWN_PLACE).all(axis=1)
    return bool((is_placed & (results.dims_hwl[mine][:, sizes] > 0).all(axis=1)).any())


def _label_roles(labels: KittiTable, class_name: str, difficulty: int) -> Int64[np.ndarray, " n"]:
    mine = labels.types == class_name.lower()
    is_hard = (
        (labels.occluded > _MAX_OCCLUSION[difficulty])
        | (labels.truncated > _MAX_TRUNCATION[difficulty])
        | (labels.heights_px <= _MIN_HEIGHT_PX[difficulty])
    )
    is_neutral = (labels.types == _NEIGHBOUR.get(class_name.lower(), "")) | (mine & is_hard)
    return np.where(is_neutral, _IGNORED, np.where(mine, _COUNTS, _ABSENT))


def _result_roles(results: KittiTable, class_name: str, difficulty: int) -> Int64[np.ndarray, " n"]:
    mine = results.types == class_name.lower()
    is_small = np.abs(results.heights_px) < _MIN_HEIGHT_PX[difficulty]
    return np.where(is_small, _IGNORED, np.where(mine, _COUNTS, _ABSENT))


def _recall_thresholds(
    scores: Float64[np.ndarray, " hits"], num_labels: int
) -> Float64[np.ndarray, " thresholds"]:
    """Scores at which recall comes nearest to 0, 1/40, 2/40, ...; as the official loop rounds."""
    found = []
    recall = 0.0
    ordered = np.sort(scores)[::-1].tolist()
    for index, score in enumerate(ordered):
        here, after = (index + 1) / num_labels, (index + 2) / num_labels
        is_last = index == len(ordered) - 1
        if not is_last and after - recall < recall - here:
            continue
        found.append(score)
        recall += 1 / (_NUM_POINTS - 1)
    return np.array(found, dtype=np.float64)


def _monotone(
    hits: Int64[np.ndarray, " t"],
    false_positives: Int64[np.ndarray, " t"],
    similarity: Float64[np.ndarray, " t"],
) -> Float64[np.ndarray, "2 t"]:
    """Precision and orientation similarity, each the best at its recall or a higher one."""
    said = np.maximum(hits + false_positives, 1)
    curves = np.stack([hits / said, similarity / said])
    best: np.ndarray = np.maximum.accumulate(curves[:, ::-1], axis=1)[:, ::-1]
    return best


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _scores_of_hits(contest):
    """First pass: scores of the results that hit the labels that count."""
    is_taken = np.zeros(len(contest.scores), dtype=np.bool_)
    hits = np.empty(len(contest.label_roles))
    count = 0
    for i in range(len(contest.label_roles)):
        best = -1
        if contest.label_roles[i] != _ABSENT:
            for k in range(contest.starts[i], contest.starts[i + 1]):
                j = contest.candidates[k]
                if contest.roles[j] == _ABSENT or is_taken[j]:
                    continue
                is_better = best < 0 or contest.scores[j] > contest.scores[best]
                if is_better and contest.iou[k] > contest.min_overlap:
                    best = j
        if best >= 0:
            is_taken[best] = True
            if contest.label_roles[i] == _COUNTS and contest.roles[best] == _COUNTS:
                hits[count] = contest.scores[best]
                count += 1
    return hits[:count]


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _count(contest, thresholds, is_harmless, label_alpha, alpha):
    """Second pass: hits, false positives and similarity of all results above each threshold."""
    hits, false_positives = np.zeros((2, len(thresholds)), dtype=np.int64)
    similarity = np.zeros(len(thresholds))
    for t in range(len(thresholds)):
        is_taken = np.zeros(len(contest.scores), dtype=np.bool_)
        for i in range(len(contest.label_roles)):
            best = -1
            if contest.label_roles[i] != _ABSENT:
                best = _best_overlap(contest, i, thresholds[t], is_taken)
            if best >= 0:
                is_taken[best] = True
                if contest.label_roles[i] == _COUNTS and contest.roles[best] == _COUNTS:
                    hits[t] += 1
                    similarity[t] += (1 + np.cos(label_alpha[i] - alpha[best])) / 2
        for j in range(len(contest.scores)):
            counts = contest.roles[j] == _COUNTS and contest.scores[j] >= thresholds[t]
            if counts and not is_taken[j] and not is_harmless[j]:
                false_positives[t] += 1
    return hits, false_positives, similarity


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _best_overlap(contest, i, threshold, is_taken):
    """The free result that overlaps a label most; a neutral one if there is no other; or -1."""
    best, most = -1, 0.0
    for k in range(contest.starts[i], contest.starts[i + 1]):
        j = contest.candidates[k]
        if is_taken[j] or contest.scores[j] < threshold or contest.iou[k] <= contest.min_overlap:
            continue
        if contest.roles[j] == _COUNTS and contest.iou[k] > most:
            best, most = j, contest.iou[k]
        elif contest.roles[j] == _IGNORED and best < 0:
            best = j
    return best
