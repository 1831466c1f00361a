"""Frames in memory: grey images with a bright patch where an object stands on a flat road."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mono3d.codec.center import CenterCodec
from mono3d.codec.dense import DenseCodec
from mono3d.codec.depth import LogDepthCodec
from mono3d.codec.point_codec import PointCodec
from mono3d.data.augment import Augmentation
from mono3d.data.loaders import DepthSource, Preparation, prepare_batch
from mono3d.geometry.boxes import corners_cam, hull_2d, yaw_cam_from_bev
from mono3d.geometry.camera import transform_points
from mono3d.structures import Batch, Boxes3D, Frame

IMAGE_SIZE = (64, 96)
NUM_CLASSES = 2
_FOCAL_PX = 80.0
_CAMERA_HEIGHT_M = 1.6
_OBJECTS = 3


class FramesInMemory:
    """A data set whose frames are functions of their index."""

    def __init__(self, num_frames: int) -> None:
        self.frame_ids = [f"frame-{index:04d}" for index in range(num_frames)]
        self.fingerprint = f"{num_frames:064x}"

    def __len__(self) -> int:
        return len(self.frame_ids)

    def __getitem__(self, index: int) -> Frame:
        boxes = _boxes(index)
        projection = torch.tensor(
            [[_FOCAL_PX, 0, 48.0, 0], [0, _FOCAL_PX, 24.0, 0], [0, 0, 1.0, 0]]
        )
        return Frame(
            frame_id=self.frame_ids[index],
            camera_names=("CAM_FRONT",),
            images=_image(index, boxes)[None],
            projection=projection[None],
            bev_from_cam=torch.eye(4)[None],
            boxes_cam=(boxes,),
            boxes_bev=boxes,
        )

    def frame_labels(self, index: int) -> Int64[np.ndarray, " n"]:
        labels: Int64[np.ndarray, " n"] = _boxes(index).labels.numpy()
        return labels

    def camera_labels(self, index: int) -> list[tuple[Boxes3D, Float[Tensor, "3 4"]]]:
        return [(_boxes(index), self[index].projection[0])]

    def moment_of(self, index: int) -> str:
        return self.frame_ids[index]


def _boxes(index: int) -> Boxes3D:
    random = torch.Generator().manual_seed(index)
    depth_m = 4 + 16 * torch.rand(_OBJECTS, generator=random)
    sideways_m = (torch.rand(_OBJECTS, generator=random) - 0.5) * depth_m
    integers = torch.arange(_OBJECTS)
    return Boxes3D(
        centers=torch.stack([sideways_m, torch.full_like(depth_m, 0.8), depth_m], dim=-1),
        dims_hwl=torch.tensor([[_CAMERA_HEIGHT_M, 1.8, 4.2]]).repeat(_OBJECTS, 1),
        yaw=torch.rand(_OBJECTS, generator=random) * 3,
        labels=integers % NUM_CLASSES,
        velocity=torch.zeros(_OBJECTS, 2),
        attributes=torch.full((_OBJECTS,), -1),
        object_ids=integers,
        num_points=torch.full((_OBJECTS,), 10),
        visibility=torch.ones(_OBJECTS),
        valid=torch.ones(_OBJECTS, dtype=torch.bool),
    )


def _image(index: int, boxes: Boxes3D) -> torch.Tensor:
    random = torch.Generator().manual_seed(1000 + index)
    image = torch.randint(60, 120, (3, *IMAGE_SIZE), dtype=torch.uint8, generator=random)
    for x, _, z in boxes.centers.tolist():
        column = int(48 + _FOCAL_PX * x / z)
        half = int(_FOCAL_PX / z) + 1
        image[:, 24 : 24 + 2 * half, max(column - half, 0) : column + half] = 220
    return image


def surround_frame(
    seed: int,
    *,
    cameras: int = 6,
    image_size: tuple[int, int] = IMAGE_SIZE,
    is_labelled: bool = True,
) -> Frame:
    """A moment of cameras all around, slightly pitched, with objects, velocities and LiDAR."""
    random = torch.Generator().manual_seed(seed)
    boxes_bev = _boxes_around(random)
    height, width = image_size
    focal = width * (0.6 + 0.6 * torch.rand(cameras, generator=random))
    projection = torch.zeros(cameras, 3, 4)
    projection[:, 0, 0], projection[:, 1, 1], projection[:, 2, 2] = focal, focal, 1
    projection[:, 0, 2], projection[:, 1, 2] = width / 2, height / 2
    poses = torch.stack([_pose(2 * math.pi * i / cameras, random) for i in range(cameras)])
    boxes_cam = tuple(
        boxes_in_view(boxes_bev, pose, p, image_size)
        for pose, p in zip(poses, projection, strict=True)
    )
    around = torch.randn(20, len(boxes_bev), 3, generator=random) * 0.5 + boxes_bev.centers
    return Frame(
        frame_id=f"moment-{seed}",
        camera_names=tuple(f"CAM_{i}" for i in range(cameras)),
        images=torch.randint(0, 256, (cameras, 3, *image_size), generator=random).byte(),
        projection=projection,
        bev_from_cam=poses,
        boxes_cam=boxes_cam if is_labelled else None,
        boxes_bev=boxes_bev if is_labelled else None,
        points=torch.cat(
            [around.flatten(0, 1), torch.rand(len(boxes_bev) * 20, 1, generator=random)], dim=1
        ),
    )


def boxes_in_view(
    boxes_bev: Boxes3D, pose: Tensor, projection: Tensor, image_size: tuple[int, int]
) -> Boxes3D:
    """Boxes of the bev frame in one camera's frame, without those outside its image."""
    cam_from_bev = torch.linalg.inv(pose)
    speed = torch.cat([boxes_bev.velocity, torch.zeros(len(boxes_bev), 1)], dim=1)
    boxes = replace(
        boxes_bev,
        centers=transform_points(boxes_bev.centers, cam_from_bev),
        yaw=yaw_cam_from_bev(boxes_bev.yaw, cam_from_bev),
        velocity=(speed @ cam_from_bev[:3, :3].T)[:, [0, 2]],
    )
    corners = corners_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
    return boxes.select(hull_2d(corners, projection, image_size)[1])


def _boxes_around(random: torch.Generator, count: int = 12) -> Boxes3D:
    angle = 2 * math.pi * torch.rand(count, generator=random)
    distance = 5 + 25 * torch.rand(count, generator=random)
    integers = torch.arange(count)
    return Boxes3D(
        centers=torch.stack([distance * angle.cos(), distance * angle.sin(), 0 * angle + 1], -1),
        dims_hwl=torch.tensor([1.6, 1.8, 4.2]) + torch.rand(count, 3, generator=random),
        yaw=torch.rand(count, generator=random) * 6 - 3,
        labels=integers % NUM_CLASSES,
        velocity=torch.randn(count, 2, generator=random),
        attributes=integers % 3 - 1,
        object_ids=integers,
        num_points=torch.full((count,), 20),
        visibility=torch.ones(count),
        valid=torch.ones(count, dtype=torch.bool),
    )


def _pose(heading: float, random: torch.Generator) -> Tensor:
    """bev_from_cam of a camera 1.5 m above the ground, pitched by up to 3 degrees."""
    pitch = (torch.rand((), generator=random).item() - 0.5) * 0.1
    forward = torch.tensor([math.cos(heading), math.sin(heading), -math.tan(pitch)])
    forward = forward / forward.norm()
    right = torch.tensor([math.sin(heading), -math.cos(heading), 0.0])
    down = torch.linalg.cross(forward, right)
    pose = torch.eye(4)
    pose[:3, :3] = torch.stack([right, down, forward], dim=1)
    pose[:3, 3] = torch.tensor([math.cos(heading), math.sin(heading), 1.5])
    return pose


def make_codec(
    *,
    strides: tuple[int, ...] = (8, 16, 32),
    max_positives: int = 64,
    radius_strides: float = 1.5,
) -> DenseCodec:
    """A dense codec of two classes for small images."""
    return DenseCodec(
        strides=strides,
        first_limit_px=24.0,
        depth=LogDepthCodec(reference_focal_px=80.0, mean_log_m=2.5, std_log=0.6),
        mean_dims_hwl=torch.tensor([[1.6, 1.8, 4.2], [1.7, 0.7, 0.8]]),
        max_positives=max_positives,
        radius_strides=radius_strides,
    )


def make_batch(
    frames: Sequence[Frame],
    codec: PointCodec,
    *,
    augmentation: Augmentation | None = None,
    max_objects: int = 16,
    depth_input: DepthSource | None = None,
) -> Batch:
    """Frames through the loader's own preparation."""
    preparation = Preparation(
        image_size=IMAGE_SIZE,
        encode=codec.encode,
        augmentation=augmentation,
        depth_input=depth_input,
        max_objects=max_objects,
    )
    generator = torch.Generator().manual_seed(0)
    return prepare_batch(frames, [generator] * len(frames), preparation)


def make_center_codec(*, stride: int = 4) -> CenterCodec:
    """A center codec of two classes for small images."""
    dense = make_codec()
    return CenterCodec(
        stride=stride,
        depth=dense.depth,
        mean_dims_hwl=torch.tensor([[1.6, 1.8, 4.2], [1.7, 0.7, 0.8]]),
    )
