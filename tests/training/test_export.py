"""The exported detector: tensors in, tensors out, any number of images."""

import jaxtyping
import pytest
import torch
from torch.export import Dim, export

from mono3d.training.export import ExportedDetector
from mono3d.training.model_assembly import build_codec, build_model
from tests.support.frames import IMAGE_SIZE, surround_frame
from tests.support.training import tiny_config

CENTER = {
    "kind": "center", "backbone": {"width": 16}, "channels": 8, "has_keypoints": True,
}  # fmt: skip
ON_GRID = {
    "kind": "bev", "backbone": {"width": 16}, "channels": 8, "lifted_channels": 8,
    "bev_channels": [8, 8], "bev_layers": 1, "depth_bins": {"count": 8},
    "grid": {"cell_m": 0.64, "num_heights": 2},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("head", ["anchors", "centers"])
def test_an_export_of_a_grid_takes_any_number_of_moments(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    config = tiny_config(model={**ON_GRID, "head": {"kind": head}}, evaluation__top_k=5)
    detector = ExportedDetector(build_model(config).eval(), build_codec(config), config.evaluation)
    moments = [surround_frame(seed, cameras=2) for seed in range(3)]
    inputs = (
        torch.stack([moment.images for moment in moments]),
        torch.stack([moment.projection for moment in moments]),
        torch.stack([moment.bev_from_cam for moment in moments]),
    )
    batch = Dim("batch")
    program = export(detector, tuple(t[:2] for t in inputs), dynamic_shapes=({0: batch},) * 3)
    for count in (1, 3):
        said = program.module()(*(t[:count] for t in inputs))
        wanted = detector(*(t[:count] for t in inputs))
        assert wanted["boxes"].shape == (count, 5, 7)
        for name, value in wanted.items():
            torch.testing.assert_close(said[name], value, msg=name, equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "flip"),
    [({}, False), ({"ground": {"height_m": 0.0}}, False), (CENTER, False), (CENTER, True)],
    ids=["dense", "ground", "center", "mirrored"],
)
def test_an_export_takes_any_number_of_images(
    model: dict[str, object], flip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Checked shapes are read, and what is read an export takes for fixed.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    config = tiny_config(model=model, evaluation__flip=flip, evaluation__top_k=5)
    detector = ExportedDetector(build_model(config).eval(), build_codec(config), config.evaluation)
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (3, 3, *IMAGE_SIZE), generator=random, dtype=torch.uint8)
    height, width = IMAGE_SIZE
    camera = torch.tensor([[80.0, 0, width / 2, 0], [0, 80.0, height / 2, 0], [0, 0, 1, 0]])
    projection = camera.expand(3, 3, 4).contiguous()
    pose = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
    inputs = (images, projection, pose.expand(3, 4, 4).contiguous())
    batch = Dim("batch")
    program = export(detector, tuple(t[:2] for t in inputs), dynamic_shapes=({0: batch},) * 3)
    for count in (1, 3):
        said = program.module()(*(t[:count] for t in inputs))
        wanted = detector(*(t[:count] for t in inputs))
        assert said.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(said[name], value, msg=name)
