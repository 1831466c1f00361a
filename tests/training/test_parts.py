from dataclasses import replace

import pytest

from mono3d.config.load import fingerprint
from mono3d.config.schema import RunConfig
from mono3d.errors import ConfigError
from mono3d.training.parts import Place, RunParts, build_parts
from tests.support.nuscenes_tables import CLASSES, VERSION, write_tables
from tests.support.training import tiny_config


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    root = write_tables(tmp_path_factory.mktemp("nuscenes"))
    return tiny_config(
        data__root=str(root),
        data__version=VERSION,
        data__train_split="tiny_train",
        data__val_split="tiny_val",
        data__class_names=list(CLASSES),
        evaluation__max_frames=6,
    )


@pytest.fixture(scope="module")
def parts(config: RunConfig) -> RunParts:
    return build_parts(config, Place())


def test_says_what_is_trained_on(config: RunConfig, parts: RunParts) -> None:
    """Two scenes of two samples, six cameras: 12 frames a split."""
    assert parts.facts.data["train"]["frames"] == 12
    assert parts.facts.data["train"]["fingerprint"] != parts.facts.data["val"]["fingerprint"]
    assert parts.facts.fingerprint == fingerprint(config)


def test_the_rate_is_scaled_to_the_frames_of_a_step(config: RunConfig) -> None:
    """2 ranks, 2 micro-batches of 2 frames; the rate 2e-4 is given for 16 frames."""
    parts = build_parts(config, Place(rank=1, world_size=2))
    assert parts.frames_per_step == 8
    assert parts.state.peak_lr == pytest.approx(1e-4)
    assert parts.headline == "2 steps of 8 frames, peak learning rate 0.0001"


def test_evaluation_sees_the_whole_split_at_start_and_end_only(parts: RunParts) -> None:
    assert parts.plan.epochs == 2
    error = "val/centers_depth_abs_rel"
    first, middle, last = (parts.evaluate(replace(parts.state, epoch=e)) for e in range(3))
    assert all(name.startswith("val/") for name in first)
    assert first[error] == last[error]
    assert middle[error] != first[error]


def test_too_little_data_is_said(config: RunConfig) -> None:
    with pytest.raises(ConfigError, match=r"^train\.batch_size: an epoch has 12 frames"):
        build_parts(config, Place(world_size=4))
