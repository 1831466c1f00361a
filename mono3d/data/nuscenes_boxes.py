"""Objects of a nuScenes index as boxes of a camera or of the bev frame."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from mono3d.data.nuscenes_annotations import boxes_in_camera
from mono3d.data.nuscenes_index import NuScenesIndex
from mono3d.structures import Boxes3D

_CAMERA_GROUND = slice(0, 3, 2)
_BEV_GROUND = slice(0, 2)


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
        self, rows: Int64[np.ndarray, " n"], global_from_cam: Float64[np.ndarray, "4 4"]
    ) -> Boxes3D:
        """Boxes in the frame of a camera at a pose."""
        centers, yaw = boxes_in_camera(
            self.index.centers[rows], self.index.forward[rows], global_from_cam
        )
        velocity = _turned(self.index.velocity[rows], global_from_cam)[:, _CAMERA_GROUND]
        return self._boxes(rows, centers, torch.from_numpy(yaw), velocity)

    def in_bev(
        self, rows: Int64[np.ndarray, " n"], global_from_bev: Float64[np.ndarray, "4 4"]
    ) -> Boxes3D:
        """Boxes in the bev frame at a pose."""
        centers = (self.index.centers[rows] - global_from_bev[:3, 3]) @ global_from_bev[:3, :3]
        forward = torch.from_numpy(_turned(self.index.forward[rows], global_from_bev))
        yaw = torch.atan2(forward[:, 1], forward[:, 0])
        velocity = _turned(self.index.velocity[rows], global_from_bev)[:, _BEV_GROUND]
        return self._boxes(rows, centers.astype(np.float32), yaw, velocity)

    def _boxes(
        self,
        rows: Int64[np.ndarray, " n"],
        centers: Float32[np.ndarray, "n 3"],
        yaw: Float[Tensor, " n"],
        velocity: Float32[np.ndarray, "n 2"],
    ) -> Boxes3D:
        index = self.index
        return Boxes3D(
            centers=torch.from_numpy(centers),
            dims_hwl=torch.from_numpy(index.dims_hwl[rows]),
            yaw=yaw,
            labels=torch.from_numpy(self.label_of[index.categories[rows]]),
            velocity=torch.from_numpy(velocity),
            attributes=torch.from_numpy(index.attributes[rows].astype(np.int64)),
            object_ids=torch.from_numpy(index.object_ids[rows].astype(np.int64)),
            num_points=torch.from_numpy(index.num_points[rows].astype(np.int64)),
            visibility=torch.from_numpy(index.visibility[rows]),
            valid=torch.from_numpy(np.ones(len(rows), dtype=bool)),
        )


def _turned(
    vectors: Float32[np.ndarray, "n 3"], pose: Float64[np.ndarray, "4 4"]
) -> Float32[np.ndarray, "n 3"]:
    """Global vectors as the pose's frame has them."""
    turned: np.ndarray = vectors @ pose[:3, :3].astype(np.float32)
    return turned
