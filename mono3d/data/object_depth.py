"""Depth that labels alone tell of an image, for teachers where there is no LiDAR."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mono3d.geometry.boxes import corners_cam, hull_2d
from mono3d.geometry.camera import MIN_DEPTH_M
from mono3d.structures import Boxes3D


def object_depth_map(
    boxes: Boxes3D, projection: Float[Tensor, "3 4"], image_size: tuple[int, int]
) -> Float[Tensor, "h w"]:
    """Each object's centre depth, painted into its 2D box; the nearest object is on top.

    Source: the abstract of ADD (arXiv:2211.16779) says that object-wise depth can stand in for
    dense depth; how it is painted is our reconstruction.

    Args:
        boxes: Of one camera, in its frame, without padding.
        projection: Of that camera.
        image_size: Height and width, pixels.

    Returns:
        Metres; 0 where no object is.
    """
    height, width = image_size
    corners = corners_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
    hulls, in_image = hull_2d(corners, projection, image_size)
    # Of an object that the camera plane cuts, the centre may lie behind the camera.
    seen = in_image & (boxes.centers[:, 2] > MIN_DEPTH_M)
    pixels, objects = _pixels_inside(hulls[seen], width)
    flat = torch.full((height * width,), torch.inf)
    flat = flat.scatter_reduce(0, pixels, boxes.centers[seen, 2][objects], "amin")
    return torch.where(flat.isfinite(), flat, 0.0).view(height, width)


def _pixels_inside(
    hulls: Float[Tensor, "k 4"], width: int
) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " m"]]:
    """All pixels whose middles are inside of each box, row after row, and the box of each."""
    first, last = hulls.split(2, dim=-1)
    first, last = first.ceil().long(), last.ceil().long()  # one beyond the last pixel
    columns, rows = (last - first).clamp(min=0).unbind(-1)
    counts = columns * rows
    objects = torch.arange(len(hulls)).repeat_interleave(counts)
    place = torch.arange(len(objects)) - (counts.cumsum(0) - counts)[objects]
    row, column = place // columns[objects], place % columns[objects]
    return (first[objects, 1] + row) * width + first[objects, 0] + column, objects
