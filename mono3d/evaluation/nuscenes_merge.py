"""Detections of the cameras of one nuScenes sample, brought together in the global frame.

The global frame is used as a bev frame (z up, yaw about z) with its origin far away, in double
precision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from mono3d.codec.box_frames import boxes_in_bev
from mono3d.codec.nuscenes_names import CLASS_RANGE_M
from mono3d.codec.nuscenes_poses import FramePose
from mono3d.geometry.boxes import forward_bev
from mono3d.geometry.camera import transform_points
from mono3d.structures import Boxes3D, Detections, to_device

MIN_SCORE = 0.01
MAX_BOXES = 500
"""Of one sample; the benchmark allows no more."""

REPEAT_RADIUS_M: Mapping[str, float] = {
    "car": 2.0,
    "truck": 3.5,
    "bus": 3.2,
    "trailer": 3.2,
    "construction_vehicle": 3.5,
    "pedestrian": 0.4,
    "motorcycle": 0.9,
    "bicycle": 0.9,
    "traffic_cone": 0.4,
    "barrier": 1.0,
}
"""Two cameras' detections of a class whose centres are nearer on the ground are one object.

The radii of circular suppression in CenterPoint (Yin et al., CVPR 2021, arXiv:2006.11275), there
given as squares.
"""


def to_global(detections: Detections, pose: FramePose) -> Detections:
    """Detections of a frame in the global frame, in double precision.

    They are in the camera's frame if it has one camera, else in the bev frame.
    """
    boxes = to_device(detections.boxes, "cpu")
    boxes = replace(
        boxes,
        centers=boxes.centers.double(),
        yaw=boxes.yaw.double(),
        velocity=boxes.velocity.double(),
    )
    if len(pose.global_from_cam) > 1:
        boxes = _from_bev(boxes, pose)
    else:  # the global frame is a bev frame with its origin far away
        boxes = boxes_in_bev(boxes, pose.global_from_cam[0])
    return Detections(boxes=boxes, scores=detections.scores.cpu())


def _from_bev(boxes: Boxes3D, pose: FramePose) -> Boxes3D:
    forward, left = boxes.velocity.unbind(-1)
    velocity = torch.stack([forward, left, torch.zeros_like(left)], dim=-1)
    rotation = pose.global_from_bev[:3, :3]
    heading = forward_bev(boxes.yaw) @ rotation.T
    return replace(
        boxes,
        centers=transform_points(boxes.centers, pose.global_from_bev),
        yaw=torch.atan2(heading[:, 1], heading[:, 0]),
        velocity=(velocity @ rotation.T)[:, :2],
    )


def merge_cameras(
    views: Sequence[tuple[Detections, FramePose]], class_names: Sequence[str]
) -> Detections:
    """All cameras' detections of a sample, in the global frame, as the benchmark takes them.

    Boxes beyond the range of their class, below MIN_SCORE, and repeats are left out; of what
    remains the MAX_BOXES best. A repeat is a box near a better one of the same class of *another*
    camera: within one camera the detector has already decided, and people stand close.

    Args:
        views: Detections of frames with their poses, as `to_global` takes them; empty is legal.
        class_names: The run's classes, in the order of labels.
    """
    if not views:
        return Detections(boxes=Boxes3D.empty(), scores=torch.zeros(0))
    parts = [to_global(detections, pose) for detections, pose in views]
    sizes = torch.tensor([len(part) for part in parts])
    cameras = torch.repeat_interleave(torch.arange(len(parts)), sizes)
    merged = _concatenate(parts)
    is_good = merged.boxes.valid & (merged.scores >= MIN_SCORE)
    is_good &= _is_in_range(merged.boxes, views[0][1].global_from_bev[:2, 3], class_names)
    order = merged.scores.argsort(descending=True, stable=True)
    order = order[is_good[order]]
    merged, cameras = merged.select(order), cameras[order]
    kept = torch.nonzero(~_is_repeat(merged.boxes, cameras, class_names))[:MAX_BOXES, 0]
    return merged.select(kept)


def _concatenate(parts: Sequence[Detections]) -> Detections:
    boxes = {
        field.name: torch.cat([getattr(part.boxes, field.name) for part in parts])
        for field in fields(Boxes3D)
    }
    return Detections(boxes=Boxes3D(**boxes), scores=torch.cat([part.scores for part in parts]))


def _is_in_range(
    boxes: Boxes3D, ego: Float64[Tensor, "2"], class_names: Sequence[str]
) -> Bool[Tensor, " n"]:
    limit = torch.tensor([CLASS_RANGE_M[name] for name in class_names])
    distance: Tensor = (boxes.centers[:, :2] - ego).norm(dim=-1)
    return distance < limit[boxes.labels]


def _is_repeat(
    boxes: Boxes3D, cameras: Int64[Tensor, " n"], class_names: Sequence[str]
) -> Bool[Tensor, " n"]:
    """Greedy suppression, best first, found as the fixed point of "near a better box that stays".

    The first i boxes are settled after i rounds, so the rounds end; in practice after two or three.
    """
    radius = torch.tensor([REPEAT_RADIUS_M[name] for name in class_names])[boxes.labels]
    places = boxes.centers[:, :2]
    is_near = (places[:, None] - places).norm(dim=-1) < radius
    is_same = (boxes.labels[:, None] == boxes.labels) & (cameras[:, None] != cameras)
    repeats = (is_near & is_same).triu(diagonal=1)
    settled = torch.zeros_like(boxes.valid)
    while True:
        is_repeat = (repeats & ~settled[:, None]).any(dim=0)
        if torch.equal(is_repeat, settled):
            return settled
        settled = is_repeat
