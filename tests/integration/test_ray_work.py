"""What workers on Ray do beside training to the end: look into its first steps, and fail."""

import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mono3d.config.load import load_recipe
from mono3d.config.schema import RunConfig
from mono3d.config.training_sections import ClusterConfig
from mono3d.errors import ConfigError
from mono3d.training.launch import launch, launch_profile
from mono3d.training.mailbox import Question
from mono3d.training.parts import Place, RunParts
from mono3d.training.ray_session import ray_session
from mono3d.training.step_profile import read_profile
from mono3d.training.tracked import profile_tracked
from tests.support.kitti_folder import write_kitti
from tests.support.training import Lines, tiny_config, tiny_parts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    # Ray Data, which Ray Train sets up, warns of its own settings.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

WORKERS = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_session(ClusterConfig(workers=WORKERS), has_dashboard=False):
        yield


def config_at(storage: Path, **overrides: object) -> RunConfig:
    return tiny_config(
        cluster__storage=str(storage),
        cluster__workers=WORKERS,
        checkpoint__metric="val/score",
        **overrides,
    )


def parts_in_little_memory(config: RunConfig, place: Place) -> RunParts:
    """Rank 1, and whoever tries what it could do, may take 700 MiB more than it has."""
    if place.rank == 1:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        allowed = psutil.Process().memory_info().vms + (700 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))
    return tiny_parts(config, place)


def test_a_worker_out_of_memory_ends_the_run_with_a_batch_that_fits(
    cluster: None, tmp_path: Path
) -> None:
    """Though the other one waits for it in a collective, and without another attempt."""
    config = config_at(
        tmp_path,
        train__batch_size=24,
        train__accumulate=1,
        input__image_height_px=512,
        input__image_width_px=768,
    )
    sink = Lines()
    with pytest.raises(ConfigError, match=r"^train.batch_size=24: out of memory .* fit on this"):
        launch(config, name="run", sink=sink, build=parts_in_little_memory)
    (looking,) = (line for line in sink.lines if "looking for a batch that fits" in line)
    assert looking.startswith("worker 1: train.batch_size=24: out of memory")
    assert not [line for line in sink.lines if "failed" in line]


def test_a_judge_s_no_ends_all_ranks_and_the_run_can_go_on(cluster: None, tmp_path: Path) -> None:
    config = config_at(tmp_path, train__epochs=4)
    asked = []

    def judge(question: Question) -> bool:
        asked.append(question.epoch)
        return question.epoch < 2

    stopped = launch(config, name="run", judge=judge, build=tiny_parts)
    assert asked == [1, 2]
    sink = Lines()
    whole = launch(config, name="run", sink=sink, build=tiny_parts)
    assert whole.steps == 2 * stopped.steps
    assert f"resumed at step {stopped.steps}" in sink.lines


def test_the_first_rank_profiles_what_all_ranks_train(cluster: None, tmp_path: Path) -> None:
    location = launch_profile(config_at(tmp_path), name="run", steps=2, build=tiny_parts)
    assert location == str(tmp_path / "run" / "profile")
    profile = read_profile(Path(location))
    assert (profile.workers, profile.frames_per_step, profile.steps) == (2, 8, 2)
    assert "DistributedDataParallel.forward" not in [cost.name for cost in profile.operators]
    (backward,) = (stage for stage in profile.stages if stage.name == "backward")
    assert backward.calls == 2
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"profile"}


@pytest.mark.services
def test_each_profile_is_a_run_of_its_own_in_mlflow(
    cluster: None,
    stack_environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    root = write_kitti(tmp_path / "kitti")
    config = load_recipe(
        "kitti_overfit",
        [
            f"data.root={root}", "input.image_height_px=64", "input.image_width_px=192",
            "model.backbone.width=16", "model.channels=8", "train.batch_size=1",
            "tracking.experiment=profiles",
        ],
    )  # fmt: skip
    location = profile_tracked(config, name="small", steps=1, sink=Lines())
    assert location == str(tmp_path / "runs" / "small" / "profile")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("profiles")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name.startswith("small-profile-")
    assert run.info.status == "FINISHED"
    assert run.data.params["train.batch_size"] == "1"
    files = {entry.path for entry in client.list_artifacts(run.info.run_id, "profile")}
    assert files == {"profile/trace.json.gz", "profile/profile.json", "profile/profile.txt"}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["small"]
