"""Lift: image features with a distribution over depth → features in space, in the bev frame.

Source: CaDDN (arXiv:2103.01100), section 3.2: the feature of a place is that of its pixel, times
the probability that the pixel's depth is the place's. `dense_lift` is its form: the outer product
of features and probabilities over the whole frustum, sampled at the voxels, C x D x h x w numbers
an image. `lean_lift` samples both at the voxels and multiplies there, C x Z x Y x X numbers at
most. The two are equal where voxels project onto middles of cells and bins, and close elsewhere:
a product of interpolated values is not the interpolated product.

Several cameras: what they say of a place adds up, as in LSS (arXiv:2008.05711). Each voxel asks two
cameras at most, those in whose image it is deepest inside; more never overlap on a vehicle.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from mono3d.codec.depth import DepthBins
from mono3d.geometry.camera import MIN_DEPTH_M

_VIEWS = 2
"""Cameras that a voxel asks at most."""
_OUTSIDE = -10.0
"""Where voxels are sent that a camera does not see, in cells: all reads there are 0."""


@dataclass(frozen=True, kw_only=True)
class Sights:
    """Where the cameras of a frame see the voxels; m voxels, s sights of each."""

    camera: Int64[Tensor, "b s m"]
    cells: Float[Tensor, "b s m 2"]
    """Column and row on a feature map of that camera; whole numbers are middles of cells."""
    bins: Float[Tensor, "b s m"]
    """Place among the depth bins; bin i has its middle at i."""


@torch.no_grad()
def find_sights(
    voxels: Float[Tensor, "m 3"],
    projection: Float[Tensor, "b v 3 4"],
    bev_from_cam: Float[Tensor, "b v 4 4"],
    *,
    stride: int,
    map_size: tuple[int, int],
    bins: DepthBins,
) -> Sights:
    """The cells and depth bins at which the best cameras see each voxel, in float32.

    Args:
        voxels: Middles in the bev frame, metres.
        projection: Of the cameras, to pixels of the image.
        bev_from_cam: Their poses.
        stride: Of the feature maps, pixels.
        map_size: Rows and columns of the feature maps.
        bins: Of depth.
    """
    # Autocast would take products to bfloat16, which misplaces voxels by up to a cell.
    with torch.autocast(voxels.device.type, enabled=False):
        cam_from_bev = torch.linalg.inv_ex(bev_from_cam)[0]  # `inv` would make the host wait
        places = voxels @ cam_from_bev[..., :3, :3].mT + cam_from_bev[..., None, :3, 3]
        uvw = places @ projection[..., :3].mT + projection[..., None, :, 3]
    depth_m = places[..., 2]
    pixels = uvw[..., :2] / uvw[..., 2:].clamp(min=MIN_DEPTH_M)
    cells = (pixels - stride // 2) / stride
    column, row = cells.unbind(-1)
    to_rims = [column, map_size[1] - 1 - column, row, map_size[0] - 1 - row]
    inside = torch.stack(to_rims).amin(0)
    # A little outside of the outermost middles there is still something to read.
    inside = torch.where((depth_m > MIN_DEPTH_M) & (inside > -1), inside, -torch.inf)
    found, camera = inside.topk(min(_VIEWS, inside.shape[1]), dim=1)

    def of_camera(values: Tensor) -> Tensor:
        index = camera.view(*camera.shape, *[1] * (values.dim() - 3))
        return values.gather(1, index.expand(*camera.shape, *values.shape[3:]))

    is_seen = found > -torch.inf
    return Sights(
        camera=camera,
        cells=torch.where(is_seen[..., None], of_camera(cells), _OUTSIDE),
        bins=torch.where(is_seen, of_camera(bins.place(depth_m) - 0.5), _OUTSIDE),
    )


def lean_lift(
    features: Float[Tensor, "b v c h w"], depth: Float[Tensor, "b v d h w"], sights: Sights
) -> Float[Tensor, "b c m"]:
    """Feature of each voxel; 0 where no camera sees it. Never holds c x d numbers of a pixel.

    Args:
        features: Of each camera.
        depth: Probability of each depth bin; need not add up to 1.
        sights: Of the voxels.
    """
    wide, deep = _side_by_side(features), _side_by_side(depth)[:, None]
    total = features.new_zeros(())
    for sight in range(sights.camera.shape[1]):
        u, v = sights.cells[:, sight].unbind(-1)
        u = u + sights.camera[:, sight] * (features.shape[-1] + 1)
        found = _sample(wide, torch.stack([u, v], dim=-1)[:, None])[:, :, 0]
        there = torch.stack([u, v, sights.bins[:, sight]], dim=-1)[:, None, None]
        total = total + found * _sample(deep, there)[:, :, 0, 0]
    return total


def dense_lift(
    features: Float[Tensor, "b v c h w"], depth: Float[Tensor, "b v d h w"], sights: Sights
) -> Float[Tensor, "b c m"]:
    """What `lean_lift` approximates; the reference of its test and of its benchmark."""
    total = features.new_zeros(())
    for camera in range(features.shape[1]):
        frustum = features[:, camera, :, None] * depth[:, camera, None]
        place = torch.cat([sights.cells, sights.bins[..., None]], dim=-1)
        found = _sample(frustum, place[:, None])[:, :, 0]
        is_this = (sights.camera == camera)[:, None]
        total = total + (found * is_this).sum(2)
    return total


def _side_by_side(maps: Float[Tensor, "b v c h w"]) -> Float[Tensor, "b c h wide"]:
    """Maps of all cameras in one, each with an empty column to its right."""
    padded = F.pad(maps.float(), (0, 1))
    return padded.permute(0, 2, 3, 1, 4).flatten(3)


def _sample(maps: Tensor, places: Tensor) -> Tensor:
    """Values of maps [b, c, (d,) h, w] between their cells; 0 outside.

    Args:
        maps: Float32.
        places: Column, row and depth of each place [b, ..., 2 or 3], in cells.
    """
    last = [max(side - 1, 1) for side in reversed(maps.shape[2:])]
    axes = zip(places.unbind(-1), last, strict=True)
    where = torch.stack([2 * place / side - 1 for place, side in axes], dim=-1)
    with torch.autocast(maps.device.type, enabled=False):
        return F.grid_sample(maps, where, align_corners=True)
