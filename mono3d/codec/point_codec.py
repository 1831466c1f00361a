"""What detectors share that answer at points of a feature grid: the code of boxes at points.

Encoding and decoding share one table of points, one depth codec and one heading code, so
`decode(encode(x)) == x` up to rounding. A family adds which points learn an object.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from mono3d.codec.depth import LogDepthCodec
from mono3d.codec.heading import HeadingCode
from mono3d.codec.image_objects import target_objects
from mono3d.codec.map_layout import RAY_DEPTHS, MapLayout, image_layout
from mono3d.codec.mirror import mean_with_mirrored
from mono3d.codec.points import PointGrid, level_size, make_points
from mono3d.geometry.angles import alpha_from_yaw, yaw_from_alpha
from mono3d.geometry.camera import MIN_DEPTH_M, focal_px, is_in_image, project, unproject
from mono3d.structures import Batch, Boxes3D, Inputs, Positives, to_device

MAX_LOG_DIMS = 3.0
"""Bound on |ln(size / mean size)|: an untrained network must not overflow."""
_LEAST_CONFIDENCE = 1e-4
"""However unsure a network is: its class probabilities still order the scores."""
_BOX_RESPONSES = ("offset", "depth_m", "log_dims", "velocity", "attribute")


@dataclass(frozen=True, kw_only=True)
class BoxTargets:
    """What each positive should say; n images (frames x cameras), p padded positives."""

    labels: Int64[Tensor, "n p"]
    offset: Float[Tensor, "n p 2"]
    """From the point to the projected 3D centre, in strides."""
    depth_m: Float[Tensor, "n p"]
    log_depth: Float[Tensor, "n p"]
    """In the depth codec's normalised coordinate."""
    log_dims: Float[Tensor, "n p 3"]
    """ln(size / mean size of the class), height, width, length."""
    alpha: Float[Tensor, "n p"]
    """Observation angle."""
    velocity: Float[Tensor, "n p 2"]
    velocity_known: Bool[Tensor, "n p"]
    attributes: Int64[Tensor, "n p"]
    attribute_known: Bool[Tensor, "n p"]
    object_ids: Int64[Tensor, "n p"]
    """Slot of the object in its image: unique there."""
    weight: Float[Tensor, "n p"]
    """Of `Positives`."""
    index: Int64[Tensor, "n p"]
    valid: Bool[Tensor, "n p"]


def gather_points(values: Tensor, index: Int64[Tensor, "n p"]) -> Tensor:
    """Rows [n, p, ...] of a per-point tensor [n, points, ...]."""
    shape = (*index.shape, *values.shape[2:])
    expanded = index.reshape(*index.shape, *([1] * (values.dim() - 2))).expand(shape)
    return values.gather(1, expanded)


@dataclass(frozen=True, kw_only=True)
class PositionConfidence:
    """How likely a box lies within the distances at which a benchmark counts it.

    Depth is off by a share of itself, so a far box is seldom within 2 m however sure its class is;
    scores that leave this out rank it before near ones. Source: ours.
    """

    tolerances_m: tuple[float, ...]
    """Distances, such as nuScenes' 0.5, 1, 2 and 4 m; each counts alike."""
    relative_error: float
    """Scale of the Laplace law of depth, as a share of it, for a detector that predicts none."""

    def __call__(
        self, depth_m: Float[Tensor, "*n"], relative_error: Float[Tensor, "*n"] | None
    ) -> Float[Tensor, "*n"]:
        """Mean over the tolerances of the probability of a smaller error."""
        scale_m = depth_m * (self.relative_error if relative_error is None else relative_error)
        within = [1 - torch.exp(-tolerance / scale_m) for tolerance in self.tolerances_m]
        return torch.stack(within).mean(0).clamp(min=_LEAST_CONFIDENCE)


@dataclass(frozen=True, kw_only=True)
class _Constants:
    """What encoding and decoding look up, on one device."""

    mean_dims: Float[Tensor, "classes 3"]
    stand_in: Float[Tensor, " 3"]
    """Centre of padded positives: any place before the camera."""


class PointCodec(ABC):
    """Encode and decode images of any size, for one set of strides and one class list."""

    def __init__(
        self,
        *,
        strides: tuple[int, ...],
        depth: LogDepthCodec,
        heading: HeadingCode,
        mean_dims_hwl: Float[Tensor, "classes 3"],
        min_points: int = 1,
        position: PositionConfidence | None = None,
    ) -> None:
        """Keep the settings.

        Args:
            strides: Of the levels, finest first, pixels.
            depth: The depth code.
            heading: The heading code.
            mean_dims_hwl: Mean size of each class, metres.
            min_points: Objects known to hold fewer LiDAR points are not learnt.
            position: What scores say of a box's position; None leaves that out.
        """
        self.strides = strides
        self.depth = depth
        self.heading = heading
        self._min_points = min_points
        self._position = position
        constants = _Constants(mean_dims=mean_dims_hwl, stand_in=torch.tensor([0.0, 0.0, 10.0]))
        self._constants = {torch.device("cpu"): constants}

    @abstractmethod
    def positives(
        self, boxes: Boxes3D, projection: Float[Tensor, "*n 3 4"], image_size: tuple[int, int]
    ) -> Positives:
        """Where images teach their objects; fields have shape [*n p].

        Args:
            boxes: Leading shape [*n k].
            projection: Of each image's camera.
            image_size: Height and width of all images.
        """

    @abstractmethod
    def read_points(
        self, boxes: Boxes3D, projection: Float[Tensor, "*n 3 4"], image_size: tuple[int, int]
    ) -> Positives:
        """What evaluation has in place of positives, for `depth_at_centers`."""

    @property
    def in_bev(self) -> bool:
        """Boxes are decoded image by image."""
        return False

    @property
    def depth_stride(self) -> int:
        """That of the finest level."""
        return self.strides[0]

    def encode(
        self,
        boxes_cam: Boxes3D,
        boxes_bev: Boxes3D,
        projection: Float[Tensor, "b v 3 4"],
        image_size: tuple[int, int],
    ) -> Positives:
        """Positives of each camera; see `DetectorCodec`."""
        return self.positives(boxes_cam, projection, image_size)

    def encode_to_read(
        self,
        boxes_cam: Boxes3D,
        boxes_bev: Boxes3D,
        projection: Float[Tensor, "b v 3 4"],
        image_size: tuple[int, int],
    ) -> Positives:
        """`read_points` of each camera; see `DetectorCodec`."""
        return self.read_points(boxes_cam, projection, image_size)

    def _on(self, device: torch.device) -> _Constants:
        """The constants on a device, copied there once: a copy makes the host wait."""
        if device not in self._constants:
            self._constants[device] = to_device(self._constants[torch.device("cpu")], device)
        return self._constants[device]

    def grid(self, images: Tensor) -> PointGrid:
        """Points of images [..., h, w], on their device."""
        return make_points((images.shape[-2], images.shape[-1]), self.strides, images.device)

    def is_learnt(self, boxes: Boxes3D) -> Bool[Tensor, "*n k"]:
        """Which objects are in front of the camera and not known to be unseen."""
        seen = (boxes.num_points < 0) | (boxes.num_points >= self._min_points)
        return boxes.valid & seen & (boxes.centers[..., 2] > MIN_DEPTH_M)

    def targets(self, batch: Batch) -> BoxTargets:
        """Regression targets at the positives of a batch, on the batch's device."""
        positives = batch.positives
        index = positives.index.flatten(0, 1)
        slot = positives.slot.flatten(0, 1)
        projection = batch.projection.flatten(0, 1)[:, None]
        constants = self._on(index.device)

        def at_slot(values: Tensor) -> Tensor:
            return gather_points(values.flatten(0, 1), slot)

        boxes = batch.boxes_cam
        centers, labels = at_slot(boxes.centers), at_slot(boxes.labels)
        valid = positives.valid.flatten(0, 1)
        centers = torch.where(valid[..., None], centers, constants.stand_in)
        alpha = alpha_from_yaw(at_slot(boxes.yaw), centers)
        velocity, attributes = at_slot(boxes.velocity), at_slot(boxes.attributes)
        dims = at_slot(boxes.dims_hwl).clamp(min=1e-2)
        grid = self.grid(batch.images)
        points_px, strides = grid.centers_px[index], grid.strides_px[index]
        depth_m = centers[..., 2]
        return BoxTargets(
            labels=labels,
            offset=(project(centers, projection) - points_px) / strides[..., None],
            depth_m=depth_m,
            log_depth=self.depth.encode(depth_m, focal_px(projection)),
            log_dims=(dims / constants.mean_dims[labels]).log(),
            alpha=alpha,
            velocity=velocity.nan_to_num(0.0),
            velocity_known=valid & velocity.isfinite().all(-1),
            attributes=attributes.clamp(min=0),
            attribute_known=valid & (attributes >= 0),
            object_ids=slot,
            weight=positives.weight.flatten(0, 1),
            index=index,
            valid=valid,
        )

    def decode(
        self, responses: Mapping[str, Tensor], inputs: Inputs, *, top_k: int
    ) -> tuple[Boxes3D, Float[Tensor, "n k"]]:
        """The top_k boxes of each image in its camera frame and their scores, best first.

        A point speaks for a class only where none of its eight neighbours scores higher: all
        points near a centre say the same object, at depths too different for their boxes to
        overlap in bird's-eye view, so suppression by overlap alone would keep them. The rule is
        CenterNet's (arXiv:1904.07850), section 4; FCOS3D has none.

        The score is class probability, times centerness where a family has it, times the mean of
        the two largest bin probabilities where depth bins exist, times `PositionConfidence` or,
        without it, exp(-sigma) where Laplace uncertainty exists.
        """
        confidence = point_confidence(responses, self.depth, self._position)
        scores = responses["class_logits"].float().sigmoid() * confidence[..., None]
        num_classes = scores.shape[-1]
        scores = self._peaks(scores, inputs.images)
        best, flat = scores.flatten(1).topk(min(top_k, scores[0].numel()))
        index, labels = flat // num_classes, flat % num_classes
        return self.boxes_at(responses, inputs, index=index, labels=labels), best

    def _peaks(
        self, scores: Float[Tensor, "n points classes"], images: Tensor
    ) -> Float[Tensor, "n points classes"]:
        """Scores that no neighbour on the level exceeds; 0 elsewhere."""
        sizes = [level_size((images.shape[-2], images.shape[-1]), s) for s in self.strides]
        levels = scores.split([height * width for height, width in sizes], dim=1)
        return torch.cat([level_peaks(*pair) for pair in zip(levels, sizes, strict=True)], dim=1)

    def depth_at_centers(
        self, responses: Mapping[str, Tensor], batch: Batch
    ) -> Float[Tensor, "n k"]:
        """Depth that the network says at each labelled object's projected centre, metres.

        Read at the most central of the object's `read_points`; NaN where there is none (objects
        without LiDAR points), and where the centre is not in the image: families differ in how far
        outside they place a point, and must be measured on the same objects.
        """
        positives = batch.positives
        weight, slot = positives.weight.flatten(0, 1), positives.slot.flatten(0, 1)
        said = gather_points(responses["depth_m"], positives.index.flatten(0, 1)).float()
        slots = torch.arange(batch.boxes_cam.yaw.shape[-1], device=slot.device)
        learns = torch.where(slot[:, None] == slots[:, None], weight[:, None], 0.0)
        best, most_central = learns.max(-1)
        centers_px = project(batch.boxes_cam.centers, batch.projection[..., None, :, :])
        image_size = (batch.images.shape[-2], batch.images.shape[-1])
        is_read = (best > 0) & is_in_image(centers_px, image_size).flatten(0, 1)
        return torch.where(is_read, said.gather(1, most_central), torch.nan)

    def depth_maps_m(
        self, responses: Mapping[str, Tensor], inputs: Inputs
    ) -> Float[Tensor, "n hf wf"] | None:
        """Of a detector with a depth map."""
        if "depth_map" not in responses:
            return None
        focal = focal_px(inputs.projection.flatten(0, 1))[:, None, None]
        return self.depth.decode(responses["depth_map"].float(), focal)

    def depth_of_cells(
        self, responses: Mapping[str, Tensor], image_size: tuple[int, int], stride: int
    ) -> Float[Tensor, "n cells"]:
        """Depth in metres that a network says at the cells of a map of any stride, row after row.

        Read from the level of the nearest stride, between its points where it is another one.
        """
        sizes = [level_size(image_size, own) for own in self.strides]
        counts = [height * width for height, width in sizes]
        levels: tuple[Tensor, ...] = responses["depth_m"].split(counts, dim=1)
        nearest = min(
            range(len(sizes)),
            key=lambda i: max(stride, self.strides[i]) / min(stride, self.strides[i]),
        )
        if self.strides[nearest] == stride:
            return levels[nearest]
        found: Tensor = F.interpolate(
            levels[nearest].unflatten(1, sizes[nearest])[:, None],
            size=level_size(image_size, stride),
            mode="bilinear",
            align_corners=False,
        )
        return found.flatten(1)

    def layout(
        self,
        name: str,
        stride: int,
        batch: Batch,
        responses: Mapping[str, Tensor],
        *,
        by_rays: bool,
    ) -> MapLayout:
        """Of any map of its images; see `DetectorCodec`."""
        image_size = (batch.images.shape[-2], batch.images.shape[-1])
        depth_m = None if by_rays else self.depth_of_cells(responses, image_size, stride)
        return image_layout(
            target_objects(batch, self.is_learnt),
            image_size=image_size,
            stride=stride,
            # It says where cells are; it is not a way to learn depth.
            depth_m=None if depth_m is None else depth_m.detach().float(),
            projection=batch.projection.flatten(0, 1),
        )

    def places_per_cell(self, name: str, *, by_rays: bool) -> int:
        """One at the depth that is said, or several along the ray."""
        return RAY_DEPTHS if by_rays else 1

    def mean_with_mirrored(
        self,
        said: Mapping[str, Tensor],
        mirrored: Mapping[str, Tensor],
        image_size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """One answer from the one about images and the one about `mirror_inputs`."""
        return mean_with_mirrored(
            said, mirrored, strides=self.strides, image_size=image_size, heading=self.heading
        )

    def boxes_at(
        self,
        responses: Mapping[str, Tensor],
        inputs: Inputs,
        *,
        index: Int64[Tensor, "n k"],
        labels: Int64[Tensor, "n k"],
    ) -> Boxes3D:
        """Decode the responses at given points as boxes of given classes."""
        names = (*_BOX_RESPONSES, *self.heading.channels)
        said = {name: gather_points(responses[name], index).float() for name in names}
        return self.boxes_said(said, inputs, index=index, labels=labels)

    def boxes_of(self, targets: BoxTargets, batch: Batch) -> Boxes3D:
        """What decoding makes of the targets [n, p] themselves: the boxes that they came from."""
        focal = focal_px(batch.projection.flatten(0, 1))[:, None]
        said = {
            "offset": targets.offset,
            "depth_m": self.depth.decode(targets.log_depth, focal),
            "log_dims": targets.log_dims,
            "velocity": targets.velocity,
            "attribute": F.one_hot(targets.attributes),
            **self.heading.encode(targets.alpha),
        }
        return self.boxes_said(said, batch, index=targets.index, labels=targets.labels)

    def boxes_said(
        self,
        said: Mapping[str, Tensor],
        inputs: Inputs,
        *,
        index: Int64[Tensor, "n k"],
        labels: Int64[Tensor, "n k"],
    ) -> Boxes3D:
        """Decode the responses [n, k, ...] of given points, already gathered, as boxes.

        Differentiable but for the choice of a direction or a bin of the heading.
        """
        constants = self._on(index.device)
        grid = self.grid(inputs.images)
        points_px, strides = grid.centers_px[index], grid.strides_px[index]
        projection = inputs.projection.flatten(0, 1)[:, None]
        centers_px = points_px + said["offset"] * strides[..., None]
        centers = unproject(centers_px, said["depth_m"], projection.expand(*index.shape, 3, 4))
        alpha = self.heading.decode(said)
        log_dims = said["log_dims"].clamp(-MAX_LOG_DIMS, MAX_LOG_DIMS)
        return Boxes3D(
            centers=centers,
            dims_hwl=log_dims.exp() * constants.mean_dims[labels],
            yaw=yaw_from_alpha(alpha, centers),
            labels=labels,
            velocity=said["velocity"],
            attributes=said["attribute"].argmax(-1),
            object_ids=index,
            num_points=torch.full_like(index, -1),
            visibility=torch.full_like(centers_px[..., 0], torch.nan),
            valid=torch.ones_like(index, dtype=torch.bool),
        )


def level_peaks(
    scores: Float[Tensor, "n points classes"], size: tuple[int, int]
) -> Float[Tensor, "n points classes"]:
    """Scores of a map that none of their eight neighbours exceeds; 0 elsewhere."""
    grid = scores.transpose(1, 2).unflatten(2, size)
    highest = F.max_pool2d(grid, 3, stride=1, padding=1)
    return torch.where(grid == highest, grid, 0.0).flatten(2).transpose(1, 2)


def point_confidence(
    responses: Mapping[str, Tensor], depth: LogDepthCodec, position: PositionConfidence | None
) -> Float[Tensor, "n points"]:
    """How far a point's box can be trusted, whatever its class."""
    confidence = torch.ones_like(responses["class_logits"][..., 0], dtype=torch.float32)
    if "centerness_logits" in responses:
        confidence = responses["centerness_logits"].float().sigmoid()
    if "depth_bins" in responses:
        confidence = confidence * responses["depth_bins"].float().softmax(-1).topk(2).values.mean(
            -1
        )
    sigma = responses["log_sigma"].float().exp() if "log_sigma" in responses else None
    if position is not None:
        scale = None if sigma is None else sigma * (depth.std_log / math.sqrt(2))
        confidence = confidence * position(responses["depth_m"].float(), scale)
    elif sigma is not None:
        confidence = confidence * torch.exp(-sigma).clamp(min=_LEAST_CONFIDENCE)
    return confidence
