"""The trained student as a module of tensors in and tensors out, for MLflow and other programs."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mono3d.codec.detector_codec import DetectorCodec
from mono3d.config.training_sections import EvaluationConfig
from mono3d.structures import Inputs
from mono3d.training.detect import respond


class ExportedDetector(nn.Module):
    """Image and camera → the best boxes of each image, before suppression of overlaps.

    Of a detector that answers on a grid: the images and cameras of each moment → its best boxes.
    """

    def __init__(
        self, student: nn.Module, codec: DetectorCodec, settings: EvaluationConfig
    ) -> None:
        """Wrap the student; shares its weights. It answers as it is evaluated: `flip`, `top_k`."""
        super().__init__()
        self.student = student
        self._codec = codec
        self._settings = settings

    def forward(
        self,
        image: UInt8[Tensor, "n *v 3 h w"],
        projection: Float[Tensor, "n *v 3 4"],
        bev_from_cam: Float[Tensor, "n *v 4 4"],
    ) -> dict[str, Tensor]:
        """Decode the top_k boxes of each image or moment, best first.

        Args:
            image: RGB at the network's input size; with an axis for the cameras of a moment if the
                detector answers on a grid.
            projection: Camera coordinates to pixels of that image.
            bev_from_cam: Pose of the camera in the bev frame (x forward, y left, z up), read by
                networks that are told the ground plane, or answer on a grid.

        Returns:
            `boxes` [n, k, 7]: centre x, y, z (metres), height, width, length (metres), yaw
            (radians), in the camera frame (rotation_y), or in the bev frame if the detector answers
            on a grid; `velocity` [n, k, 2] along that frame's ground axes, metres per second;
            `scores` [n, k]; `labels` and `attributes` [n, k].
        """
        if not self._codec.in_bev:
            image, projection, bev_from_cam = (
                image[:, None],
                projection[:, None],
                bev_from_cam[:, None],
            )
        inputs = Inputs(images=image, projection=projection, bev_from_cam=bev_from_cam)
        responses = respond(self._settings, self._codec, self.student, None, inputs)
        boxes, scores = self._codec.decode(responses, inputs, top_k=self._settings.top_k)
        return {
            "boxes": torch.cat([boxes.centers, boxes.dims_hwl, boxes.yaw[..., None]], dim=-1),
            "velocity": boxes.velocity,
            "scores": scores,
            "labels": boxes.labels,
            "attributes": boxes.attributes,
        }
