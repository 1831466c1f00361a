"""From settings to live parts: what a setting reaches, and what is refused in which words."""

from pathlib import Path

import pytest
import torch
from torch.optim import SGD, AdamW
from transformers import ResNetConfig, ResNetModel

from mono3d.errors import ConfigError
from mono3d.training.assembly import (
    build_loader,
    build_optimizer,
    build_plan,
    build_preparation,
    build_schedule,
    build_step_rule,
    build_train_module,
)
from mono3d.training.datasets import build_dataset
from mono3d.training.model_assembly import build_backbone, build_codec, build_model
from mono3d.training.muon import Muon
from tests.support.frames import IMAGE_SIZE, FramesInMemory
from tests.support.training import CENTER, tiny_config


def test_codec_and_model_share_points_and_depth_code() -> None:
    config = tiny_config(model__depth_code__reference_focal_px=80.0)
    codec, model = build_codec(config), build_model(config)
    batch = next(build_loader(config, FramesInMemory(8), rank=0, world_size=1).epoch(0))
    assert model(batch).responses["depth_m"].shape == (2, len(codec.grid(batch.images)))
    assert codec.depth.reference_focal_px == 80.0
    assert codec.depth == model.depth_head.codec


def test_classes_without_a_mean_size_are_named() -> None:
    own = {"data__class_names": ["car", "tram"], "checkpoint__metric": "val/centers_depth_abs_rel"}
    config = tiny_config(**own)
    with pytest.raises(ConfigError, match=r"^data\.mean_dims_hwl: .*\['tram'\]; add them there"):
        build_codec(config)
    sized = tiny_config(**own, data__mean_dims_hwl={"tram": [3, 2, 9]})
    assert build_codec(sized).strides == sized.model.strides_px


def test_classes_that_nuscenes_does_not_have_are_named() -> None:
    config = tiny_config(data__class_names=["Car"], checkpoint__metric="val/centers_depth_abs_rel")
    with pytest.raises(ConfigError, match="class 'Car' is not a nuScenes detection class"):
        build_dataset(config, "train")


def test_backbones_of_every_kind(tmp_path: Path) -> None:
    small = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
    ResNetModel(ResNetConfig(layer_type="basic", **small)).save_pretrained(tmp_path)
    kinds = [
        {"kind": "resnet", "depth": 34, "width": 16},
        {"kind": "config", "model_type": "dinov2", "options": {"num_hidden_layers": 1}},
        {"kind": "pretrained", "source": str(tmp_path)},
    ]
    last_channels = [
        build_backbone(tiny_config(model__backbone=kind).model.backbone).channels[-1]
        for kind in kinds
    ]
    assert last_channels == [128, 768, 16]


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ({"kind": "config", "model_type": "nosuch"}, "model.backbone.model_type=nosuch: "),
        ({"kind": "config", "model_type": "bert"}, "BertConfig is not a backbone's config"),
        ({"kind": "pretrained", "source": "/no/such/folder"}, "model.backbone.source=/no/such"),
    ],
)
def test_backbones_that_cannot_be_built_name_their_key(
    backbone: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build_backbone(tiny_config(model__backbone=backbone).model.backbone)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", [{}, CENTER], ids=["dense", "center"])
def test_learnt_selection_gives_the_detector_its_branch(family: dict[str, object]) -> None:
    assert build_model(tiny_config(mining__kind="gmm", **family)).selection_branch is None
    assert build_model(tiny_config(mining__kind="lss", **family)).selection_branch is not None


def test_optimisers_of_every_kind() -> None:
    module = build_train_module(tiny_config())
    adamw = build_optimizer(tiny_config(optim__beta1=0.8).optim, module)
    assert isinstance(adamw, AdamW)
    assert adamw.param_groups[0]["betas"] == (0.8, 0.999)
    sgd = build_optimizer(tiny_config(optim__kind="sgd", optim__momentum=0.5).optim, module)
    assert isinstance(sgd, SGD)
    assert sgd.param_groups[0]["momentum"] == 0.5
    muon = build_optimizer(tiny_config(optim__kind="muon", optim__momentum=0.8).optim, module)
    assert isinstance(muon, Muon)
    assert muon.param_groups[0]["momentum"] == 0.8
    learnt = sum(len(group["params"]) for group in muon.param_groups)
    assert learnt == sum(p.requires_grad for p in module.parameters())
    branches = module.student.get_submodule("class_branches.conv")
    assert all(branches.weight is not p for p in muon.param_groups[0]["params"])


def test_the_first_epochs_of_training_see_small_images() -> None:
    config = tiny_config(input__epoch_scales=[0.5])
    loader = build_loader(config, FramesInMemory(8), rank=0, world_size=1)
    height, width = IMAGE_SIZE
    first, second = next(loader.epoch(0)), next(loader.epoch(1))
    assert first.images.shape[-2:] == (height // 2, width // 2)
    assert second.images.shape[-2:] == (height, width)
    module = build_train_module(config)
    assert module.student(first).responses["depth_m"].isfinite().all()
    held_out = build_preparation(config, build_codec(config), training=False)
    assert held_out.in_epoch(0).image_size == IMAGE_SIZE


def test_schedules_are_in_steps() -> None:
    """10 steps an epoch: milestones at 1.5 and 2 epochs are steps 15 and 20."""
    dropping = tiny_config(
        schedule__kind="step", schedule__warmup_steps=0, schedule__milestone_epochs=[1.5, 2]
    ).schedule
    share = build_schedule(dropping, steps_per_epoch=10, epochs=3)
    assert [share(step) for step in (14, 15, 19, 20)] == pytest.approx([1, 0.1, 0.1, 0.01])
    cosine = tiny_config(schedule__warmup_steps=0, schedule__final_share=0.2).schedule
    assert build_schedule(cosine, steps_per_epoch=10, epochs=3)(30) == pytest.approx(0.2)


def test_the_rate_scales_with_the_frames_of_a_step() -> None:
    """2 frames, 2 micro-batches and 3 workers are 12 frames where the rate is meant for 16."""
    rule = build_step_rule(tiny_config(optim__lr=1e-3), batches_per_epoch=9, world_size=3)
    assert rule.effective_batch == 12
    assert rule.peak_lr == pytest.approx(1e-3 * 12 / 16)
    # Four steps of two batches in each of two epochs.
    assert rule.schedule(8) == pytest.approx(0.01)


def test_only_training_frames_are_augmented() -> None:
    config = tiny_config(input__flip_probability=0.25)
    codec = build_codec(config)
    training = build_preparation(config, codec, training=True).augmentation
    assert training is not None
    assert training.flip_probability == 0.25
    assert training.colour is not None
    assert build_preparation(config, codec, training=False).augmentation is None
    plain = tiny_config(input__brightness_jitter=0.0, input__contrast_jitter=0.0)
    without = build_preparation(plain, codec, training=True).augmentation
    assert without is not None
    assert without.colour is None


def test_an_epoch_too_short_for_a_step_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"an epoch has 8 frames, but one step of 3 workers .*12"):
        build_loader(tiny_config(), FramesInMemory(8), rank=0, world_size=3)


def test_rare_classes_are_balanced_when_asked_for() -> None:
    plain = build_loader(tiny_config(), FramesInMemory(8), rank=0, world_size=1)
    balanced = build_loader(
        tiny_config(input__class_balance_threshold=0.5), FramesInMemory(8), rank=0, world_size=1
    )
    drawn = [frame for batch in balanced.epoch(0) for frame in batch.frame_ids]
    assert sorted(drawn) == FramesInMemory(8).frame_ids  # all frames hold both classes
    assert [batch.frame_ids for batch in plain.epoch(0)] != [
        batch.frame_ids for batch in balanced.epoch(0)
    ]


def test_the_seed_fixes_the_weights() -> None:
    one, same = build_train_module(tiny_config()), build_train_module(tiny_config())
    other = build_train_module(tiny_config(seed=1))
    weights = [torch.cat([p.flatten() for p in m.parameters()]) for m in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_plan_is_the_config_s() -> None:
    plan = build_plan(tiny_config(checkpoint__every_steps=4, seed=3))
    assert plan.seed == 3
    assert plan.accumulate == 2
    assert [step for step in range(1, 10) if plan.saves_after(step)] == [4, 8]
    assert not build_plan(tiny_config()).saves_after(4)
