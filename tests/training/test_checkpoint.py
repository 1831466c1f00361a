import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from mono3d.config.schema import RunConfig
from mono3d.errors import CheckpointError
from mono3d.storage import s3
from mono3d.storage.digests import sha256
from mono3d.storage.location import upload_directory
from mono3d.tracking.records import MetricRecord
from mono3d.training.checkpoint import (
    copy_figures,
    load_checkpoint,
    load_student,
    read_metadata,
    read_student,
    save_checkpoint,
    verify,
)
from mono3d.training.checkpoint_files import MANIFEST, new_directory
from mono3d.training.loop import fit
from mono3d.training.model_assembly import build_model
from mono3d.training.parts import Place, RunParts, run_facts
from mono3d.training.state import TrainState
from tests.support.training import no_evaluation, state_digests, tiny_config, tiny_parts

FILES = {
    "model.safetensors", "ema.safetensors", "optimiser.safetensors", "state.json", "manifest.json",
}  # fmt: skip


class Saver:
    """Keeps every checkpoint that the loop wants, and can die after one of them."""

    def __init__(self, config: RunConfig, root: Path, *, dies_at: int | None = None) -> None:
        self._facts = run_facts(config, {})
        self._root = root
        self._dies_at = dies_at

    def on_records(self, state: TrainState, record: MetricRecord) -> None:
        pass

    def on_evaluate(self, state: TrainState) -> None:
        pass

    def on_save(
        self, state: TrainState, metrics: Mapping[str, float], *, epoch_ended: bool
    ) -> None:
        save_checkpoint(state, self._root / f"{state.step}", facts=self._facts, metrics=metrics)
        if state.step == self._dies_at:
            raise KeyboardInterrupt


def train(config: RunConfig, parts: RunParts, root: Path, **saver: int) -> TrainState:
    fit(
        parts.state,
        parts.loader,
        parts.plan,
        evaluate=parts.evaluate,
        observer=Saver(config, root, **saver),
    )
    return parts.state


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return tiny_config(checkpoint__every_steps=1, train__epoch_frames=16)


@pytest.fixture(scope="module")
def trained(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainState, Path]:
    """An uninterrupted run of 8 steps, and the folder with a checkpoint of every step."""
    root = tmp_path_factory.mktemp("run")
    return train(config, tiny_parts(config, Place()), root), root


def fresh(config: RunConfig) -> TrainState:
    return tiny_parts(config, Place()).state


def test_a_fresh_state_becomes_the_saved_one(
    config: RunConfig, trained: tuple[TrainState, Path]
) -> None:
    state, root = trained
    other = fresh(config)
    assert state_digests(other) != state_digests(state)
    metadata = load_checkpoint(root / "8", other)
    assert state_digests(other) == state_digests(state)
    assert (other.epoch, other.batch, other.step) == (2, 0, 8)
    assert metadata.metrics == pytest.approx(no_evaluation(state))
    assert metadata.config == config.model_dump(mode="json")
    assert metadata.versions["torch"] == torch.__version__


def test_resumed_run_equals_uninterrupted_run(
    config: RunConfig, trained: tuple[TrainState, Path], tmp_path: Path
) -> None:
    """Killed in the middle of the second epoch, with averaging, mining and accumulation on."""
    uninterrupted, _ = trained
    with pytest.raises(KeyboardInterrupt):
        train(config, tiny_parts(config, Place()), tmp_path, dies_at=6)
    parts = tiny_parts(config, Place())
    load_checkpoint(tmp_path / "6", parts.state)
    assert (parts.state.epoch, parts.state.batch) == (1, 4)
    state = train(config, parts, tmp_path)
    assert state_digests(state) == state_digests(uninterrupted)


def test_a_run_goes_on_with_the_data_it_began_with(config: RunConfig, tmp_path: Path) -> None:
    parts = tiny_parts(config, Place())
    save_checkpoint(parts.state, tmp_path / "0", facts=parts.facts, metrics={})
    assert load_checkpoint(tmp_path / "0", fresh(config), data=parts.facts.data).step == 0
    other = {"train": {"frames": 48, "fingerprint": "0123456789abcdef" * 4}}
    with pytest.raises(CheckpointError, match=r"split train had .*, now 0123456789abcdef; restore"):
        load_checkpoint(tmp_path / "0", fresh(config), data=other)


def test_the_loop_saves_once_at_the_end_of_an_epoch(trained: tuple[TrainState, Path]) -> None:
    _, root = trained
    assert read_metadata(root / "4").batch == 0
    assert read_metadata(root / "4").metrics


def test_holds_the_promised_files_and_no_teacher(trained: tuple[TrainState, Path]) -> None:
    state, root = trained
    assert {path.name for path in (root / "8").iterdir()} == FILES
    written = json.loads((root / "8" / "manifest.json").read_text())["files"]
    assert set(written) == FILES - {"manifest.json"}
    prefixes = {name.partition(".")[0] for name in state.train_module.state_dict()}
    assert prefixes == {"student", "objective"}


def test_optimiser_state_is_found_by_name_not_by_order(
    config: RunConfig, trained: tuple[TrainState, Path]
) -> None:
    state, root = trained
    other = fresh(config)
    for group in other.optimizer.param_groups:
        group["params"].reverse()
    load_checkpoint(root / "8", other)
    assert state_digests(other)["optimiser"] == state_digests(state)["optimiser"]


@pytest.mark.parametrize("weights", ["ema", "model"])
def test_load_student(config: RunConfig, trained: tuple[TrainState, Path], weights: str) -> None:
    state, root = trained
    network = build_model(config)
    load_student(root / "8", network, weights=weights)
    expected = state.ema.values if weights == "ema" else state.train_module.student.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())
    assert not torch.equal(
        state.ema.values["scales.offset"], state.train_module.student.scales["offset"]
    )


def remove_manifest(directory: Path) -> None:
    (directory / "manifest.json").unlink()


def remove_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def cut_weights(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(directory: Path) -> None:
    path = directory / "ema.safetensors"
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)


def garble_manifest(directory: Path) -> None:
    (directory / "manifest.json").write_text('{"format": 1, "files"')


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (remove_manifest, "manifest.json"),
        (garble_manifest, "manifest.json"),
        (remove_weights, "model.safetensors is missing"),
        (cut_weights, "model.safetensors has"),
        (flip_a_bit, "ema.safetensors is damaged"),
    ],
)
def test_refuses_a_damaged_checkpoint_and_changes_nothing(
    config: RunConfig,
    trained: tuple[TrainState, Path],
    tmp_path: Path,
    damage: Callable[[Path], None],
    named: str,
) -> None:
    state, _ = trained
    directory = tmp_path / "step"
    save_checkpoint(state, directory, facts=run_facts(config, {}), metrics={})
    damage(directory)
    other = fresh(config)
    before = state_digests(other)
    with pytest.raises(CheckpointError, match=named) as refusal:
        load_checkpoint(directory, other)
    assert "\n" not in str(refusal.value)
    assert str(directory) in str(refusal.value)
    assert state_digests(other) == before
    assert other.step == 0
    with pytest.raises(CheckpointError):
        verify(directory)


def test_refuses_another_architecture_naming_key_and_shapes(
    trained: tuple[TrainState, Path],
) -> None:
    _, root = trained
    wider = fresh(tiny_config(model__channels=16))
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint(root / "8", wider)
    assert re.fullmatch(
        r".*8/model\.safetensors: student\.[\w.]+ has shape \[.*\b8,.*\], "
        r"this model needs \[.*\b16,.*\]",
        str(refusal.value),
    )
    with pytest.raises(CheckpointError, match="is missing, this model needs it"):
        load_student(root / "8", build_model(tiny_config(model__num_depth_bins=4)))


def test_a_save_cut_short_leaves_what_was_there(tmp_path: Path) -> None:
    with new_directory(tmp_path / "step") as part:
        (part / "a.txt").write_text("whole")

    def cut_short() -> None:
        with new_directory(tmp_path / "step") as part:
            (part / "a.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_short()
    assert (tmp_path / "step" / "a.txt").read_text() == "whole"
    verify(tmp_path / "step")


def test_metrics_file_travels_and_infinite_metrics_do_not(
    config: RunConfig, tmp_path: Path
) -> None:
    spool = tmp_path / "spool.jsonl"
    spool.write_text('{"step":1}\n')
    state = fresh(config)
    metrics = {"good": 1.0, "nan": float("nan"), "inf": float("inf")}
    save_checkpoint(
        state, tmp_path / "step", facts=run_facts(config, {}), metrics=metrics, spool=spool
    )
    restored = tmp_path / "restored.jsonl"
    metadata = load_checkpoint(tmp_path / "step", state, spool=restored)
    assert metadata.metrics == {"good": 1.0}
    assert restored.read_text() == spool.read_text()


def test_pictures_of_an_evaluation_are_kept_and_sealed_with_the_weights(
    config: RunConfig, tmp_path: Path
) -> None:
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    (drawn / "precision_recall.png").write_bytes(b"a picture")
    save_checkpoint(
        fresh(config),
        tmp_path / "step",
        facts=run_facts(config, {}),
        metrics={"good": 1.0},
        figures=drawn,
    )
    copies = copy_figures(tmp_path / "step", tmp_path / "copies")
    assert [path.name for path in copies] == ["precision_recall.png"]
    assert copies[0].read_bytes() == b"a picture"
    (tmp_path / "step" / "precision_recall.png").write_bytes(b"another")
    with pytest.raises(CheckpointError, match="precision_recall"):
        verify(tmp_path / "step")


@pytest.mark.services
def test_weights_in_a_store_are_fetched_once_and_a_bad_copy_is_none(
    trained: tuple[TrainState, Path],
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = trained[1] / "8"
    location = f"{store}/teachers/kept"
    s3.ensure_bucket(store)
    upload_directory(directory, location, last=MANIFEST)
    first, _ = read_student(location)
    s3.delete(f"{location}/ema.safetensors")
    again, _ = read_student(location)
    assert {name: bytes(value.numpy().tobytes()) for name, value in again.items()} == {
        name: bytes(value.numpy().tobytes()) for name, value in first.items()
    }
    for kept in (tmp_path / "cache").rglob("*"):
        if kept.is_file() and kept.name == sha256(directory / "ema.safetensors"):
            kept.write_bytes(b"x" * kept.stat().st_size)
    with pytest.raises(CheckpointError, match=r"kept: .*ema\.safetensors"):
        read_student(location)
