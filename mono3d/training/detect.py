"""From network input to detections: the part that evaluation and prediction share."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mono3d.codec.mirror import mirror_inputs
from mono3d.codec.point_codec import PointCodec
from mono3d.config.schema import EvaluationConfig
from mono3d.geometry.box_iou import footprints_cam
from mono3d.geometry.fast_iou import rotated_nms
from mono3d.structures import Boxes3D, Detections, Inputs, Predictions, to_device


@torch.no_grad()
def respond(
    config: EvaluationConfig,
    codec: PointCodec,
    network: nn.Module,
    weights: Mapping[str, Tensor] | None,
    inputs: Inputs,
) -> Mapping[str, Tensor]:
    """Responses to monocular frames (v = 1), averaged with those to their mirror images if wanted.

    Args:
        config: `flip` counts here.
        codec: The network's.
        network: In evaluation mode.
        weights: Used in place of the network's own.
        inputs: On the network's device.
    """
    said = _through(network, weights, inputs)
    if not config.flip:
        return said
    mirrored = _through(network, weights, mirror_inputs(inputs))
    image_size = (inputs.images.shape[-2], inputs.images.shape[-1])
    return codec.mean_with_mirrored(said, mirrored, image_size)


def _through(
    network: nn.Module, weights: Mapping[str, Tensor] | None, inputs: Inputs
) -> Mapping[str, Tensor]:
    said: Predictions
    if weights is None:
        said = network(inputs)
    else:
        said = functional_call(network, dict(weights), (inputs,))
    return said.responses


@torch.no_grad()
def detect(
    config: EvaluationConfig, codec: PointCodec, responses: Mapping[str, Tensor], inputs: Inputs
) -> list[Detections]:
    """Detections of each frame in its camera frame, best first, on the CPU."""
    boxes, scores = to_device(codec.decode(responses, inputs, top_k=config.top_k), "cpu")
    return [
        suppress(
            boxes.select(torch.tensor(number)),
            scores[number],
            min_score=config.min_score,
            max_iou=config.nms_iou,
        )
        for number in range(len(scores))
    ]


def suppress(boxes: Boxes3D, scores: Tensor, *, min_score: float, max_iou: float) -> Detections:
    """Detections above a score, without those that overlap a better one on the ground."""
    kept = (scores >= min_score).nonzero()[:, 0]
    boxes, scores = boxes.select(kept), scores[kept]
    footprints, _ = footprints_cam(boxes.centers, boxes.dims_hwl, boxes.yaw)
    places, goodness = footprints.double().numpy(), scores.double().numpy()
    order = torch.from_numpy(rotated_nms(places, goodness, boxes.labels.numpy(), max_iou))
    return Detections(boxes=boxes.select(order), scores=scores[order])
