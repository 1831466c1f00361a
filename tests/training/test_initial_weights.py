"""What a run takes over from a checkpoint of other classes, another head or another backbone."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mono3d.config.data_sections import NUSCENES_CLASSES
from mono3d.config.schema import RunConfig
from mono3d.errors import CheckpointError
from mono3d.training.checkpoint import RunFacts, save_checkpoint
from mono3d.training.initial_weights import Piece, start_from
from mono3d.training.parts import Place, run_facts
from mono3d.training.state import TrainState
from tests.support.training import CENTER, tiny_config, tiny_parts

CLASS_ROWS = "class_branches.conv.weight"


def fresh(config: RunConfig) -> TrainState:
    return tiny_parts(config, Place()).state


def student_of(state: TrainState) -> Mapping[str, Tensor]:
    return state.train_module.student.state_dict()


def facts_of(config: RunConfig) -> RunFacts:
    return run_facts(config, {})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainState, Path]:
    """A checkpoint of ten classes, whose average is not what the last step left."""
    config = tiny_config(data__class_names=list(NUSCENES_CLASSES), seed=1)
    state = fresh(config)
    generator = torch.Generator().manual_seed(0)
    for value in state.ema.values.values():
        if value.is_floating_point():
            value.add_(torch.randn(value.shape, generator=generator))
    folder = tmp_path_factory.mktemp("base") / "step_00000001"
    save_checkpoint(state, folder, facts=facts_of(config), metrics={})
    return state, folder


def test_the_same_classes_start_with_the_same_weights(base: tuple[TrainState, Path]) -> None:
    source, folder = base
    config = tiny_config(data__class_names=list(NUSCENES_CLASSES))
    state = fresh(config)
    takeover = start_from(folder, state, facts_of(config))
    for weights in (student_of(state), state.ema.values):
        assert all(torch.equal(value, source.ema.values[key]) for key, value in weights.items())
    count = len(state.ema.values)
    assert str(takeover) == f"starts from {folder}: {count} of {count} tensors fit"
    assert (state.epoch, state.step) == (0, 0)


def test_a_class_that_both_have_keeps_its_row_and_others_start_afresh(
    base: tuple[TrainState, Path],
) -> None:
    source, folder = base
    config = tiny_config(
        data__class_names=["van", "pedestrian", "tram"],
        data__mean_dims_hwl={"van": [2, 2, 5], "tram": [3, 3, 15]},
        checkpoint__metric="val/centers_depth_abs_rel",
    )
    state = fresh(config)
    untouched = {key: value.clone() for key, value in student_of(state).items()}
    takeover = start_from(folder, state, facts_of(config))
    was = NUSCENES_CLASSES.index("pedestrian")
    for key in (CLASS_ROWS, "class_branches.conv.bias"):
        rows, before = student_of(state)[key], source.ema.values[key]
        assert torch.equal(rows[1], before[was])
        assert torch.equal(rows[[0, 2]], untouched[key][[0, 2]])
        assert torch.equal(rows[3:], before[10:]), "attributes follow the classes in one tensor"
    others = [key for key in untouched if not key.startswith("class_branches")]
    assert all(torch.equal(student_of(state)[key], source.ema.values[key]) for key in others)
    assert all(
        torch.equal(value, state.ema.values[key]) for key, value in student_of(state).items()
    )
    line = str(takeover)
    assert "\n" not in line
    assert f"{len(others)} of {len(untouched)} tensors fit, 2 more in part" in line
    assert (
        "left out: class_branches.conv class_logits (car, truck, bus, trailer and 5 more)" in line
    )
    assert line.endswith("new here: class_branches.conv class_logits (van, tram)")


def test_new_and_missing_outputs_of_a_head_leave_the_others(base: tuple[TrainState, Path]) -> None:
    source, folder = base
    config = tiny_config(
        data__class_names=list(NUSCENES_CLASSES),
        model__has_uncertainty=True,
        loss__depth_loss="laplace",
    )
    state = fresh(config)
    line = str(start_from(folder, state, facts_of(config)))
    assert line.endswith("2 more in part; new here: box_branches.conv log_sigma")
    rows = student_of(state)["box_branches.conv.weight"]
    assert torch.equal(rows[:-1], source.ema.values["box_branches.conv.weight"])


def test_a_backbone_of_another_width_is_left_out(base: tuple[TrainState, Path]) -> None:
    source, folder = base
    config = tiny_config(data__class_names=list(NUSCENES_CLASSES), model__backbone__width=32)
    state = fresh(config)
    line = str(start_from(folder, state, facts_of(config)))
    names = "40 modules of backbone, neck.lateral.0, neck.lateral.1, neck.lateral.2"
    assert line.endswith(f"; left out: {names}; new here: {names}")
    tower = "box_tower.0.weight"
    assert torch.equal(student_of(state)[tower], source.ema.values[tower])


def test_another_family_of_detectors_starts_with_the_same_classes_and_trunk(
    base: tuple[TrainState, Path],
) -> None:
    source, folder = base
    config = tiny_config(data__class_names=["bus"], **CENTER)
    state = fresh(config)
    takeover = start_from(folder, state, facts_of(config))
    assert Piece("box_branches.conv.weight", "box_2d") in takeover.fresh
    assert Piece("box_branches.conv.weight", "centerness_logits") in takeover.left_out
    assert Piece("box_branches.conv.weight", "log_depth") in takeover.taken
    bus = NUSCENES_CLASSES.index("bus")
    assert torch.equal(student_of(state)[CLASS_ROWS][0], source.ema.values[CLASS_ROWS][bus])
    for key in (
        "trunk.backbone.network.embedder.embedder.convolution.weight",
        "box_tower.0.weight",
    ):
        assert torch.equal(student_of(state)[key], source.ema.values[key])


def test_nothing_that_fits_is_refused_and_changes_nothing(base: tuple[TrainState, Path]) -> None:
    _, folder = base
    config = tiny_config(model__backbone__width=32, model__channels=16)
    state = fresh(config)
    before = {key: value.clone() for key, value in student_of(state).items()}
    with pytest.raises(CheckpointError) as refusal:
        start_from(folder, state, facts_of(config))
    assert str(refusal.value) == (
        f"{folder}: nothing of it fits this run: it has model.kind=dense, model.backbone.width=16, "
        "model.channels=8; this run has model.kind=dense, model.backbone.width=32, "
        "model.channels=16"
    )
    assert all(torch.equal(value, before[key]) for key, value in student_of(state).items())


def test_a_damaged_checkpoint_is_refused(base: tuple[TrainState, Path], tmp_path: Path) -> None:
    source, _ = base
    config = tiny_config(data__class_names=list(NUSCENES_CLASSES))
    save_checkpoint(source, tmp_path / "step", facts=facts_of(config), metrics={})
    (tmp_path / "step" / "ema.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"ema\.safetensors is missing"):
        start_from(tmp_path / "step", fresh(config), facts_of(config))


def test_anchors_of_other_classes_start_afresh(tmp_path: Path) -> None:
    """Their channels are of all classes at once: another order would mix them up."""
    grid = {
        "kind": "bev", "backbone": {"width": 16}, "channels": 8, "lifted_channels": 8,
        "bev_channels": [8], "bev_layers": 1, "depth_bins": {"count": 4},
        "grid": {"cell_m": 0.64, "num_heights": 1},
    }  # fmt: skip
    config = tiny_config(model=grid, data__class_names=["car", "truck"])
    state = fresh(config)
    save_checkpoint(state, tmp_path / "base", facts=facts_of(config), metrics={})
    for names, is_same in ((["car", "truck"], True), (["truck", "car"], False)):
        other = tiny_config(model=grid, data__class_names=names, seed=5)
        started = fresh(other)
        start_from(tmp_path / "base", started, facts_of(other))
        found, wanted = student_of(started), state.ema.values
        name = "head.branches.conv.weight"
        assert torch.equal(found[name], wanted[name]) is is_same
        assert torch.equal(found["collapse.0.weight"], wanted["collapse.0.weight"])
