"""Objects of a nuScenes index as boxes of a camera or of the bev frame."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from mono3d.data.nuscenes_annotations import boxes_in_camera
from mono3d.data.nuscenes_index import NuScenesIndex
from mono3d.geometry.camera import transform_points
from mono3d.structures import Boxes3D

_CAMERA_GROUND = [0, 2]
_BEV_GROUND = [0, 1]


@dataclass(frozen=True, kw_only=True)
class ObjectReader:
    """Boxes of chosen objects, with the run's labels."""

    index: NuScenesIndex
    label_of: Int64[np.ndarray, " categories"]
    """Label of each category in the run, -1 for those that are not learnt."""

    def rows(self, sample: int) -> Int64[np.ndarray, " n"]:
        """Rows in the index of the learnt objects of a sample."""
        owned = self.index.objects_of(sample)
        rows: np.ndarray = owned.start + np.flatnonzero(
            self.label_of[self.index.categories[owned]] >= 0
        )
        return rows

    def in_camera(
        self, rows: Int64[np.ndarray, " n"], cam_from_global: Float64[np.ndarray, "4 4"]
    ) -> Boxes3D:
        """Boxes in a camera frame."""
        centers, yaw = boxes_in_camera(
            self.index.centers[rows], self.index.forward[rows], cam_from_global
        )
        velocity = _rotate(self.index.velocity[rows], cam_from_global)[:, _CAMERA_GROUND]
        return self._boxes(rows, centers, yaw, velocity)

    def in_bev(
        self, rows: Int64[np.ndarray, " n"], bev_from_global: Float64[np.ndarray, "4 4"]
    ) -> Boxes3D:
        """Boxes in the bev frame."""
        transform = torch.from_numpy(bev_from_global)
        centers = transform_points(torch.from_numpy(self.index.centers[rows]), transform).float()
        forward = _rotate(self.index.forward[rows], bev_from_global)
        yaw = torch.atan2(forward[:, 1], forward[:, 0])
        velocity = _rotate(self.index.velocity[rows], bev_from_global)[:, _BEV_GROUND]
        return self._boxes(rows, centers, yaw, velocity)

    def _boxes(
        self,
        rows: Int64[np.ndarray, " n"],
        centers: Float[Tensor, "n 3"],
        yaw: Float[Tensor, " n"],
        velocity: Float[Tensor, "n 2"],
    ) -> Boxes3D:
        return Boxes3D(
            centers=centers,
            dims_hwl=torch.from_numpy(self.index.dims_hwl[rows]),
            yaw=yaw,
            labels=torch.from_numpy(self.label_of[self.index.categories[rows]]),
            velocity=velocity,
            attributes=torch.from_numpy(self.index.attributes[rows]).long(),
            object_ids=torch.from_numpy(self.index.object_ids[rows]).long(),
            num_points=torch.from_numpy(self.index.num_points[rows]).long(),
            visibility=torch.from_numpy(self.index.visibility[rows]),
            valid=torch.ones(len(rows), dtype=torch.bool),
        )


def _rotate(
    vectors: Float32[np.ndarray, "n 3"], transform: Float64[np.ndarray, "4 4"]
) -> Float[Tensor, "n 3"]:
    return torch.from_numpy(vectors @ transform[:3, :3].T.astype(np.float32))
