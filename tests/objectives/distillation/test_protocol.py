import pytest
import torch
from torch import nn

from mono3d.errors import ConfigError
from mono3d.objectives.distillation.protocol import FrozenTeacher, require_features
from mono3d.structures import Inputs, Predictions


class Scale(nn.Module):
    """Answers the mean of the images, scaled; remembers in which mode it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))
        self.was_training = False

    def forward(self, inputs: Inputs) -> Predictions:
        self.was_training = self.training
        return Predictions(responses={"mean": self.factor * inputs.images.float().mean()})


def test_a_teacher_answers_in_eval_mode_without_gradient() -> None:
    network = Scale()
    teacher = FrozenTeacher(network).to("cpu")
    inputs = Inputs(
        images=torch.full((1, 1, 3, 2, 2), 3, dtype=torch.uint8),
        projection=torch.zeros(1, 1, 3, 4),
        bev_from_cam=torch.zeros(1, 1, 4, 4),
    )
    answer = teacher(inputs).responses["mean"]
    assert answer == 6.0
    assert not answer.requires_grad
    assert not network.factor.requires_grad
    assert not network.was_training


def test_a_teacher_is_no_module() -> None:
    """So no parameter list, no state_dict and no `train()` can reach it."""
    holder = nn.Module()
    setattr(holder, "teacher", FrozenTeacher(Scale()))  # noqa: B010
    assert list(holder.parameters()) == []
    assert holder.state_dict() == {}


def test_feature_maps_that_a_network_does_not_emit_are_refused() -> None:
    features = {"neck_8": (64, 8), "neck_16": (64, 16)}
    require_features(features, ["neck_16"])
    require_features(features, [])
    with pytest.raises(ConfigError, match=r"'bev': the network has only neck_8, neck_16$"):
        require_features(features, ["neck_8", "bev"])
    with pytest.raises(ConfigError, match=r"'bev': its teacher has only"):
        require_features(features, ["bev"], whose="its teacher")
