"""Frames in memory: grey images with a bright patch where an object stands on a flat road."""

import numpy as np
import torch
from jaxtyping import Int64

from mono3d.structures import Boxes3D, Frame

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
