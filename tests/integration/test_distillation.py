"""Teacher and student as a user trains them: on Ray, with MLflow, checkpoints in S3."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient
from torch.export import ExportedProgram, export

from mono3d.config.load import load_recipe
from mono3d.config.schema import RunConfig
from mono3d.config.training_sections import ClusterConfig
from mono3d.errors import ConfigError
from mono3d.training.checkpoint import read_metadata
from mono3d.training.export import ExportedDetector
from mono3d.training.model_assembly import build_codec, build_model, load_network
from mono3d.training.predict import Detector
from mono3d.training.progress import NoDisplay
from mono3d.training.ray_session import ray_session
from mono3d.training.run_record import RunResult
from mono3d.training.tracked import train_tracked
from tests.support.kitti_folder import write_kitti

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.services,
    # Ray Data, which Ray Train sets up, warns of its own settings.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SMALL = (
    "input.image_height_px=64", "input.image_width_px=192", "input.loader_processes=0",
    "model.backbone={kind: resnet, depth: 18, width: 16}", "model.channels=16", "train.epochs=1",
    "train.batch_size=1", "train.precision=float32", "evaluation.every_epochs=1",
    "data.train_split=train", "data.val_split=val", "tracking.experiment=taught",
    "mining.warmup_epochs=0", "iou_loss.warmup_epochs=0", "cluster.cpus_per_worker=1",
    "cluster.gpus_per_worker=0", "checkpoint.every_steps=null", "schedule.kind=cosine",
    "train.log_every_steps=1",
)  # fmt: skip
RECIPE = "kitti_add_gmm_gciou"
SMALL_GRID = (
    "input.image_height_px=64", "input.image_width_px=192", "model.lifted_channels=16",
    "model.bev_channels=[8]", "model.bev_layers=1", "train.epochs=1", "train.epoch_frames=2",
    "train.batch_size=1", "train.precision=float32", "evaluation.every_epochs=1",
    "tracking.experiment=taught", "train.log_every_steps=1",
)  # fmt: skip
ON_IMAGES = ("model.backbone.width=16", "model.channels=8")


@pytest.fixture(scope="module")
def environment(stack: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Servers, a cluster of two, and a folder to work in; yields a data set."""
    folder = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stack.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        with ray_session(ClusterConfig(workers=2), has_dashboard=False):
            yield write_kitti(folder / "kitti")


def settings(root: Path, *more: str) -> RunConfig:
    storage = f"data.root={root}", "cluster.storage=s3://mono3d/taught"
    return load_recipe(RECIPE, [*SMALL, *storage, *more])


@pytest.fixture(scope="module")
def teacher(environment: Path) -> RunResult:
    config = settings(environment, "distillation.kind=none", "model.depth_input=lidar")
    return train_tracked(config, name="teacher", sink=NoDisplay())[0]


@pytest.fixture(scope="module")
def student(environment: Path, teacher: RunResult) -> RunResult:
    """Taught by an MLflow run id, on two workers, with mining and an IoU loss."""
    taught = f"distillation={{kind: add, heads: 2, teacher: {teacher.run_id}}}"
    config = settings(environment, taught, "cluster.workers=2")
    return train_tracked(config, name="student", sink=NoDisplay(), exports_network=False)[0]


def test_the_record_says_who_taught_and_what_was_lost(
    teacher: RunResult, student: RunResult
) -> None:
    run = MlflowClient().get_run(str(student.run_id))
    assert run.data.tags["distillation"] == "add"
    assert run.data.params["distillation.teacher"] == teacher.best_checkpoint
    terms = {f"loss/distill/{name}" for name in ("feature", "object", "response")}
    assert terms | {"loss/iou"} <= run.data.metrics.keys()
    assert run.data.tags["mining"] == "gmm"


def test_the_record_of_a_teacher_has_no_model_that_images_alone_could_ask(
    teacher: RunResult,
) -> None:
    run = MlflowClient().get_run(str(teacher.run_id))
    assert not run.outputs or not run.outputs.model_outputs
    assert "reads lidar depth" in run.data.tags["mlflow.note.content"]
    with pytest.raises(ConfigError, match=r"model\.depth_input=lidar: it is a teacher"):
        Detector.load(teacher.best_checkpoint)


def test_what_is_exported_is_the_graph_of_a_detector_that_nobody_taught(
    environment: Path, student: RunResult
) -> None:
    config, network = load_network(student.best_checkpoint, device="cpu")
    plain = build_model(settings(environment, "distillation.kind=none"))
    one, other = _exported(config, network), _exported(config, plain)
    assert [n.target for n in one.graph.nodes] == [n.target for n in other.graph.nodes]
    assert {k: v.shape for k, v in one.state_dict.items()} == {
        k: v.shape for k, v in other.state_dict.items()
    }


def on_grid(root: Path, recipe: str, name: str, *more: str, workers: int = 1) -> RunResult:
    """A run of a recipe in bird's-eye view."""
    place = (
        f"data.root={root}", "cluster.storage=s3://mono3d/taught", f"cluster.workers={workers}",
    )  # fmt: skip
    config = load_recipe(recipe, [*place, *SMALL_GRID, *more])
    return train_tracked(config, name=name, sink=NoDisplay())[0]


def test_lidar_and_an_assistant_teach_a_camera(environment: Path) -> None:
    """By MLflow run id and by URI, on two workers; what they are is on the student's record."""
    lidar = on_grid(environment, "lidar_pillars_kitti_small", "lidar")
    assistant = on_grid(
        environment, "kitti_caddn_small", "assistant", *ON_IMAGES, "model.depth_input=lidar"
    )
    student = on_grid(
        environment,
        "kitti_monotakd_small",
        "grid-student",
        *ON_IMAGES,
        f"distillation.teacher={lidar.run_id}",
        f"distillation.assistant={assistant.best_checkpoint}",
        workers=2,
    )
    run = MlflowClient().get_run(str(student.run_id))
    assert run.data.tags["distillation"] == "monotakd"
    assert run.data.params["distillation.teacher"] == lidar.best_checkpoint
    assert run.data.params["distillation.assistant"] == assistant.best_checkpoint
    terms = {"intra", "residual", "classes", "box", "direction"}
    assert {f"loss/distill/{name}" for name in terms} <= run.data.metrics.keys()
    assert run.outputs.model_outputs  # images and cameras make it answer
    for taught_by in (lidar, assistant):
        own = MlflowClient().get_run(str(taught_by.run_id))
        assert not own.outputs or not own.outputs.model_outputs
    data = read_metadata(student.best_checkpoint).data
    assert data["teacher"]["checkpoint"] == lidar.best_checkpoint
    assert set(data["teacher"]["data"]) >= {"train", "val"}
    logged = json.loads(
        Path(MlflowClient().download_artifacts(run.info.run_id, "config/data.json")).read_text()
    )
    assert logged == data


def _exported(config: RunConfig, network: torch.nn.Module) -> ExportedProgram:
    detector = ExportedDetector(network.eval(), build_codec(config), config.evaluation)
    size = (config.input.image_height_px, config.input.image_width_px)
    camera = torch.tensor([[80.0, 0, 96, 0], [0, 80.0, 32, 0], [0, 0, 1, 0]])
    inputs = (
        torch.zeros(2, 3, *size, dtype=torch.uint8),
        camera.expand(2, 3, 4).contiguous(),
        torch.eye(4).expand(2, 4, 4).contiguous(),
    )
    return export(detector, inputs)
