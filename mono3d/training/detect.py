"""From network input to detections: the part that evaluation and prediction share."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mono3d.codec.detector_codec import DetectorCodec
from mono3d.codec.mirror import mirror_inputs
from mono3d.config.training_sections import EvaluationConfig
from mono3d.evaluation.views import in_camera
from mono3d.geometry.box_iou import footprints_bev, footprints_cam
from mono3d.geometry.fast_iou import rotated_nms
from mono3d.structures import Boxes3D, Detections, Inputs, Predictions, to_device

Place = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Centres, sizes and yaws of boxes → footprints and vertical spans."""


@torch.no_grad()
def respond(
    config: EvaluationConfig,
    codec: DetectorCodec,
    network: nn.Module,
    weights: Mapping[str, Tensor] | None,
    inputs: Inputs,
) -> Mapping[str, Tensor]:
    """Responses to frames, averaged with those to their mirror images if wanted.

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
    config: EvaluationConfig, codec: DetectorCodec, responses: Mapping[str, Tensor], inputs: Inputs
) -> list[Detections]:
    """Detections of each frame, best first, on the CPU.

    Of frames of one camera they are in its frame, of others in the bev frame.
    """
    boxes, scores = to_device(codec.decode(responses, inputs, top_k=config.top_k), "cpu")
    place = footprints_bev if codec.in_bev else footprints_cam
    found = [
        suppress(
            boxes.select(torch.tensor(number)),
            scores[number],
            min_score=config.min_score,
            max_iou=config.nms_iou,
            place=place,
        )
        for number in range(len(scores))
    ]
    if not codec.in_bev or inputs.images.shape[1] > 1:
        return found
    poses = inputs.bev_from_cam[:, 0].cpu()
    return [in_camera(own, pose) for own, pose in zip(found, poses, strict=True)]


def suppress(
    boxes: Boxes3D, scores: Tensor, *, min_score: float, max_iou: float, place: Place
) -> Detections:
    """Detections above a score, without those that overlap a better one on the ground.

    Args:
        boxes: Of one frame.
        scores: Of each.
        min_score: What is kept has at least so much.
        max_iou: Largest overlap of two boxes of a class.
        place: Footprints of boxes of their coordinate frame.
    """
    kept = (scores >= min_score).nonzero()[:, 0]
    boxes, scores = boxes.select(kept), scores[kept]
    footprints, _ = place(boxes.centers, boxes.dims_hwl, boxes.yaw)
    places, goodness = footprints.double().numpy(), scores.double().numpy()
    order = torch.from_numpy(rotated_nms(places, goodness, boxes.labels.numpy(), max_iou))
    return Detections(boxes=boxes.select(order), scores=scores[order])
