"""What the dense detector says, and that everything in it can learn."""

import math
from typing import Any

import pytest
import torch

from mono3d.codec.depth import MAX_DEPTH_M, MIN_DEPTH_M
from mono3d.model.backbone import build_from_config
from mono3d.model.depth_head import DepthHead
from mono3d.structures import Inputs
from tests.support.detectors import NUM_ATTRIBUTES, make_detector
from tests.support.frames import IMAGE_SIZE, NUM_CLASSES, make_codec

TINY: dict[str, dict[str, Any]] = {
    "convnextv2": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    "dinov2": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "swin": {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]},
}
OPTIONS = {
    "plain": {},
    "bins": {"num_depth_bins": 4},
    "uncertainty": {"has_uncertainty": True},
    "both": {"num_depth_bins": 4, "has_uncertainty": True},
    "selection": {"has_selection": True},
}


def make_inputs(
    image_size: tuple[int, int] = IMAGE_SIZE, *, frames: int = 2, cameras: int = 1, seed: int = 0
) -> Inputs:
    random = torch.Generator().manual_seed(seed)
    focal = 60 + 60 * torch.rand(frames, cameras, generator=random)
    projection = torch.zeros(frames, cameras, 3, 4)
    projection[..., 0, 0], projection[..., 1, 1], projection[..., 2, 2] = focal, focal, 1
    projection[..., 0, 2], projection[..., 1, 2] = image_size[1] / 2, image_size[0] / 2
    shape = (frames, cameras, 3, *image_size)
    return Inputs(
        images=torch.randint(0, 256, shape, generator=random, dtype=torch.uint8),
        projection=projection,
        bev_from_cam=torch.eye(4).expand(frames, cameras, 4, 4),
    )


@pytest.mark.parametrize("image_size", [(64, 96), (70, 100)])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_point_says_everything(options: dict[str, Any], image_size: tuple[int, int]) -> None:
    detector = make_detector(**options)
    inputs = make_inputs(image_size, frames=1, cameras=2)
    responses = detector(inputs).responses
    points = len(make_codec().grid(inputs.images))
    widths = {
        "class_logits": NUM_CLASSES, "attribute": NUM_ATTRIBUTES, "offset": 2, "log_dims": 3,
        "axis": 2, "direction": 2, "velocity": 2,
    }  # fmt: skip
    for name, width in widths.items():
        assert responses[name].shape == (2, points, width), name
    for name in ("centerness_logits", "log_depth", "depth_m", "depth_slope"):
        assert responses[name].shape == (2, points), name
    assert ("log_sigma" in responses) == ("has_uncertainty" in options)
    assert ("selection_logits" in responses) == ("has_selection" in options)
    assert ("depth_bins" in responses) == ("num_depth_bins" in options)


@pytest.mark.parametrize("image_size", [(64, 96), (70, 100)])
def test_features_are_what_is_declared(image_size: tuple[int, int]) -> None:
    detector = make_detector(strides=(8, 16, 32, 64))
    predictions = detector(make_inputs(image_size))
    assert list(predictions.features) == list(detector.features)
    assert "backbone_32" in detector.features
    assert detector.features["neck_64"] == (8, 64)
    for name, (channels, stride) in detector.features.items():
        height, width = -(-image_size[0] // stride), -(-image_size[1] // stride)
        assert predictions.features[name].shape == (2, channels, height, width), name


@pytest.mark.parametrize("model_type", TINY)
def test_every_weight_of_any_backbone_that_learns_gets_a_gradient(model_type: str) -> None:
    detector = make_detector(backbone=build_from_config(model_type, TINY[model_type]))
    responses = detector(make_inputs()).responses
    torch.stack([value.square().sum() for value in responses.values()]).sum().backward()
    learning = {n: p.grad for n, p in detector.named_parameters() if p.requires_grad}
    assert len(learning) > 40
    assert [name for name, gradient in learning.items() if gradient is None] == []


def test_a_plain_transformer_carries_the_same_head() -> None:
    detector = make_detector(backbone=build_from_config("dinov2", TINY["dinov2"]))
    assert detector.features["backbone_14"] == (16, 14)
    inputs = make_inputs((64, 96))
    points = len(make_codec().grid(inputs.images))
    assert detector(inputs).responses["depth_m"].shape == (2, points)


@pytest.mark.parametrize("num_depth_bins", [0, 4])
def test_an_untrained_network_says_the_mean_depth_and_no_object(num_depth_bins: int) -> None:
    """The mean is exp(2.5) m at 80 px on the middle level; four bins of 10 m say 15 m there.

    Each of the two has half. A level of twice the stride starts at half the depth.
    """
    inputs = make_inputs()
    responses = make_detector(num_depth_bins=num_depth_bins)(inputs).responses
    focal = inputs.projection[:, 0, 0, 0, None]
    regressed_m = math.exp(2.5) * 16 / make_codec().grid(inputs.images).strides_px
    at_reference = (regressed_m + 15) / 2 if num_depth_bins else regressed_m
    relative = responses["depth_m"] / (at_reference * focal / 80) - 1
    assert relative.abs().mean() < 0.05
    probability = responses["class_logits"].sigmoid()
    assert probability.mean().item() == pytest.approx(0.01, rel=0.1)


def test_depth_scales_with_the_focal_length_through_the_whole_network() -> None:
    """Rays kept alike (cx moves with f), twice the focal length gives twice the depth."""
    detector = make_detector().eval()
    with torch.no_grad():
        detector.trunk.camera_embedding.weight.zero_()  # blind to the rays
    inputs = make_inputs()
    longer = Inputs(
        images=inputs.images,
        projection=inputs.projection * torch.tensor([2.0, 2.0, 1.0])[:, None],
        bev_from_cam=inputs.bev_from_cam,
    )
    near, far = detector(inputs).responses, detector(longer).responses
    torch.testing.assert_close(far["log_depth"], near["log_depth"])
    torch.testing.assert_close(far["depth_m"], 2 * near["depth_m"])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_gradient_reaches_every_parameter(options: dict[str, Any]) -> None:
    detector = make_detector(**options)
    responses = detector(make_inputs()).responses
    torch.stack([value.square().sum() for value in responses.values()]).sum().backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_depth_slope_is_the_derivative_by_the_regression_output(options: dict[str, Any]) -> None:
    detector = make_detector(**options).eval()
    if detector.depth_head.fusion_logit is not None:
        torch.nn.init.constant_(detector.depth_head.fusion_logit, 0.7)
    outputs: list[torch.Tensor] = []
    detector.box_branches.register_forward_hook(
        lambda _module, _inputs, said: outputs.append(said["log_depth"])
    )
    responses = detector(make_inputs(frames=1)).responses
    gradients = torch.autograd.grad(responses["log_depth"].sum(), outputs)
    found = torch.cat([gradient.flatten() for gradient in gradients])
    torch.testing.assert_close(responses["depth_slope"].flatten(), found, rtol=1e-4, atol=1e-5)


def test_eval_mode_is_deterministic_and_frames_do_not_mix() -> None:
    detector = make_detector().eval()
    inputs = make_inputs(frames=3)
    first, second = detector(inputs).responses, detector(inputs).responses
    assert all(torch.equal(first[name], second[name]) for name in first)
    alone = Inputs(
        images=inputs.images[1:2],
        projection=inputs.projection[1:2],
        bev_from_cam=inputs.bev_from_cam[1:2],
    )
    torch.testing.assert_close(detector(alone).responses["depth_m"], first["depth_m"][1:2])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_low_precision_gives_finite_responses(options: dict[str, Any]) -> None:
    detector = make_detector(**options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        responses = detector(make_inputs()).responses
    assert all(value.isfinite().all() for value in responses.values())
    assert responses["depth_m"].dtype == torch.float32
    assert responses["depth_m"].min() >= MIN_DEPTH_M
    assert responses["depth_m"].max() <= MAX_DEPTH_M


def test_depth_branches_exist_only_where_they_are_asked_for() -> None:
    depth = make_codec().depth
    assert DepthHead(depth).channels == {"log_depth": 1}
    both = DepthHead(depth, num_bins=6, has_uncertainty=True)
    assert both.channels == {"log_depth": 1, "depth_bins": 6, "log_sigma": 1}
