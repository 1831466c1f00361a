"""What the code of any detector's answers offers, whatever the places at which it answers."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from mono3d.codec.map_layout import MapLayout
from mono3d.structures import Batch, Boxes3D, Inputs, Positives


@runtime_checkable
class DetectorCodec(Protocol):
    """Labels to positives, responses to boxes."""

    @property
    def in_bev(self) -> bool:
        """Whether boxes are decoded for whole frames in the bev frame, not image by image."""
        ...

    @property
    def depth_stride(self) -> int:
        """Stride of the cells of an image whose depth is learnt from a map of true depth."""
        ...

    def encode(
        self,
        boxes_cam: Boxes3D,
        boxes_bev: Boxes3D,
        projection: Float[Tensor, "b v 3 4"],
        image_size: tuple[int, int],
    ) -> Positives:
        """Where frames teach their objects.

        Args:
            boxes_cam: Labels of each camera [b v k].
            boxes_bev: Labels of each moment [b k].
            projection: Of each camera.
            image_size: Height and width of all images.
        """
        ...

    def encode_to_read(
        self,
        boxes_cam: Boxes3D,
        boxes_bev: Boxes3D,
        projection: Float[Tensor, "b v 3 4"],
        image_size: tuple[int, int],
    ) -> Positives:
        """What evaluation has in place of positives, for `depth_at_centers`; else as `encode`."""
        ...

    def is_learnt(self, boxes: Boxes3D) -> Bool[Tensor, "*n"]:
        """Which objects of a camera's frame are learnt, if the image shows them."""
        ...

    def decode(
        self, responses: Mapping[str, Tensor], inputs: Inputs, *, top_k: int
    ) -> tuple[Boxes3D, Float[Tensor, "n k"]]:
        """The best boxes of each image in its camera's frame, or of each frame in its bev frame."""
        ...

    def depth_at_centers(
        self, responses: Mapping[str, Tensor], batch: Batch
    ) -> Float[Tensor, "n k"]:
        """Depth that is said at each labelled object's projected centre, metres, NaN if none is."""
        ...

    def depth_maps_m(
        self, responses: Mapping[str, Tensor], inputs: Inputs
    ) -> Float[Tensor, "n hf wf"] | None:
        """Depth that is said at each cell of `depth_stride`, metres, if it is."""
        ...

    def layout(
        self,
        name: str,
        stride: int,
        batch: Batch,
        responses: Mapping[str, Tensor],
        *,
        by_rays: bool,
    ) -> MapLayout:
        """Where the cells of one of the detector's feature maps are, and the objects in them.

        Args:
            name: Of the map.
            stride: That the detector declares.
            batch: With labels.
            responses: Of the detector, which say the depth of an image's cells.
            by_rays: Place these at fixed depths instead.
        """
        ...

    def places_per_cell(self, name: str, *, by_rays: bool) -> int:
        """How many places a cell of a map has in its layout."""
        ...

    def mean_with_mirrored(
        self,
        said: Mapping[str, Tensor],
        mirrored: Mapping[str, Tensor],
        image_size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """One answer from the one about images and the one about `mirror_inputs`."""
        ...
