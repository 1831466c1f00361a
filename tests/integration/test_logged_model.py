"""A network from MLflow says what `mono3d.Detector` says, where mono3d cannot even be imported."""

import os
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import mono3d
from mono3d.config.load import load_recipe
from mono3d.data.kitti_format import read_calibration
from mono3d.data.loaders import prepare_batch
from mono3d.geometry.box_iou import footprints_cam
from mono3d.structures import Boxes3D, Detections
from mono3d.tracking.tracker import RunIdentity
from mono3d.training.assembly import build_preparation
from mono3d.training.assess import record_network
from mono3d.training.checkpoint_files import verified_copy
from mono3d.training.detect import suppress
from mono3d.training.local import train_locally
from mono3d.training.model_assembly import build_codec
from tests.support.kitti_folder import FRAMES, write_kitti

pytestmark = [pytest.mark.slow, pytest.mark.services]

INPUTS = ("image", "projection", "bev_from_cam")
PROGRAM = """
import sys
sys.modules["mono3d"] = None  # not even to be imported
import mlflow
from safetensors.torch import load_file, save_file
network = mlflow.pytorch.load_model(sys.argv[1])
for question in sys.argv[3:]:
    inputs = load_file(question)
    answer = network(*(inputs[name] for name in sys.argv[2].split(",")))
    save_file({name: value.contiguous() for name, value in answer.items()}, question + ".answer")
"""
"""Somebody else's, who has MLflow and PyTorch."""


@pytest.mark.parametrize(
    "overrides", [("model.kind=dense", "evaluation.flip=true"), ("model.kind=center",)],
    ids=["dense, mirrored", "center"],
)  # fmt: skip
def test_a_logged_network_says_what_the_detector_says(
    overrides: tuple[str, ...],
    stack_environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mono3d.tracking.mlflow_tracker import MlflowTracker

    monkeypatch.chdir(tmp_path)
    root = write_kitti(tmp_path / "kitti")
    shrunk = (
        "train.epochs=1", "input.image_height_px=64", "input.image_width_px=192",
        "model.backbone.width=16", "model.channels=8", "train.batch_size=1",
        "evaluation.top_k=20", "evaluation.min_score=0",
    )  # fmt: skip
    config = load_recipe("kitti_overfit", [f"data.root={root}", *shrunk, *overrides])
    checkpoint = train_locally(config, name="small").best_checkpoint
    tracker = MlflowTracker.start(
        RunIdentity(name="-".join(overrides), params={}),
        experiment="logged-models",
        tracking_uri=stack_environ["MLFLOW_TRACKING_URI"],
        spool=tmp_path / "metrics.jsonl",
    )
    # Checked shapes are read, and what is read an export takes for fixed.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with verified_copy(checkpoint) as directory:
        record_network(directory, config, tracker)
    tracker.close("FINISHED")

    detector = mono3d.Detector.load(checkpoint, device="cpu")
    training = root / "training"
    frames = [
        detector.frame(
            str(training / "image_2" / f"{name}.png"),
            read_calibration(training / "calib" / f"{name}.txt").projection,
        )
        for name in FRAMES
    ]
    # Exported with two images; asked about one, three and seven.
    batches = [frames[:1], frames, [*frames, *frames, frames[1]]]
    preparation = build_preparation(config, build_codec(config), training=False)
    questions = []
    for number, batch in enumerate(batches):
        inputs = prepare_batch(batch, [torch.Generator()] * len(batch), preparation)
        tensors = (inputs.images, inputs.projection, inputs.bev_from_cam)
        questions.append(tmp_path / f"question-{number}")
        save_file(
            {name: value[:, 0].contiguous() for name, value in zip(INPUTS, tensors, strict=True)},
            questions[-1],
        )
    uri = f"runs:/{tracker.run_id}/model"
    subprocess.run(
        [sys.executable, "-c", PROGRAM, uri, ",".join(INPUTS), *map(str, questions)],
        check=True,
        env=os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
    )
    for question, batch in zip(questions, batches, strict=True):
        answers = load_file(f"{question}.answer")
        for number, (_, wanted) in enumerate(detector.detect_all(batch)):
            assert len(wanted) > 3
            found = detections({name: value[number] for name, value in answers.items()})
            found = suppress(
                found.boxes,
                found.scores,
                min_score=0.0,
                max_iou=config.evaluation.nms_iou,
                place=footprints_cam,
            )
            assert_same(found, wanted)


def detections(answer: dict[str, Tensor]) -> Detections:
    """One image's part of an answer, as mono3d has it."""
    boxes, count = answer["boxes"], len(answer["scores"])
    integers = torch.zeros(count, dtype=torch.int64)
    return Detections(
        boxes=Boxes3D(
            centers=boxes[:, :3],
            dims_hwl=boxes[:, 3:6],
            yaw=boxes[:, 6],
            labels=answer["labels"],
            velocity=answer["velocity"],
            attributes=answer["attributes"],
            object_ids=integers,
            num_points=integers,
            visibility=torch.zeros(count),
            valid=torch.ones(count, dtype=torch.bool),
        ),
        scores=answer["scores"],
    )


def assert_same(found: Detections, wanted: Detections) -> None:
    """Alike but for rounding: in another memory layout a convolution may add in another order."""
    torch.testing.assert_close(found.scores, wanted.scores)
    for name in ("centers", "dims_hwl", "yaw", "labels", "velocity", "attributes"):
        value, expected = getattr(found.boxes, name), getattr(wanted.boxes, name)
        torch.testing.assert_close(value, expected, msg=f"{name}: {value} is not {expected}")
