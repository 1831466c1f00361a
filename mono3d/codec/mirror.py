"""Answers at points about images and about their mirror images, as one answer.

The mean of two answers that err independently errs less. Flip testing is common practice (FCOS3D,
arXiv:2104.10956, section 4.2, reports with it); what is averaged is ours: logits, log sizes, log
depths and axes, point by point, so that decoding is the same with and without it.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.codec.heading import HeadingCode
from mono3d.codec.points import level_size, make_points
from mono3d.geometry.camera import mirrored_camera
from mono3d.structures import Inputs

_DEPTH_MAP = "depth_map"
_MEANT_AS_THEY_ARE = (
    "class_logits", "centerness_logits", "attribute", "log_depth", "log_sigma", "log_dims",
    "depth_bins",
)  # fmt: skip


def mirror_inputs(inputs: Inputs) -> Inputs:
    """The mirrored moments: left and right are swapped in all that a network reads."""
    projection, bev_from_cam = mirrored_camera(
        inputs.projection, inputs.bev_from_cam, inputs.images.shape[-1]
    )
    points, depth = inputs.points, inputs.depth_input
    return Inputs(
        images=inputs.images.flip(-1),
        projection=projection,
        bev_from_cam=bev_from_cam,
        points=None if points is None else points * points.new_tensor([1, -1, 1, 1]),
        point_offsets=inputs.point_offsets,
        depth_input=None if depth is None else depth.flip(-1),
    )


def mean_with_mirrored(
    said: Mapping[str, Tensor],
    mirrored: Mapping[str, Tensor],
    *,
    strides: Sequence[int],
    image_size: tuple[int, int],
    heading: HeadingCode,
) -> dict[str, Tensor]:
    """One answer from the one about images and the one about `mirror_inputs`.

    Where the width is no multiple of a stride, mirrored points fall between points; the offsets
    make up for it, other answers are taken from up to half a stride beside.

    Args:
        said: Responses [n, points, ...]; what decoding does not read is left
            out of the result.
        mirrored: The same of the mirror images.
        strides: Of the levels, finest first, pixels.
        image_size: Height and width.
        heading: How they say the heading.
    """
    back = _partners(strides, image_size, said["depth_m"].device)
    other = {name: mirrored[name][:, back] for name in mirrored if name != _DEPTH_MAP}
    mean = {name: (said[name] + other[name]) / 2 for name in _MEANT_AS_THEY_ARE if name in said}
    grid = make_points(image_size, strides, back.device)
    u = grid.centers_px[:, 0]
    beside = torch.zeros_like(grid.centers_px)
    beside[:, 0] = (image_size[1] - 1 - u - u[back]) / grid.strides_px
    if _DEPTH_MAP in said:
        mean[_DEPTH_MAP] = (said[_DEPTH_MAP] + mirrored[_DEPTH_MAP].flip(-1)) / 2
    return (
        mean
        | heading.mean_with_mirrored(said, other)
        | {
            "depth_m": (said["depth_m"] * other["depth_m"]).sqrt(),
            "offset": (said["offset"] + beside + _mirrored(other["offset"])) / 2,
            "velocity": (said["velocity"] + _mirrored(other["velocity"])) / 2,
        }
    )


def _mirrored(pairs: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
    """Pairs whose first value goes to the right."""
    return pairs * pairs.new_tensor([-1, 1])


def _partners(strides: Sequence[int], image_size: tuple[int, int], device: torch.device) -> Tensor:
    """Index of the point that lies where each point's mirror image does."""
    partners, start = [], 0
    for stride in strides:
        height, width = level_size(image_size, stride)
        level = torch.arange(start, start + height * width, device=device).view(height, width)
        partners.append(level.flip(1).flatten())
        start += height * width
    return torch.cat(partners)
