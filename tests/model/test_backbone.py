from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

from mono3d.codec.points import level_size
from mono3d.model.backbone import (
    Backbone,
    ImageNormalisation,
    build_from_config,
    build_pretrained,
    build_resnet,
)

TINY: dict[str, dict[str, Any]] = {
    "convnextv2": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    "dinov2": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "swin": {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]},
}


@pytest.mark.parametrize(
    ("depth", "channels"),
    [(18, (16, 32, 64, 128)), (34, (16, 32, 64, 128)), (50, (64, 128, 256, 512))],
)
def test_resnet_of_any_depth_and_width(depth: int, channels: tuple[int, ...]) -> None:
    backbone = build_resnet(depth, 16)
    assert backbone.channels == channels
    assert backbone.strides == (4, 8, 16, 32)
    maps = backbone(torch.zeros(1, 3, 70, 100))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (channels[0], 18, 25), (channels[1], 9, 13), (channels[2], 5, 7), (channels[3], 3, 4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "channels", "strides"),
    [
        ("convnextv2", (8, 16, 24, 32), (4, 8, 16, 32)),
        ("dinov2", (16,), (14,)),
        ("swin", (8, 16, 32, 64), (4, 8, 16, 32)),
    ],
)
def test_any_transformers_backbone(
    model_type: str, channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    backbone = build_from_config(model_type, TINY[model_type])
    assert backbone.channels == channels
    assert backbone.strides == strides
    maps = backbone(torch.zeros(2, 3, 64, 100))
    assert [m.shape[:2] for m in maps] == [(2, c) for c in channels]


def test_weights_that_nothing_depends_on_are_frozen() -> None:
    backbone = build_from_config("dinov2", TINY["dinov2"])
    backbone.freeze_unused(lambda maps: maps)
    frozen = [name for name, p in backbone.named_parameters() if not p.requires_grad]
    assert frozen == ["network.embeddings.mask_token"]


def test_the_norm_of_a_map_that_is_not_read_is_frozen() -> None:
    backbone = build_from_config("convnextv2", TINY["convnextv2"])
    backbone.freeze_unused(lambda maps: maps[1:])
    frozen = [name for name, p in backbone.named_parameters() if not p.requires_grad]
    assert frozen == [f"network.hidden_states_norms.stage1.{name}" for name in ("weight", "bias")]


def test_building_leaves_no_trace() -> None:
    backbone = build_resnet(18, 16)
    backbone.freeze_unused(lambda maps: maps)
    assert backbone.training
    assert all(p.grad is None and p.requires_grad for p in backbone.parameters())
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.num_batches_tracked == 0 and norm.training for norm in norms)


@pytest.mark.parametrize(
    ("model_type", "options", "message"),
    [
        ("no-such-type", {}, "no-such-type"),
        ("bert", {}, "BertConfig is not a backbone's config"),
        ("dinov2", {"hiden_size": 16}, "Dinov2Config has no option 'hiden_size'"),
    ],
)
def test_refuses_unknown_types_and_options(
    model_type: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_from_config(model_type, options)


@pytest.fixture
def resnet_config() -> ResNetConfig:
    return ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic"
    )


@pytest.mark.parametrize("model_class", [ResNetModel, ResNetForImageClassification])
def test_pretrained_weights_come_from_a_local_folder(
    model_class: type[ResNetModel], resnet_config: ResNetConfig, tmp_path: Path
) -> None:
    saved = model_class(resnet_config)
    saved.save_pretrained(tmp_path)
    backbone = build_pretrained(str(tmp_path))
    assert backbone.channels == (8, 16, 24, 32)
    originals = {name.removeprefix("resnet."): value for name, value in saved.state_dict().items()}
    loaded = backbone.network.state_dict()
    assert len(loaded) > 50
    assert all(torch.equal(value, originals[name]) for name, value in loaded.items())


def camera_channels(backbone: Backbone, size: tuple[int, int], *, seed: int) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        stride: torch.randn(2, 2, *level_size(size, stride), generator=generator)
        for stride in backbone.camera_strides
    }


def test_camera_channels_of_pretrained_weights_start_without_influence_and_learn(
    resnet_config: ResNetConfig, tmp_path: Path
) -> None:
    ResNetModel(resnet_config).save_pretrained(tmp_path)
    plain = build_pretrained(str(tmp_path)).eval()
    told = build_pretrained(str(tmp_path), camera_channels=2).train()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = told(images, camera_channels(told, (64, 64), seed=0))
    for said, wanted in zip(maps, plain(images), strict=True):
        torch.testing.assert_close(said, wanted)
    torch.stack([features.square().sum() for features in maps]).sum().backward()
    assert len(told.camera_embeddings) == 5  # the stem's, and one for each stage
    gradients = [parameter.grad for parameter in told.camera_embeddings.parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("model_type", ["resnet", *TINY])
def test_every_map_hears_of_the_camera(model_type: str) -> None:
    """Also of an image whose sides no stride divides."""
    if model_type == "resnet":
        backbone = build_resnet(18, 16, stages=3, camera_channels=2)
    else:
        backbone = build_from_config(model_type, TINY[model_type], camera_channels=2)
    backbone.freeze_unused(lambda maps: maps)
    assert all(p.requires_grad for p in backbone.camera_embeddings.parameters())
    backbone.eval()
    size = (66, 99) if model_type == "resnet" else (64, 112)
    if model_type == "dinov2":
        size = (56, 112)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    one, other = (backbone(images, camera_channels(backbone, size, seed=s)) for s in (0, 1))
    assert [m.shape[1] for m in one] == list(backbone.channels)
    assert all((a - b).abs().amax() > 0 for a, b in zip(one, other, strict=True))


def test_pretrained_batch_norms_stay_frozen_and_their_weights_learn(
    resnet_config: ResNetConfig, tmp_path: Path
) -> None:
    ResNetModel(resnet_config).save_pretrained(tmp_path)
    backbone = build_pretrained(str(tmp_path)).train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    images = 3 + torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.stack([m.sum() for m in backbone(images)]).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())
    assert backbone.training
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.weight.grad is not None for norm in norms)


def test_batch_norms_from_scratch_are_not_frozen() -> None:
    backbone = build_resnet(18, 16)
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    backbone(3 + torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert all(not torch.equal(value, before[name]) for name, value in backbone.named_buffers())


def test_a_folder_without_all_weights_is_refused(
    resnet_config: ResNetConfig, tmp_path: Path
) -> None:
    ResNetModel(resnet_config).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {name: value for name, value in load_file(path).items() if "stages.3" not in name}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"no weights for encoder\.stages\.3\."):
        build_pretrained(str(tmp_path))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=str(tmp_path)):
        build_pretrained(str(tmp_path))


def test_images_are_normalised_as_imagenet_weights_expect() -> None:
    images = torch.tensor([124, 116, 104], dtype=torch.uint8).view(1, 3, 1, 1)
    normalised = ImageNormalisation()(images)
    assert normalised.dtype == torch.float32
    expected = [
        (124 / 255 - 0.485) / 0.229,
        (116 / 255 - 0.456) / 0.224,
        (104 / 255 - 0.406) / 0.225,
    ]
    torch.testing.assert_close(normalised.flatten(), torch.tensor(expected))
    assert ImageNormalisation().state_dict() == {}


def test_stochastic_depth_is_off_in_eval_mode() -> None:
    backbone: Backbone = build_from_config(
        "convnextv2", {**TINY["convnextv2"], "drop_path_rate": 0.9}
    ).eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first, second = backbone(images), backbone(images)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
