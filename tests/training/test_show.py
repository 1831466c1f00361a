"""What is drawn before training is what training would use."""

import pytest
import torch
from matplotlib.figure import Figure

from mono3d.errors import ConfigError
from mono3d.evaluation.target_figure import teaching_figure
from mono3d.structures import Boxes3D
from mono3d.training.assembly import build_loader
from mono3d.training.show import ShownFrame, show_frames
from tests.support.frames import IMAGE_SIZE, FramesInMemory
from tests.support.training import tiny_config

CENTER = {"kind": "center", "backbone": {"width": 16}, "channels": 8}
MODELS = {"dense": {}, "center": CENTER}


def shown(model: dict[str, object], *indices: int, **settings: int) -> list[ShownFrame]:
    config = tiny_config(model=model, input__flip_probability=1.0)
    return list(show_frames(config, FramesInMemory(4), indices, **settings))


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_decoded_targets_are_the_labels_of_the_augmented_frame(model: dict[str, object]) -> None:
    for item in shown(model, 0, 2):
        assert item.frame.boxes_cam is not None
        truth: Boxes3D = item.frame.boxes_cam[0].select(item.teaching.slot)
        decoded = item.teaching.decoded
        assert len(decoded) >= 2
        torch.testing.assert_close(decoded.centers, truth.centers, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(decoded.dims_hwl, truth.dims_hwl, rtol=1e-4, atol=1e-4)
        assert (decoded.yaw - truth.yaw).cos().min() > 0.9999


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_mined_weights_have_mean_one_and_differ(model: dict[str, object]) -> None:
    (item,) = shown(model, 1)
    weights = item.teaching.mined
    assert len(weights) == len(item.teaching.slot)
    assert weights.mean().item() == pytest.approx(1.0, abs=1e-5)
    assert weights.std() > 0


def test_frames_are_those_that_the_epoch_of_training_shows() -> None:
    config = tiny_config(train__batch_size=1, train__accumulate=1)
    dataset = FramesInMemory(4)
    for batch in build_loader(config, dataset, rank=0, world_size=1).epoch(1):
        index = dataset.frame_ids.index(batch.frame_ids[0])
        (item,) = show_frames(config, dataset, [index], epoch=1)
        assert torch.equal(item.frame.images, batch.images[0])


def test_a_heat_map_is_shown_where_one_is_learnt() -> None:
    (dense,), (center,) = shown(MODELS["dense"], 0), shown(CENTER, 0)
    assert dense.teaching.heat is None
    assert center.teaching.heat is not None
    assert center.teaching.heat.shape == (IMAGE_SIZE[0] // 4, IMAGE_SIZE[1] // 4)
    assert center.teaching.heat.max() == 1


def test_a_frame_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="frame 4: the split has frames 0 to 3"):
        shown(CENTER, 0, 4)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_figure_has_a_panel_for_each_part(model: dict[str, object]) -> None:
    (item,) = shown(model, 0)
    figure = teaching_figure(item.frame, item.teaching, ("car", "pedestrian"), "a test")
    assert isinstance(figure, Figure)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[0] == "frame-0000: 3 labelled objects"
    assert titles[1].startswith(f"{len(item.teaching.slot)} positives of 3 objects")
    assert titles[2:] == ["weight in the depth loss, by a test", "no LiDAR"]
