"""What the center detector says, that all of it can learn, and what only training computes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Module

from mono3d.codec.center import NUM_KEYPOINTS
from mono3d.codec.heading import NUM_BINS
from mono3d.structures import Inputs
from tests.model.test_dense_detector import make_inputs
from tests.support.detectors import NUM_ATTRIBUTES, make_center_detector, make_detector
from tests.support.frames import IMAGE_SIZE, NUM_CLASSES, make_center_codec

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bins": {"num_depth_bins": 4},
    "uncertainty": {"has_uncertainty": True},
    "all": {
        "num_depth_bins": 4, "has_uncertainty": True, "has_keypoints": True, "has_selection": True,
    },
}  # fmt: skip


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
    if "has_selection" in options:
        assert responses["selection_logits"].shape == (2, cells)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_gradient_reaches_every_parameter(options: dict[str, Any]) -> None:
    detector = make_center_detector(**options)
    responses = detector(make_inputs()).responses
    torch.stack([value.square().sum() for value in responses.values()]).sum().backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (make_center_detector, "keypoints"),
        (make_center_detector, "selection"),
        (make_detector, "selection"),
    ],
)
def test_parts_for_training_only_change_no_answer(make: Callable[..., Module], part: str) -> None:
    """The same weights without the auxiliary branch give the same answers, to the last bit."""
    trained, plain = make(**{f"has_{part}": True}).eval(), make().eval()
    auxiliary = ("keypoint_branches", "selection_branch")
    weights = {k: v for k, v in trained.state_dict().items() if not k.startswith(auxiliary)}
    assert len(weights) < len(trained.state_dict())
    plain.load_state_dict(weights)
    inputs = make_inputs()
    with_branch, without = trained(inputs).responses, plain(inputs).responses
    assert set(with_branch) == set(without)
    assert all(torch.equal(with_branch[name], without[name]) for name in without)


@pytest.mark.parametrize("make", [make_center_detector, make_detector])
def test_selection_leaves_all_other_first_weights_as_they_are(make: Callable[..., Module]) -> None:
    """Runs with and without it start alike at the same seed."""
    selecting, plain = make(has_selection=True).state_dict(), make().state_dict()
    assert all(torch.equal(selecting[name], value) for name, value in plain.items())


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
