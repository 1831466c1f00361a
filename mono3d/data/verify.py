"""Reading all of a data set: what cannot be used, and what is merely odd."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mono3d.data.kitti import KittiDataset
from mono3d.data.sampling import FrameDataset
from mono3d.errors import DataError
from mono3d.geometry.boxes import corners_cam, hull_2d
from mono3d.structures import Frame

_EDGE_TOLERANCE_PX = 1.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something about one frame."""

    frame_id: str
    text: str
    is_error: bool
    """Whether training would stop there; otherwise it is only worth a look."""


def verify_frame(dataset: FrameDataset, index: int) -> Iterator[Finding]:
    """Read a frame as training would, and look at how labels and image fit."""
    try:
        frame = dataset[index]
    except DataError as error:
        yield Finding(frame_id=dataset.frame_ids[index], text=str(error), is_error=True)
        return
    odd = [*_unseen_boxes(frame)]
    if isinstance(dataset, KittiDataset):
        odd += _rectangles_over_the_edge(dataset, index, frame)
    for text in odd:
        yield Finding(frame_id=frame.frame_id, text=text, is_error=False)


def _unseen_boxes(frame: Frame) -> Iterator[str]:
    """Labels of a camera in whose image nothing of them lies."""
    height, width = frame.images.shape[-2:]
    for name, boxes, projection in zip(
        frame.camera_names,
        frame.boxes_cam or (),
        frame.projection,
        strict=frame.boxes_cam is not None,
    ):
        corners = corners_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
        unseen = int((~hull_2d(corners, projection, (height, width))[1]).sum())
        if unseen:
            yield f"{unseen} of {len(boxes)} labelled boxes lie outside the {name} image"


def _rectangles_over_the_edge(dataset: KittiDataset, index: int, frame: Frame) -> Iterator[str]:
    """KITTI clips its rectangles to the image, so one that leaves it was made for another image."""
    height, width = frame.images.shape[-2:]
    rectangles = dataset.rectangles_px(index)
    over = np.maximum(
        (rectangles[:, 2:] - (width, height)).max(axis=1, initial=0.0),
        (-rectangles[:, :2]).max(axis=1, initial=0.0),
    )
    count = int((over > _EDGE_TOLERANCE_PX).sum())
    if count:
        yield (
            f"{count} of {len(rectangles)} labelled rectangles leave the {width}x{height} image, "
            f"by up to {over.max():.0f} px: it was cropped, or is another frame's"
        )
