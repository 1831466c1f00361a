from dataclasses import replace

from pydantic import TypeAdapter

from mono3d.config.data_sections import DataConfig
from mono3d.config.load import load_recipe
from mono3d.tracking.mlflow_views import COMPARED_TAGS
from mono3d.training.run_description import RunOutcome, RunPlace, dataset_name, describe, run_tags
from tests.support.training import tiny_config

PLACE = RunPlace(
    recipe="demo",
    folder="s3://bucket/runs/first",
    splits={"train": "v1.0-synth/synth_train: 480 frames"},
    run_id="0123abcd",
)
OUTCOME = RunOutcome(
    checkpoint="s3://bucket/runs/first/checkpoints/step_7",
    step=7,
    metrics={"val/nuscenes_map": 0.31234, "val/centers_depth_abs_rel": 0.08, "val/other": 1.0},
    initial_metrics={"val/nuscenes_map": 0.0},
)


def test_tags_say_what_runs_are_told_apart_by() -> None:
    config = load_recipe("demo", ["iou_loss.kind=giou", "train.epochs=9"])
    tags = run_tags(config, "demo")
    assert len(tags.pop("mono3d.fingerprint")) == 16
    assert tags == {
        "recipe": "demo",
        "mining": "gmm",
        "distillation": "none",
        "detector": "dense",
        "dataset": "nuscenes v1.0-synth",
        "iou_loss": "giou",
    }
    assert set(tags) == set(COMPARED_TAGS)
    assert "recipe" not in run_tags(config)


def test_data_sets_are_named_by_version_or_split() -> None:
    assert dataset_name(load_recipe("kitti_gmm").data) == "kitti train"
    sets = {
        "a": {"kind": "nuscenes", "root": "x", "version": "v1.0-mini"},
        "b": {"kind": "kitti", "root": "y", "train_split": None, "val_split": "test"},
    }
    tree = {"kind": "merged", "class_names": ["car"], "sets": sets}
    merged = TypeAdapter[DataConfig](DataConfig).validate_python(tree)
    assert dataset_name(merged) == "nuscenes v1.0-mini + kitti test"


def test_a_description_at_the_start_says_what_the_run_is() -> None:
    config = load_recipe("demo", ["seed=3", "iou_loss.kind=giou"])
    lines = describe(config, PLACE).splitlines()
    assert lines[0] == (
        "Recipe `demo`: dense detector, mining gmm, IoU loss giou; nuscenes v1.0-synth."
    )
    (mining,) = [line for line in lines if line.startswith("- **mining:**")]
    assert mining.startswith("- **mining:** gmm (")
    assert f"sharpness {config.mining.model_dump()['sharpness']:g}" in mining
    assert "- **detector:** dense on resnet (depth 18, width 32, stages 3); images 240 x 96 px" in (
        lines
    )
    assert "- **train split:** v1.0-synth/synth_train: 480 frames" in lines
    assert (
        "- **training:** 5 epochs x 1760 frames, batch 16, muon with lr 0.0056, seed 3"
    ) in lines
    assert lines[-1] == "- **measure it again:** `mono3d evaluate 0123abcd`"


def test_a_description_at_the_end_says_how_good_the_run_is() -> None:
    lines = describe(load_recipe("demo"), PLACE, OUTCOME).splitlines()
    assert lines[0].startswith("Recipe `demo`")
    assert lines[2] == "**depth error 0.08, mAP 0.312** at step 7; untrained mAP 0."
    assert f"- **best checkpoint:** `{OUTCOME.checkpoint}`" in lines
    unmeasured = replace(OUTCOME, initial_metrics={})
    assert describe(load_recipe("demo"), PLACE, unmeasured).splitlines()[2] == (
        "**depth error 0.08, mAP 0.312** at step 7."
    )


def test_the_metric_that_says_what_is_best_is_among_the_scores() -> None:
    config = tiny_config(checkpoint__metric="val/other")
    text = describe(config, replace(PLACE, recipe=None), OUTCOME)
    assert "**depth error 0.08, mAP 0.312, val/other 1** at step 7" in text
    assert "Recipe" not in text


def test_a_run_that_mlflow_has_not_seen_is_measured_by_its_checkpoint() -> None:
    place = replace(PLACE, run_id=None)
    assert "mono3d evaluate" not in describe(load_recipe("demo"), place)
    text = describe(load_recipe("demo"), place, OUTCOME)
    assert f"`mono3d evaluate {OUTCOME.checkpoint}`" in text
