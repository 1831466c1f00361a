"""Images and LiDAR sweeps of nuScenes, checked against what the tables say of them."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from mono3d.data.files import DataPath, read_points
from mono3d.data.images import as_one, channels_first, read_image
from mono3d.errors import DataError

_POINT_VALUES = 5
_FULL_INTENSITY = 255.0


def read_views(
    paths: Sequence[DataPath], sizes: Sequence[Sequence[int]]
) -> UInt8[Tensor, "v 3 h w"]:
    """Images of the cameras of one frame, RGB.

    Args:
        paths: One image a camera.
        sizes: Height and width that the calibration of each was made for.

    Raises:
        DataError: If an image is missing, broken or of another size.
    """
    images = [read_image(path) for path in paths]
    for path, image, size in zip(paths, images, sizes, strict=True):
        if image.shape[:2] != tuple(size):
            raise DataError(f"{path}: image has {image.shape[:2]} pixels, its table says {size}")
        if image.shape != images[0].shape:
            raise DataError(f"{path}: another size than {paths[0].name}; one frame has one size")
    return channels_first(as_one(images))


def read_sweep(path: DataPath, bev_from_lidar: Float64[np.ndarray, "4 4"]) -> Float[Tensor, "n 4"]:
    """A .pcd.bin sweep as x, y, z in the bev frame and intensity in [0, 1].

    Returns:
        A view of columns, one after the other: products with few rows read them that way fastest.

    Raises:
        DataError: If the file is missing, cut short, or holds numbers that are not finite.
    """
    points = read_points(path, _POINT_VALUES)
    columns = torch.from_numpy(np.ascontiguousarray(points[:, :4].T))
    pose = torch.from_numpy(bev_from_lidar).float()
    columns[:3] = torch.addmm(pose[:3, 3:], pose[:3, :3], columns[:3])
    columns[3] /= _FULL_INTENSITY
    return columns.T
