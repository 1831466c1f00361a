"""Pinhole camera. Camera frame: x right, y down, z forward, metres; image: u right, v down, px.

Depth is the camera-frame z. A projection is a general 3x4 matrix whose last row is (0, 0, 1, t):
KITTI's P2 has t = 3 mm, so pixels are divided by z + t while z stays the depth; both directions
here use the whole matrix and are exact inverses of each other.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MIN_DEPTH_M = 0.1
BEV_FROM_LEVEL_CAM = (
    (0.0, 0.0, 1.0, 0.0), (-1.0, 0.0, 0.0, 0.0), (0.0, -1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0),
)  # fmt: skip
"""Pose of a level camera in a bev frame that starts where it is: ahead is z, left -x, up -y."""

_MIRROR_CAM = torch.tensor([-1.0, 1, 1, 1])
_MIRROR_BEV = torch.tensor([1.0, -1, 1, 1])


def project(
    points_cam: Float[Tensor, "*n 3"], projection: Float[Tensor, "*#n 3 4"]
) -> Float[Tensor, "*n 2"]:
    """Project points to pixels; the divisor is clamped to MIN_DEPTH_M, so nothing divides by 0."""
    uvw = _turned(points_cam, projection[..., :3]) + projection[..., 3]
    return uvw[..., :2] / uvw[..., 2:].clamp(min=MIN_DEPTH_M)


def is_in_image(pixels: Float[Tensor, "*n 2"], image_size: tuple[int, int]) -> Bool[Tensor, "*n"]:
    """Whether places lie within an image's outermost pixels, whose middles have whole numbers."""
    u, v = pixels.unbind(-1)
    height, width = image_size
    return (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)


def unproject(
    pixels: Float[Tensor, "*n 2"],
    depth_m: Float[Tensor, "*n"],
    projection: Float[Tensor, "*#n 3 4"],
) -> Float[Tensor, "*n 3"]:
    """The camera-frame point at a pixel and a depth z; exact for any affine camera matrix."""
    scale = depth_m * projection[..., 2, 2] + projection[..., 2, 3]
    right = pixels * scale[..., None] - projection[..., :2, 3]
    right = right - projection[..., :2, 2] * depth_m[..., None]
    # Two unknowns by Cramer's rule: a solver would make the host wait, and takes longer.
    (a, b), (c, d) = (row.unbind(-1) for row in projection[..., :2, :2].unbind(-2))
    u, v = right.unbind(-1)
    determinant = a * d - b * c
    x, y = (d * u - b * v) / determinant, (a * v - c * u) / determinant
    return torch.stack([x, y, depth_m.expand_as(x)], dim=-1)


def focal_px(projection: Float[Tensor, "*n 3 4"]) -> Float[Tensor, "*n"]:
    """Geometric mean of the two focal lengths: one number for how large a metre appears."""
    return (projection[..., 0, 0] * projection[..., 1, 1]).abs().sqrt()


def transform_points(
    points: Float[Tensor, "*n 3"], transform: Float[Tensor, "*#n 4 4"]
) -> Float[Tensor, "*n 3"]:
    """Points in another frame, by a rigid 4x4 transform."""
    return _turned(points, transform[..., :3, :3]) + transform[..., :3, 3]


def _turned(points: Float[Tensor, "*n 3"], matrix: Float[Tensor, "*#n 3 3"]) -> Tensor:
    if matrix.dim() == 2:  # one product for all points, not one for each
        return points @ matrix.mT
    return (matrix @ points[..., None])[..., 0]


def affine_projection(
    projection: Float[Tensor, "*n 3 4"], affine: Float[Tensor, "*#n 2 3"]
) -> Float[Tensor, "*n 3 4"]:
    """Projection to the pixels of an image that an affine map (resize, crop, flip) has changed."""
    linear, shift = affine[..., :, :2], affine[..., :, 2:]
    rows = linear @ projection[..., :2, :] + shift * projection[..., 2:, :]
    return torch.cat([rows, projection[..., 2:, :]], dim=-2)


def mirrored_camera(
    projection: Float[Tensor, "*n 3 4"], bev_from_cam: Float[Tensor, "*n 4 4"], width_px: int
) -> tuple[Float[Tensor, "*n 3 4"], Float[Tensor, "*n 4 4"]]:
    """Projection and pose of a camera in the mirrored world, where left and right are swapped.

    The world is mirrored with the image, so focal lengths stay positive and every box still
    projects onto its pixels.
    """
    x_cam, y_bev = _MIRROR_CAM.to(projection), _MIRROR_BEV.to(projection)
    mirrored = projection * x_cam
    u = (width_px - 1) * mirrored[..., 2:, :] - mirrored[..., :1, :]
    return torch.cat([u, mirrored[..., 1:, :]], dim=-2), y_bev[:, None] * bev_from_cam * x_cam
