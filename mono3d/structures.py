"""What flows from file to loss and from network to metric. Everything here is frozen.

Axis names: b frames of a batch, v cameras of a frame, k padded object slots, p padded positives,
n a flat list, h w image rows and columns. Two coordinate frames exist below `data/`:

* **camera**: x right, y down, z forward, metres; yaw is KITTI's rotation_y: about y, 0 facing +x;
* **bev**: x forward, y left, z up, metres (nuScenes ego, KITTI velodyne); yaw about z, 0 facing +x.

A box's centre is its geometric centre in both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TypeVar, cast

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

LossTerms = Mapping[str, Tensor]
"""Name → weighted scalar; the step's loss is their sum."""

T = TypeVar("T")


def map_tensors(value: T, change: Callable[[Tensor], Tensor]) -> T:
    """The same structure with every tensor in it changed (dataclasses, mappings and tuples)."""
    if isinstance(value, Tensor):
        return cast("T", change(value))
    if is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: map_tensors(getattr(value, f.name), change) for f in fields(value)}
        return replace(value, **changed)
    if isinstance(value, Mapping):
        return cast("T", {key: map_tensors(item, change) for key, item in value.items()})
    if isinstance(value, tuple):
        return cast("T", tuple(map_tensors(item, change) for item in value))
    return value


def to_device(value: T, device: torch.device | str) -> T:
    """The same structure on another device; copies overlap with compute where memory is pinned."""
    return map_tensors(value, lambda tensor: tensor.to(device, non_blocking=True))


@dataclass(frozen=True, kw_only=True)
class Boxes3D:
    """Labelled or predicted boxes of one coordinate frame; any leading shape, padded slots allowed.

    `velocity` is metres per second along the frame's ground axes: (x, z) in the camera frame,
    (x, y) in the bev frame; NaN where the data set does not know it.
    """

    centers: Float[Tensor, "*n 3"]
    dims_hwl: Float[Tensor, "*n 3"]
    yaw: Float[Tensor, "*n"]
    labels: Int64[Tensor, "*n"]
    """Class index of the run's class list."""
    velocity: Float[Tensor, "*n 2"]
    attributes: Int64[Tensor, "*n"]
    """nuScenes attribute index, -1 where there is none."""
    object_ids: Int64[Tensor, "*n"]
    """Number of the object within its frame: the same object has the same id in every camera."""
    num_points: Int64[Tensor, "*n"]
    """LiDAR points inside the box, -1 where unknown."""
    visibility: Float[Tensor, "*n"]
    """Visible share of the object in [0, 1] (the middle of nuScenes' bins), NaN where unknown."""
    valid: Bool[Tensor, "*n"]
    """False in padded slots; every other field is zero there."""

    @staticmethod
    def empty() -> "Boxes3D":
        """No boxes."""
        integers = torch.zeros(0, dtype=torch.int64)
        floats = torch.zeros(0)
        return Boxes3D(
            centers=torch.zeros(0, 3),
            dims_hwl=torch.zeros(0, 3),
            yaw=floats,
            labels=integers,
            velocity=torch.zeros(0, 2),
            attributes=integers,
            object_ids=integers,
            num_points=integers,
            visibility=floats,
            valid=torch.zeros(0, dtype=torch.bool),
        )

    def __len__(self) -> int:
        return len(self.yaw)

    def select(self, index: Tensor | slice) -> "Boxes3D":
        """Boxes at an index, mask or slice along the first axis."""
        return map_tensors(self, lambda tensor: tensor[index])


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The v cameras of one moment, as a data set yields it; v = 1 for a monocular detector."""

    frame_id: str
    """Unique within its data set; names the frame in errors and results."""
    camera_names: tuple[str, ...]
    images: UInt8[Tensor, "v 3 h w"]
    """RGB."""
    projection: Float[Tensor, "v 3 4"]
    """Camera coordinates (homogeneous) to pixels of `images`; KITTI's P2 is not a plain K."""
    bev_from_cam: Float[Tensor, "v 4 4"]
    boxes_cam: tuple[Boxes3D, ...] | None
    """Per camera, in its frame: objects whose projection meets the image. None: not labelled."""
    boxes_bev: Boxes3D | None
    """All labelled objects of the moment in the bev frame. None: not labelled."""
    points: Float[Tensor, "n 4"] | None = None
    """LiDAR: x, y, z in the bev frame, and intensity in [0, 1]."""

    def __post_init__(self) -> None:
        """Labels come for all cameras or for none."""
        if (self.boxes_cam is None) != (self.boxes_bev is None):
            raise ValueError(f"frame {self.frame_id}: labelled in one coordinate frame only")
        if self.boxes_cam is not None and len(self.boxes_cam) != len(self.images):
            raise ValueError(
                f"frame {self.frame_id}: {len(self.images)} images but "
                f"{len(self.boxes_cam)} sets of boxes"
            )


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a network may read: no label is in it, so no model can look at its target."""

    images: UInt8[Tensor, "b v 3 h w"]
    projection: Float[Tensor, "b v 3 4"]
    bev_from_cam: Float[Tensor, "b v 4 4"]
    points: Float[Tensor, "n 4"] | None = None
    """All frames' LiDAR points, one after the other, each in its own bev frame."""
    point_offsets: Int64[Tensor, " b_plus_1"] | None = None
    """Frame i owns points[point_offsets[i] : point_offsets[i + 1]]."""
    depth_input: Float[Tensor, "b v 1 h w"] | None = None
    """True depth for teachers, metres, 0 where unknown; an input, never a target."""


@dataclass(frozen=True, kw_only=True)
class Positives:
    """Where on the feature grid objects are learnt, as padded indices: no masks in the step."""

    index: Int64[Tensor, "*n p"]
    """Cell or point on the flattened grid of one camera (all levels one after the other)."""
    slot: Int64[Tensor, "*n p"]
    """Slot of the object in `Batch.boxes_cam`."""
    weight: Float[Tensor, "*n p"]
    """Centerness in (0, 1]; 1 where a family has none."""
    box_px: Float[Tensor, "*n p 4"]
    """Left, top, right and bottom of the object in the image."""
    valid: Bool[Tensor, "*n p"]


@dataclass(frozen=True, kw_only=True)
class Batch(Inputs):
    """What any training step may need; an unlabelled frame has has_labels False and no boxes."""

    frame_ids: tuple[str, ...]
    has_labels: Bool[Tensor, " b"]
    boxes_cam: Boxes3D
    """Leading shape [b, v, k]."""
    boxes_bev: Boxes3D
    """Leading shape [b, k]."""
    positives: Positives
    depth_targets: Float[Tensor, "b v hf wf"] | None = None
    """LiDAR depth at the cells of the finest feature grid, metres, 0 where no point falls."""

    def pin_memory(self) -> "Batch":
        """In memory that a GPU copies from beside computing; `DataLoader` asks for it by name."""
        return map_tensors(self, Tensor.pin_memory)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a detector says: responses of its heads and feature maps, each by its declared name."""

    responses: Mapping[str, Tensor]
    features: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Decoded boxes of one image or one frame, best score first."""

    boxes: Boxes3D
    scores: Float[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, index: Tensor) -> "Detections":
        """Detections at an index or mask."""
        return Detections(boxes=self.boxes.select(index), scores=self.scores[index])


@dataclass(frozen=True, kw_only=True)
class DepthSamples:
    """Positive depth predictions of all ranks, at a fixed capacity; padded slots are not valid.

    A dense head yields one per point, a center head one per object. Detached, float32.
    """

    predicted_m: Float[Tensor, " n"]
    target_m: Float[Tensor, " n"]
    gradient: Float[Tensor, " n"]
    """|∂ℓ/∂x|: what the sample's depth loss puts on the raw network output."""
    object_ids: Int64[Tensor, " n"]
    """Equal for the samples of one object, different between objects of all ranks."""
    labels: Int64[Tensor, " n"]
    valid: Bool[Tensor, " n"]
