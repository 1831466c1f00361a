"""The trained student as a module of tensors in and tensors out, for MLflow and other programs."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mono3d.codec.point_codec import PointCodec
from mono3d.config.schema import EvaluationConfig
from mono3d.structures import Inputs
from mono3d.training.detect import respond


class ExportedDetector(nn.Module):
    """Image and camera → the best boxes of each image, before suppression of overlaps."""

    def __init__(self, student: nn.Module, codec: PointCodec, settings: EvaluationConfig) -> None:
        """Wrap the student; shares its weights. It answers as it is evaluated: `flip`, `top_k`."""
        super().__init__()
        self.student = student
        self._codec = codec
        self._settings = settings

    def forward(
        self,
        image: UInt8[Tensor, "n 3 h w"],
        projection: Float[Tensor, "n 3 4"],
        bev_from_cam: Float[Tensor, "n 4 4"],
    ) -> dict[str, Tensor]:
        """Decode the top_k boxes of each image, best first.

        Args:
            image: RGB at the network's input size.
            projection: Camera coordinates to pixels of that image.
            bev_from_cam: Pose of the camera in the bev frame (x forward, y left, z up), read by
                networks that are told the ground plane.

        Returns:
            `boxes` [n, k, 7]: centre x, y, z (camera frame, metres), height, width, length
            (metres), yaw (rotation_y, radians); `velocity` [n, k, 2]: x and z, metres per second;
            `scores` [n, k]; `labels` and `attributes` [n, k].
        """
        inputs = Inputs(
            images=image[:, None],
            projection=projection[:, None],
            bev_from_cam=bev_from_cam[:, None],
        )
        responses = respond(self._settings, self._codec, self.student, None, inputs)
        boxes, scores = self._codec.decode(responses, inputs, top_k=self._settings.top_k)
        return {
            "boxes": torch.cat([boxes.centers, boxes.dims_hwl, boxes.yaw[..., None]], dim=-1),
            "velocity": boxes.velocity,
            "scores": scores,
            "labels": boxes.labels,
            "attributes": boxes.attributes,
        }
