"""What bird's-eye-view detectors share: boxes of the bev frame at the cells of a grid.

Encoding and decoding share one grid and one set of mean sizes. A family adds which of its places
learn an object, and how boxes are said there.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from mono3d.codec.bev_grid import BevGrid
from mono3d.codec.depth import DepthBins
from mono3d.codec.image_objects import target_objects
from mono3d.codec.map_layout import RAY_DEPTHS, MapLayout, grid_layout, image_layout
from mono3d.codec.point_codec import gather_points
from mono3d.codec.points import level_size
from mono3d.geometry.camera import MIN_DEPTH_M, is_in_image, project
from mono3d.structures import Batch, Boxes3D, Inputs, Positives, to_device

LIFTED, BEV = "bev_lifted", "bev"
"""Names of the feature maps on the grid: as it comes in, and as the heads read it."""
VISUAL, RESIDUAL = "bev_visual", "bev_residual"
"""The two streams of which the first is made, in a detector that has both."""
ASSISTANT = "assistant_voxels"
"""All heights of cells, lifted by true depth, where that is there and an assistant made of it."""
PILLARS = "pillars"
"""What a LiDAR network begins with: zero where no point is."""
GRID_MAPS = (LIFTED, BEV, VISUAL, RESIDUAL, ASSISTANT, PILLARS)


@dataclass(frozen=True, kw_only=True)
class ImageDepth:
    """What a detector says of depth at the cells of an image's feature map."""

    stride: int
    bins: DepthBins


@dataclass(frozen=True, kw_only=True)
class BevTargets:
    """The objects that places learn; b frames, p padded positives."""

    boxes: Boxes3D
    """[b p], in the bev frame; `valid` is that of the positives."""
    index: Int64[Tensor, "b p"]


class BevCodec(ABC):
    """Encode and decode frames of any number of cameras, for one grid and one class list."""

    def __init__(
        self,
        *,
        grid: BevGrid,
        mean_dims_hwl: Float[Tensor, "classes 3"],
        ground_height_m: float,
        max_positives: int,
        min_points: int = 1,
        image_depth: ImageDepth | None = None,
    ) -> None:
        """Keep the settings.

        Args:
            grid: On which boxes are said.
            mean_dims_hwl: Mean size of each class, metres.
            ground_height_m: Of the ground in the bev frame, on which boxes are expected.
            max_positives: Places of one frame that learn an object at most.
            min_points: Objects known to hold fewer LiDAR points are not learnt.
            image_depth: How depth is said, by a detector that reads images.
        """
        self.grid = grid
        self.image_depth = image_depth
        self._ground_m = ground_height_m
        self._max_positives = max_positives
        self._min_points = min_points
        self._mean_dims = {torch.device("cpu"): mean_dims_hwl}

    @abstractmethod
    def positives(self, boxes: Boxes3D) -> Positives:
        """Where frames teach their objects; fields have shape [b p], `slot` counts in `boxes`.

        Args:
            boxes: Of the bev frame [b k], `valid` where they are to be learnt.
        """

    @abstractmethod
    def decode(
        self, responses: Mapping[str, Tensor], inputs: Inputs, *, top_k: int
    ) -> tuple[Boxes3D, Float[Tensor, "b k"]]:
        """The top_k boxes of each frame in its bev frame and their scores, best first."""

    @property
    def in_bev(self) -> bool:
        """Boxes are decoded frame by frame."""
        return True

    @property
    def depth_stride(self) -> int:
        """That of the image features; 1 if no image is read."""
        return 1 if self.image_depth is None else self.image_depth.stride

    def encode(
        self,
        boxes_cam: Boxes3D,
        boxes_bev: Boxes3D,
        projection: Float[Tensor, "b v 3 4"],
        image_size: tuple[int, int],
    ) -> Positives:
        """Positives of a batch's labels: of the objects that a camera sees and the grid holds."""
        seen = is_seen(boxes_cam, boxes_bev)
        return self.positives(_with_valid(boxes_bev, seen & self.is_learnt_bev(boxes_bev)))

    def encode_to_read(
        self,
        boxes_cam: Boxes3D,
        boxes_bev: Boxes3D,
        projection: Float[Tensor, "b v 3 4"],
        image_size: tuple[int, int],
    ) -> Positives:
        """Nothing: evaluation reads depth where objects are in images."""
        frames = len(boxes_bev.valid)
        nothing = torch.zeros(frames, 0, dtype=torch.int64)
        return Positives(
            index=nothing,
            slot=nothing,
            weight=torch.zeros(frames, 0),
            box_px=torch.zeros(frames, 0, 4),
            valid=torch.zeros(frames, 0, dtype=torch.bool),
        )

    def mean_dims(self, device: torch.device) -> Float[Tensor, "classes 3"]:
        """Mean sizes on a device, copied there once: a copy makes the host wait."""
        if device not in self._mean_dims:
            self._mean_dims[device] = to_device(self._mean_dims[torch.device("cpu")], device)
        return self._mean_dims[device]

    def is_learnt(self, boxes: Boxes3D) -> Bool[Tensor, "*n"]:
        """Which objects of a camera's frame are before it and not known to be unseen."""
        return self._has_points(boxes) & (boxes.centers[..., 2] > MIN_DEPTH_M)

    def is_learnt_bev(self, boxes: Boxes3D) -> Bool[Tensor, "*n"]:
        """Which objects of the bev frame are on the grid and not known to be unseen."""
        _, inside = self.grid.nearest_cells(boxes.centers[..., :2])
        return self._has_points(boxes) & inside

    def _has_points(self, boxes: Boxes3D) -> Bool[Tensor, "*n"]:
        known = (boxes.num_points < 0) | (boxes.num_points >= self._min_points)
        return boxes.valid & known

    def targets(self, batch: Batch) -> BevTargets:
        """What the positives of a batch learn, on the batch's device."""
        positives, own = batch.positives, batch.boxes_bev

        def at_slot(values: Tensor) -> Tensor:
            return gather_points(values, positives.slot)

        dims = at_slot(own.dims_hwl).clamp(min=1e-2)
        return BevTargets(
            boxes=Boxes3D(
                centers=at_slot(own.centers),
                dims_hwl=dims,
                yaw=at_slot(own.yaw),
                labels=at_slot(own.labels),
                velocity=at_slot(own.velocity),
                attributes=at_slot(own.attributes),
                object_ids=positives.slot,
                num_points=at_slot(own.num_points),
                visibility=at_slot(own.visibility),
                valid=positives.valid,
            ),
            index=positives.index,
        )

    def depth_at_centers(
        self, responses: Mapping[str, Tensor], batch: Batch
    ) -> Float[Tensor, "n k"]:
        """Depth that the network says at each labelled object's projected centre, metres.

        It is the mean of the distribution at that cell of the image, of what is seen there: the
        side of the object that faces the camera where LiDAR taught it. NaN where the centre is not
        in the image, for objects that are not learnt, and where nothing is said of depth.
        """
        boxes = batch.boxes_cam
        shape = (boxes.valid.shape[0] * boxes.valid.shape[1], boxes.valid.shape[2])
        if self.image_depth is None:
            return torch.full(shape, torch.nan, device=boxes.valid.device)
        image_size = (batch.images.shape[-2], batch.images.shape[-1])
        stride = self.image_depth.stride
        height, width = level_size(image_size, stride)
        pixels = project(boxes.centers, batch.projection[..., None, :, :])
        column, row = ((pixels - stride // 2) / stride).round().long().unbind(-1)
        cells = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        said = responses["depth_m"].float().gather(1, cells.flatten(0, 1))
        is_read = is_in_image(pixels, image_size) & self.is_learnt(boxes)
        return torch.where(is_read.flatten(0, 1), said, torch.nan)

    def depth_maps_m(
        self, responses: Mapping[str, Tensor], inputs: Inputs
    ) -> Float[Tensor, "n hf wf"] | None:
        """Mean of the distribution at each cell, of a detector that reads images."""
        if self.image_depth is None:
            return None
        image_size = (inputs.images.shape[-2], inputs.images.shape[-1])
        size = level_size(image_size, self.image_depth.stride)
        maps_m: Tensor = responses["depth_m"].float().unflatten(1, size)
        return maps_m

    def layout(
        self,
        name: str,
        stride: int,
        batch: Batch,
        responses: Mapping[str, Tensor],
        *,
        by_rays: bool,
    ) -> MapLayout:
        """Of a map on the grid, or of its images; see `DetectorCodec`."""
        if name in GRID_MAPS:
            boxes = batch.boxes_bev
            seen = is_seen(batch.boxes_cam, boxes)
            return grid_layout(self.grid, _with_valid(boxes, seen & self.is_learnt_bev(boxes)))
        image_size = (batch.images.shape[-2], batch.images.shape[-1])
        depth_m = None
        if not by_rays:
            maps = self.depth_maps_m(responses, batch)
            assert maps is not None  # who has maps of images says their depth
            size = level_size(image_size, stride)
            depth_m = F.interpolate(maps.detach()[:, None], size=size, mode="bilinear").flatten(1)
        return image_layout(
            target_objects(batch, self.is_learnt),
            image_size=image_size,
            stride=stride,
            depth_m=depth_m,
            projection=batch.projection.flatten(0, 1),
        )

    def places_per_cell(self, name: str, *, by_rays: bool) -> int:
        """On the grid a cell is where it is."""
        return RAY_DEPTHS if by_rays and name not in GRID_MAPS else 1

    def mean_with_mirrored(
        self,
        said: Mapping[str, Tensor],
        mirrored: Mapping[str, Tensor],
        image_size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """Refused when a run's config is checked."""
        raise NotImplementedError("answers on a grid are not averaged with mirrored ones")


def is_seen(boxes_cam: Boxes3D, boxes_bev: Boxes3D) -> Bool[Tensor, "b k"]:
    """Which objects of a moment [b k] are in the image of one of its cameras [b v k]."""
    ids, in_view = boxes_cam.object_ids.flatten(1), boxes_cam.valid.flatten(1)
    is_same = boxes_bev.object_ids[:, :, None] == ids[:, None]
    return boxes_bev.valid & (is_same & in_view[:, None]).any(-1)


def _with_valid(boxes: Boxes3D, valid: Bool[Tensor, "b k"]) -> Boxes3D:
    return Boxes3D(**{**vars(boxes), "valid": valid})
