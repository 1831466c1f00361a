"""The schema repeats names of lower layers, which it may not import; here they are compared."""

import pytest
from pydantic import ValidationError

from mono3d.codec.nuscenes_names import CAMERAS, DETECTION_CLASSES
from mono3d.config.data_sections import NUSCENES_CAMERAS, NUSCENES_CLASSES
from mono3d.config.mining_sections import GmmMiningConfig
from mono3d.config.model_sections import ResNetBackbone
from mono3d.config.schema import RunConfig
from mono3d.config.training_sections import LossConfig
from mono3d.objectives.weights import LossWeights


def test_names_are_those_of_the_codec() -> None:
    assert NUSCENES_CLASSES == DETECTION_CLASSES
    assert NUSCENES_CAMERAS == CAMERAS


def test_every_loss_factor_is_in_the_config() -> None:
    factors = LossConfig().model_dump(exclude={"depth_loss", "depth_gamma", "depth_foreground"})
    assert LossWeights(**factors) == LossWeights()


def test_a_run_is_frozen() -> None:
    config = RunConfig.model_validate({"data": {"root": "folder"}})
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3  # type: ignore[misc]


def test_docstrings_under_fields_become_descriptions() -> None:
    description = GmmMiningConfig.model_fields["sharpness"].description
    assert description is not None
    assert description.startswith("Depth error, in typical errors")


def test_a_resnet_too_narrow_for_onednn_is_refused() -> None:
    with pytest.raises(ValidationError, match="width"):
        ResNetBackbone(width=8)
    assert ResNetBackbone(width=16).width == 16
