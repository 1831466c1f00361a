from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import torch
from jaxtyping import Float, UInt8
from mlflow import MlflowClient
from torch import Tensor, nn

from mono3d.tracking.mlflow_model import save_model
from mono3d.tracking.mlflow_tracker import MlflowTracker
from mono3d.tracking.tracker import RunIdentity
from tests.support.mlflow_process import MlflowProcess

pytestmark = pytest.mark.slow


class TwoInputs(nn.Module):
    """Image and projection in, a mapping and a tuple of tensors out, as a detector has."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 4)

    def forward(
        self, image: UInt8[Tensor, "b 3 h w"], projection: Float[Tensor, "b 3 4"]
    ) -> tuple[dict[str, Tensor], Tensor]:
        features = self.stem(image.float() / 255.0)
        depth = self.head(features.mean((2, 3))) * projection[:, 0, :1]
        return {"depth": depth, "best": depth.topk(2, dim=1).indices}, features


class Branches(nn.Module):
    """Its path depends on a value, which no graph can hold."""

    def forward(self, image: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
        return image if bool(image.sum() > 0) else -image


def make_inputs(batch: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    image = torch.randint(0, 256, (batch, 3, 16, 24), dtype=torch.uint8, generator=generator)
    return {"image": image, "projection": torch.rand(batch, 3, 4, generator=generator)}


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return TwoInputs().eval()


@pytest.fixture
def tracking_uri(mlflow_server: MlflowProcess) -> Iterator[str]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(mlflow_server.uri)
    yield mlflow_server.uri
    mlflow.set_tracking_uri(before)


def assert_same(loaded: nn.Module, network: nn.Module, batch: int) -> None:
    inputs = make_inputs(batch).values()
    torch.testing.assert_close(loaded(*inputs), network(*inputs), rtol=0, atol=0)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_loaded_model_takes_any_batch(network: nn.Module, tmp_path: Path, batch: int) -> None:
    save_model(network, make_inputs(2), tmp_path / "model", {})
    assert_same(mlflow.pytorch.load_model(str(tmp_path / "model")), network, batch)


def test_saved_model_holds_no_pickle(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    save_model(network, make_inputs(2), tmp_path / "model", {"epoch": "3"})

    assert_same(mlflow.pytorch.load_model(str(tmp_path / "model")), network, 2)
    assert mlflow.models.Model.load(str(tmp_path / "model")).metadata == {"epoch": "3"}
    requirements = (tmp_path / "model" / "requirements.txt").read_text().splitlines()
    assert requirements == [
        f"torch=={torch.__version__.split('+')[0]}",
        f"mlflow=={mlflow.__version__}",
    ]


@pytest.mark.services
def test_logged_model_comes_back_from_run_and_registry(
    network: nn.Module, tracking_uri: str, tmp_path: Path
) -> None:
    tracker = MlflowTracker.start(
        RunIdentity(name="model", params={}),
        experiment="models",
        tracking_uri=tracking_uri,
        spool=tmp_path / "metrics.jsonl",
    )
    for epoch in (1, 2):
        tracker.log_model(
            network,
            make_inputs(2),
            name="model",
            registered_name="detector",
            metadata={"epoch": str(epoch)},
        )
    tracker.close("FINISHED")

    for uri in (f"runs:/{tracker.run_id}/model", "models:/detector/1", "models:/detector/2"):
        assert_same(mlflow.pytorch.load_model(uri), network, 3)
    (first, second) = sorted(
        MlflowClient(tracking_uri).search_model_versions("name = 'detector'"),
        key=lambda version: int(version.version),
    )
    assert first.run_id == second.run_id == tracker.run_id
    assert mlflow.models.get_model_info("models:/detector/2").metadata == {"epoch": "2"}
    run = MlflowClient(tracking_uri).get_run(str(tracker.run_id))
    assert len(run.outputs.model_outputs) == 2


@pytest.mark.services
def test_upload_that_was_cut_off_is_completed_not_repeated(
    network: nn.Module,
    tracking_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload, uploads = MlflowClient.log_model_artifacts, iter(range(10))

    def cut_off_once(self: MlflowClient, *arguments: object) -> None:
        upload(self, *arguments)
        if next(uploads) == 0:
            raise ConnectionResetError("cut off")

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", cut_off_once)
    tracker = MlflowTracker.start(
        RunIdentity(name="cut-off", params={}),
        experiment="cut-off",
        tracking_uri=tracking_uri,
        spool=tmp_path / "metrics.jsonl",
    )
    tracker.log_model(network, make_inputs(2), name="model", registered_name="cut-off", metadata={})
    tracker.close("FINISHED")

    client = MlflowClient(tracking_uri)
    assert next(uploads) == 2
    assert len(client.search_model_versions("name = 'cut-off'")) == 1
    assert len(client.get_run(str(tracker.run_id)).outputs.model_outputs) == 1
    assert_same(mlflow.pytorch.load_model("models:/cut-off/1"), network, 2)


@pytest.mark.services
def test_network_that_cannot_be_exported_is_said_and_the_run_goes_on(
    tracking_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = MlflowTracker.start(
        RunIdentity(name="branches", params={}),
        experiment="models",
        tracking_uri=tracking_uri,
        spool=tmp_path / "metrics.jsonl",
    )
    tracker.log_model(
        Branches(), {"image": torch.ones(2, 3)}, name="model", registered_name=None, metadata={}
    )
    tracker.close("FINISHED")

    said = [r.getMessage() for r in caplog.records if r.name.startswith("mono3d")]
    assert len(said) == 1
    assert "model" in said[0]
    assert MlflowClient(tracking_uri).get_run(str(tracker.run_id)).info.status == "FINISHED"
