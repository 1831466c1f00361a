"""What the center detector says, that all of it can learn, and what only training computes."""

from typing import Any

import pytest
import torch

from mono3d.codec.center import NUM_KEYPOINTS
from mono3d.codec.heading import NUM_BINS
from mono3d.structures import Inputs
from tests.model.test_dense_detector import make_inputs
from tests.support.detectors import NUM_ATTRIBUTES, make_center_detector
from tests.support.frames import IMAGE_SIZE, NUM_CLASSES, make_center_codec

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bins": {"num_depth_bins": 4},
    "uncertainty": {"has_uncertainty": True},
    "all": {"num_depth_bins": 4, "has_uncertainty": True, "has_keypoints": True},
}


@pytest.mark.parametrize("image_size", [(64, 96), (70, 100)])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_cell_says_everything(options: dict[str, Any], image_size: tuple[int, int]) -> None:
    detector = make_center_detector(**options)
    inputs = make_inputs(image_size, frames=1, cameras=2)
    responses = detector(inputs).responses
    cells = len(make_center_codec().grid(inputs.images))
    widths = {
        "class_logits": NUM_CLASSES, "attribute": NUM_ATTRIBUTES, "offset": 2, "box_2d": 4,
        "log_dims": 3, "heading_bins": NUM_BINS, "heading_residuals": NUM_BINS, "velocity": 2,
    }  # fmt: skip
    if "has_keypoints" in options:
        widths |= {
            "keypoint_logits": NUM_KEYPOINTS,
            "keypoint_offsets": 2 * NUM_KEYPOINTS,
            "keypoint_rest": 2,
        }
    for name, width in widths.items():
        assert responses[name].shape == (2, cells, width), name
    for name in ("log_depth", "depth_m", "depth_slope"):
        assert responses[name].shape == (2, cells), name
    assert ("log_sigma" in responses) == ("has_uncertainty" in options)
    assert ("keypoint_logits" in responses) == ("has_keypoints" in options)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_gradient_reaches_every_parameter(options: dict[str, Any]) -> None:
    detector = make_center_detector(**options)
    responses = detector(make_inputs()).responses
    torch.stack([value.square().sum() for value in responses.values()]).sum().backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_keypoints_are_for_training_only_and_change_no_answer() -> None:
    """The same weights without the auxiliary tower give the same answers, to the last bit."""
    trained = make_center_detector(has_keypoints=True).eval()
    plain = make_center_detector().eval()
    weights = {k: v for k, v in trained.state_dict().items() if not k.startswith("keypoint")}
    plain.load_state_dict(weights)
    inputs = make_inputs()
    with_tower, without = trained(inputs).responses, plain(inputs).responses
    assert set(with_tower) == set(without)
    assert all(torch.equal(with_tower[name], without[name]) for name in without)


def test_features_are_what_is_declared() -> None:
    detector = make_center_detector()
    predictions = detector(make_inputs())
    assert list(predictions.features) == list(detector.features)
    assert detector.features["neck_4"] == (8, 4)
    for name, (channels, stride) in detector.features.items():
        height, width = IMAGE_SIZE[0] // stride, IMAGE_SIZE[1] // stride
        assert predictions.features[name].shape == (2, channels, height, width), name


def test_depth_scales_with_the_focal_length() -> None:
    detector = make_center_detector().eval()
    torch.nn.init.zeros_(detector.trunk.camera_embedding.weight)
    inputs = make_inputs()
    longer = inputs.projection.clone()
    longer[..., :2, :2] *= 2
    far = detector(
        Inputs(images=inputs.images, projection=longer, bev_from_cam=inputs.bev_from_cam)
    )
    near = detector(inputs)
    torch.testing.assert_close(far.responses["depth_m"], 2 * near.responses["depth_m"])
