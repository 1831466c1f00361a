"""Labels with a planted fault: boxes that are said to be farther away than they are.

Depth-sample mining claims to help where labels are wrong about depth. This plants such labels,
keeps a list of them, and leaves every picture and every sweep as it was.

Which objects. In real data it is the hidden and the distant whose depth is labelled badly. The
hardness of an object is (hidden share + distance / 120 m) squared, where both are means over its
labels; the hidden share is one minus the middle of the label's visibility level. An object is
chosen with a probability proportional to that, at most 0.6, so that some of the hardest objects
stay true and hardness alone does not tell true from false. One factor of proportion serves all
scenes; it is the one with which the asked share of labels is expected.

How wrong. A chosen object has one factor in all samples of its scene, log-uniform in 1.15 to 1.5:
a mistake of a tracker or an annotator goes on from sample to sample. It never shortens a distance,
since errors to both sides would cancel and teach nothing false on average.

Where to. The centre moves along the ray from the camera that has it nearest to the middle of its
width, so that its pixel there stays, and only depth contradicts the picture, which is all that a
detector sees. In a neighbour whose picture overlaps, it shifts by the parallax of a metre. The
box keeps its size and heading; no longer on its ground, it sinks or rises. Its velocity, which
readers take from its positions, is off by (factor - 1) times the object's motion relative to the
camera, as with any wrong scale: a parked car seems to drive when the ego car does.

`num_lidar_pts` stays the count in the true box: trainers drop objects without points, and would
drop the plant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mono3d.data.synthetic.nuscenes_tables import Row, Tables, middle_share

MAX_BIASED_SHARE = 0.5
FACTORS = (1.15, 1.5)
"""Least and largest factor on a distance."""
MAX_PROBABILITY = 0.6
_DISTANCE_SCALE_M = 120.0


@dataclass(frozen=True, kw_only=True)
class _View:
    """A camera at a moment.

    Attributes:
        position: In the global frame, metres.
        cam_from_global: Rotation.
        focal_px: Horizontal focal length.
        cx_px: Column of the principal point.
        width_px: Of the picture.
    """

    position: Float[NDArray[np.float64], "3"]
    cam_from_global: Float[NDArray[np.float64], "3 3"]
    focal_px: float
    cx_px: float
    width_px: int

    def off_middle(self, point: Float[NDArray[np.float64], "3"]) -> float:
        """How far from the middle column a global point lies, in widths; inf behind."""
        x, _, z = self.cam_from_global @ (point - self.position)
        if z <= 0:
            return float("inf")
        return float(abs((self.focal_px * x / z + self.cx_px + 0.5) / self.width_px - 0.5))


def draw_factors(
    scenes: Sequence[Tables], generators: Sequence[np.random.Generator], share: float
) -> dict[str, float]:
    """Choose the objects whose labels shall be wrong, and by how much; see the module.

    A larger share chooses the same objects and more, with the same factors.

    Args:
        scenes: Rows of the scenes that may hold false labels.
        generators: One for each scene; two numbers are drawn for each of its objects.
        share: Of the labels of all scenes together, expected; 0 to MAX_BIASED_SHARE.

    Returns:
        Factor, above 1, of each false label by the token of its sample_annotation.

    Raises:
        ValueError: If the share is out of its range.
    """
    if not 0 <= share <= MAX_BIASED_SHARE:
        raise ValueError(f"share of biased labels {share}: must be 0 to {MAX_BIASED_SHARE}")
    objects: list[list[str]] = []
    hardness: list[float] = []
    draws = [np.zeros((0, 2))]
    for tables, generator in zip(scenes, generators, strict=True):
        labels, hard = _objects(tables)
        objects += labels
        hardness += hard
        draws.append(generator.random((len(labels), 2)))
    choice, size = np.concatenate(draws).T
    is_chosen = choice < _probabilities(
        np.array(hardness), np.array([len(labels) for labels in objects], dtype=np.int64), share
    )
    low, high = np.log(FACTORS)
    factors = np.exp(low + (high - low) * size).round(4)
    return {
        label: float(factors[i])
        for i in np.flatnonzero(is_chosen).tolist()
        for label in objects[i]
    }  # fmt: skip


def moved_away(tables: Tables, factors: Mapping[str, float]) -> Tables:
    """A scene whose labels are as many times farther from a camera as the factors say.

    Args:
        tables: Rows of the scene; they are not changed.
        factors: By token of sample_annotation, of this scene or of others.
    """
    views = _views(tables)
    return tables | {
        "sample_annotation": [
            _moved(row, views[row["sample_token"]], factors[row["token"]])
            if row["token"] in factors
            else row
            for row in tables["sample_annotation"]
        ]
    }


def _objects(tables: Tables) -> tuple[list[list[str]], list[float]]:
    """Tokens of the labels of each object, and its hardness."""
    poses = {row["token"]: row["translation"] for row in tables["ego_pose"]}
    ego = {row["sample_token"]: poses[row["ego_pose_token"]] for row in tables["sample_data"]}
    labels: dict[str, list[Row]] = {}
    for row in tables["sample_annotation"]:
        labels.setdefault(row["instance_token"], []).append(row)
    hardness = []
    for rows in labels.values():
        hidden = [1 - middle_share(row["visibility_token"]) for row in rows]
        ways = np.array([np.subtract(row["translation"], ego[row["sample_token"]]) for row in rows])
        distances = np.linalg.norm(ways[:, :2], axis=1)
        hardness.append(float(np.mean(hidden) + np.mean(distances) / _DISTANCE_SCALE_M) ** 2)
    return [[row["token"] for row in rows] for rows in labels.values()], hardness


def _probabilities(
    hardness: Float[NDArray[np.float64], " n"],
    num_labels: Int[NDArray[np.int64], " n"],
    share: float,
) -> Float[NDArray[np.float64], " n"]:
    """Proportional to hardness, at most MAX_PROBABILITY; `share` is their mean over labels."""
    if not len(hardness):
        return hardness
    order = np.argsort(-hardness)
    hard, weights = hardness[order], num_labels[order]
    # The k hardest have the largest probability; what is missing then comes from the others, in
    # proportion. The first k at which no other exceeds the largest is the answer.
    largest = MAX_PROBABILITY * (np.cumsum(weights) - weights)
    others = np.cumsum((weights * hard)[::-1])[::-1]
    slopes = (share * weights.sum() - largest) / others
    slope = slopes[np.argmax(slopes * hard <= MAX_PROBABILITY)]
    probabilities: NDArray[np.float64] = np.minimum(slope * hardness, MAX_PROBABILITY)
    return probabilities


def _views(tables: Tables) -> dict[str, list[_View]]:
    """The cameras of each sample, by its token."""
    poses = {row["token"]: row for row in tables["ego_pose"]}
    sensors = {row["token"]: row for row in tables["calibrated_sensor"]}
    views: dict[str, list[_View]] = {}
    for row in tables["sample_data"]:
        sensor, pose = sensors[row["calibrated_sensor_token"]], poses[row["ego_pose_token"]]
        if not sensor["camera_intrinsic"]:
            continue
        turn = _rotation(pose)
        (focal_px, _, cx_px), *_ = sensor["camera_intrinsic"]
        view = _View(
            position=turn.apply(sensor["translation"]) + pose["translation"],
            cam_from_global=(turn * _rotation(sensor)).inv().as_matrix(),
            focal_px=focal_px,
            cx_px=cx_px,
            width_px=row["width"],
        )
        views.setdefault(row["sample_token"], []).append(view)
    return views


def _rotation(row: Row) -> Rotation:
    w, x, y, z = row["rotation"]
    return Rotation.from_quat([x, y, z, w])


def _moved(row: Row, views: Sequence[_View], factor: float) -> Row:
    center = np.array(row["translation"])
    origin = min(views, key=lambda view: view.off_middle(center)).position
    far = origin + factor * (center - origin)
    return row | {"translation": [round(value, 4) for value in far.tolist()]}
