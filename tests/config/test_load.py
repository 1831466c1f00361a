"""Recipes and overrides: what is accepted, what is refused and in which words."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mono3d.config.data_sections import MergedData
from mono3d.config.load import (
    all_keys,
    apply_overrides,
    dump_yaml,
    fingerprint,
    flatten,
    load_recipe,
    parse,
    parse_override,
    recipe_names,
)
from mono3d.config.mining_sections import GmmMiningConfig, NoMining
from mono3d.config.model_sections import ResNetBackbone
from mono3d.config.schema import RunConfig
from mono3d.config.training_sections import AdamW, Sgd
from mono3d.errors import ConfigError

TREE = {"data": {"root": "folder"}}


def resolved(*overrides: str, tree: dict[str, Any] = TREE) -> RunConfig:
    return parse(apply_overrides(tree, map(parse_override, overrides)), source="test")


def refusal(*overrides: str, tree: dict[str, Any] = TREE) -> str:
    with pytest.raises(ConfigError) as caught:
        resolved(*overrides, tree=tree)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_shipped_recipe_resolves() -> None:
    assert "demo" in recipe_names()
    for name in recipe_names():
        config = load_recipe(name)
        assert config == parse(yaml.safe_load(dump_yaml(config)), source=name)


def test_a_recipe_is_a_name_or_a_path_and_says_only_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {root: here}\noptim: {lr: 3e-4}\nmodel: {backbone: {depth: 34}}\n")
    config = load_recipe(str(path), ["train.epochs=3", "model.backbone.width=32"])
    assert config.optim == AdamW(lr=3e-4)
    assert config.train.epochs == 3
    assert config.model.backbone == ResNetBackbone(depth=34, width=32)
    assert config.mining == NoMining()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "neither a file nor a shipped recipe"),
        ("- a\n- b\n", "must be a mapping of sections, is list"),
        ("", "must be a mapping of sections, is NoneType"),
        ("data: [", "not valid YAML"),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "odd.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(str(path))
    assert "odd.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optm.lr=1", "test: unknown key optm; did you mean optim?"),
        ("optim.learning_rat=1", "test: unknown key optim.learning_rat"),
        ("model.backbone.widht=8", "model.backbone.widht; did you mean model.backbone.width?"),
        ("mining.sharpness=2", "test: unknown key mining.sharpness where mining.kind=none"),
        ("train.epochs=many", "train.epochs='many': Input should be a valid integer"),
        ("train.epochs=2.5", "train.epochs=2.5: Input should be a valid integer"),
        ("train.epochs=0", "train.epochs=0: Input should be greater than or equal to 1"),
        ("model.backbone.depth=19", "model.backbone.depth=19: Input should be 18, 34, 50 or 101"),
        ("mining.kind=best", "test: mining.kind=best: must be one of 'none', 'gmm', 'ohem'"),
        ("seed=4294967296", "seed=4294967296: Input should be less than 4294967296"),
        ("model.num_depth_bins=1", "model.num_depth_bins=1: must be 0"),
        ("loss.depth_loss=laplace", "loss.depth_loss=laplace needs model.has_uncertainty=true"),
        ("model.has_uncertainty=true", "model.has_uncertainty=true needs loss.depth_loss=laplace"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(override: str, message: str) -> None:
    assert message in refusal(override)


MERGED = {
    "data": {
        "kind": "merged",
        "class_names": ["vehicle", "person"],
        "sets": {
            "kitti": {"kind": "kitti", "root": "k", "label_map": {"Car": "vehicle"}, "share": 1},
            "raw": {
                "kind": "nuscenes", "root": "n", "val_split": None, "has_labels": False, "share": 2,
            },
        },
    },
    "checkpoint": {"metric": "val/centers_depth_abs_rel", "mode": "min"},
}  # fmt: skip


def test_merged_data_name_their_sets() -> None:
    config = resolved("data.sets.raw.root=elsewhere", "model.ground.height_m=0", tree=MERGED)
    assert isinstance(config.data, MergedData)
    kitti, raw = config.data.sets["kitti"], config.data.sets["raw"]
    assert (kitti.ground_height_m, raw.ground_height_m) == (-1.73, 0.0)
    assert raw.root == "elsewhere"
    assert flatten(config)["data.sets.kitti.label_map.Car"] == "vehicle"
    assert parse(yaml.safe_load(dump_yaml(config)), source="again") == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.sets.kitti.rot=x", "unknown key data.sets.kitti.rot; did you mean data.sets.<name>"),
        ("data.sets.kitti.version=x", "kitti.version where data.sets.kitti.kind=kitti"),
        ("data.sets.kitti.class_names=[a]", "unknown key data.sets.kitti.class_names"),
        ("data.sets.kitti.kind=waymo", "data.sets.kitti.kind=waymo: must be one of 'nuscenes', 'k"),
        ("data.sets.kitti.share=0", "data.sets.kitti.share=0: Input should be greater than 0"),
        ("data.sets.raw.share=null", "data: share: give one to all sets, or to none"),
        ("data.sets.raw.val_split=all", "data.sets.raw: val_split=all: frames without labels cann"),
        ("data.sets.raw.train_split=null", "data.sets.raw: train_split and val_split are null"),
        ("data.sets.kitti.val_split=null", "data: val_split is null in all sets; one must name"),
        ("data.sets.more.root=x", "data.sets.more.kind: must be given"),
        ("data.sets.a-b={kind: kitti, root: x}", "data: sets.a-b: a name must be letters, digits"),
        ("data.sets={}", "data.sets={}: Dictionary should have at least 1 item"),
        ("data.class_names=[a, a]", "data.class_names: each name must be there once"),
        ("model.ground.height_m=-1.7", "model.ground.height_m=-1.7: is 0 in merged data"),
        ("checkpoint.metric=val/nuscenes_map", "with data.kind=merged and class vehicle, which"),
        ("checkpoint.metric=val/kitti/nuscenes_map", "is not measured with data.kind=merged and"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_merged_data_is_said_in_one_line(override: str, message: str) -> None:
    assert message in refusal(override, tree=MERGED)


def test_nuscenes_metrics_need_nuscenes_classes() -> None:
    own = ("data.class_names=[car, tram]", "data.label_map={bus: tram}")
    assert refusal(*own) == (
        "test: checkpoint.metric=val/nuscenes_map is not measured with data.kind=nuscenes and "
        "class tram, which nuScenes does not score; val/centers_depth_abs_rel with mode=min is"
    )
    resolved(*own, "checkpoint.metric=val/centers_depth_abs_rel")
    sets = "data.sets={n: {kind: nuscenes, root: a}, k: {kind: kitti, root: b}}"
    merged = (sets, "data.class_names=[car, truck]", "checkpoint.mode=max")
    resolved(*merged, "checkpoint.metric=val/n/nuscenes_map", tree=MERGED)
    named = ("data.sets={kitti_a: {kind: kitti, root: b}}", *merged[1:])
    for metric in ("val/kitti_a/kitti_3d_moderate", "val/kitti_a/centers_depth_abs_rel"):
        resolved(*named, f"checkpoint.metric={metric}", tree=MERGED)
    for metric in ("val/nuscenes_map", "val/k/nuscenes_map", "val/x/nuscenes_map"):
        assert metric in refusal(*merged, f"checkpoint.metric={metric}", tree=MERGED)


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"test: data\.root: Field required"):
        parse({"data": {}}, source="test")
    with pytest.raises(ConfigError, match="test: data: Field required"):
        parse({}, source="test")


@pytest.mark.parametrize("text", ["optim.lr", "=3", ""])
def test_overrides_have_a_path_and_a_value(text: str) -> None:
    with pytest.raises(ConfigError, match=r"must be PATH=VALUE, such as optim\.lr=3e-4"):
        parse_override(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=3e-4", 3e-4),
        ("a=-1E+2", -100.0),
        ("a=1.5e3", 1500.0),
        ("a=.5e1", 5.0),
        ("a=7", 7),
        ("a=true", True),
        ("a=null", None),
        ("a=[8, 16]", [8, 16]),
        ("a=e5", "e5"),
        ("a=s3://b/c=d", "s3://b/c=d"),
        ("a=", None),
    ],
)
def test_values_are_yaml(text: str, value: object) -> None:
    path, parsed = parse_override(text)
    assert path == "a"
    assert parsed == value
    assert type(parsed) is type(value)


def test_a_choice_keeps_its_default_kind() -> None:
    config = resolved("optim.lr=3e-4", "schedule.warmup_steps=7", "model.backbone.depth=50")
    assert config.optim == AdamW(lr=3e-4)
    assert config.schedule.kind == "cosine"
    assert config.model.backbone.kind == "resnet"


def test_another_kind_resets_its_section_and_the_same_kind_does_not() -> None:
    tree = {**TREE, "mining": {"kind": "gmm", "sharpness": 2.0, "floor": 0.1}}
    assert resolved("mining.kind=none", tree=tree).mining == NoMining()
    kept = resolved("mining.kind=gmm", "mining.floor=0.3", tree=tree).mining
    assert kept == GmmMiningConfig(sharpness=2.0, floor=0.3)
    assert tree["mining"] == {"kind": "gmm", "sharpness": 2.0, "floor": 0.1}


@pytest.mark.parametrize("reverse", [False, True])
def test_the_order_of_overrides_does_not_matter(reverse: bool) -> None:
    overrides = [
        "optim.kind=sgd", "optim.momentum=0.5", "model.backbone.kind=config",
        "model.kind=dense", "model.backbone.model_type=dinov2",
    ]  # fmt: skip
    config = resolved(*(reversed(overrides) if reverse else overrides))
    assert config.optim == Sgd(momentum=0.5)
    assert config.model.backbone.model_dump() == {
        "kind": "config", "model_type": "dinov2", "options": {},
    }  # fmt: skip


def test_a_value_has_no_keys() -> None:
    with pytest.raises(ConfigError, match=r"seed\.x=1: seed is a value, not a section"):
        resolved("seed=1", "seed.x=1")


def test_keys_of_all_kinds_are_known() -> None:
    keys = all_keys(RunConfig)
    assert {"optim.momentum", "optim.beta1", "mining.sharpness", "model.backbone.source"} <= keys


def test_flat_names_hold_the_whole_config() -> None:
    flat = flatten(resolved("optim.lr=3e-4", "data.class_names=[car]"))
    assert flat["optim.lr"] == "0.0003"
    assert flat["optim.kind"] == "adamw"
    assert flat["data.class_names"] == '["car"]'
    assert flat["train.threads_per_worker"] == "null"
    assert flat["data.mean_dims_hwl"] == "{}"
    assert all(isinstance(value, str) for value in flat.values())


def test_yaml_and_fingerprint_go_there_and_back(tmp_path: Path) -> None:
    config = resolved("mining.kind=gmm", "optim.lr=3e-4", "model.strides_px=[8, 16]", "seed=3")
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_yaml(config))
    again = load_recipe(str(path))
    assert again == config
    assert fingerprint(again) == fingerprint(config)
    assert len(fingerprint(config)) == 16
    assert fingerprint(load_recipe(str(path), ["seed=4"])) != fingerprint(config)
