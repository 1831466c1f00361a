"""The center detector's objective: values, what counts, and that mining weighs depth alone."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mono3d.objectives.depth_term import DepthLoss
from mono3d.objectives.losses.depth import SMOOTH_L1_BETA
from mono3d.objectives.losses.focal import heatmap_focal
from mono3d.objectives.mining.gmm import GmmMining
from mono3d.objectives.mining.protocol import MinedWeights, MiningState
from mono3d.objectives.mining.uniform import Uniform
from mono3d.objectives.protocol import ObjectiveOutput
from mono3d.structures import Batch, DepthSamples, Predictions
from tests.support.boxes import make_boxes
from tests.support.detectors import (
    context_of,
    make_center_detector,
    make_center_objective,
)
from tests.support.frames import FramesInMemory, make_batch, make_center_codec, surround_frame

CODEC = make_center_codec()
TERMS = {
    "classification", "depth", "offset", "dims", "box_2d", "heading_bin", "heading_residual",
    "velocity", "attribute",
}  # fmt: skip
KEYPOINT_TERMS = {"keypoint_heatmap", "keypoint_offset", "keypoint_rest"}
MINED = GmmMining(warmup_epochs=0.0, ramp_epochs=0.0)


def total(output: ObjectiveOutput) -> Tensor:
    return torch.stack(list(output.terms.values())).sum()


def small_batch(*indices: int) -> Batch:
    frames = [FramesInMemory(40)[index] for index in indices]
    for i, frame in enumerate(frames):
        assert frame.boxes_cam is not None
        boxes = replace(frame.boxes_cam[0], attributes=torch.tensor([0, 1, -1]))
        frames[i] = replace(frame, boxes_cam=(boxes,), boxes_bev=boxes)
    return make_batch(frames, CODEC)


def test_a_total_by_hand() -> None:
    """One object and a network whose every response is zero."""
    boxes = make_boxes([[0.2, 0.3, 10.0]], dims_hwl=(1.6, 1.8, 8.4), yaw=1.0, labels=[1])
    boxes = replace(boxes, velocity=torch.tensor([[2.0, 0.0]]), attributes=torch.tensor([3]))
    batch = make_batch([replace(FramesInMemory(1)[0], boxes_cam=(boxes,), boxes_bev=boxes)], CODEC)
    targets = CODEC.targets(batch)
    image = CODEC.image_targets(batch, targets)
    cells = len(CODEC.grid(batch.images))
    widths = {"class_logits": 2, "attribute": 4, "offset": 2, "log_dims": 3, "box_2d": 4,
              "heading_bins": 12, "heading_residuals": 12, "velocity": 2}  # fmt: skip
    responses = {name: torch.zeros(1, cells, width) for name, width in widths.items()}
    responses["log_depth"] = torch.zeros(1, cells)
    responses["depth_m"] = torch.full((1, cells), math.exp(2.5))
    responses["depth_slope"] = torch.ones(1, cells)
    output = make_center_objective(CODEC)(
        Predictions(responses=responses), batch, context_of(batch)
    )

    def l1(*errors: float) -> float:
        beta = SMOOTH_L1_BETA
        return sum(e * e / (2 * beta) if (e := abs(x)) < beta else e - beta / 2 for x in errors)

    # alpha = 1 - atan2(0.2, 10) = 0.98 is nearest to bin 2, at 60 degrees.
    residual = 1 - math.atan2(0.2, 10.0) - math.radians(60)
    others = (1 - image.heatmap).pow(4).sum().item()
    expected = {
        "classification": (1 + others) / 4 * math.log(2),
        "depth": l1((math.log(10.0) - 2.5) / 0.6),
        "offset": l1(*targets.offset[0, 0].tolist()),
        "dims": l1(math.log(1.6 / 1.7), math.log(1.8 / 0.7), math.log(8.4 / 0.8)),
        "box_2d": 0.1 * l1(*image.box_2d[0, 0].tolist()),
        "heading_bin": math.log(12),
        "heading_residual": l1(residual),
        "velocity": 0.05 * l1(2.0, 0.0),
        "attribute": math.log(4),
    }
    found = {name: value.item() for name, value in output.terms.items()}
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_heat_map_loss_by_hand() -> None:
    logits, heat = torch.tensor([0.0, 0.0, 2.0, -30.0]), torch.tensor([1.0, 0.5, 0.0, 0.0])
    p = 1 / (1 + math.exp(-2.0))
    expected = [math.log(2) / 4, 0.5**4 * math.log(2) / 4, -(p**2) * math.log(1 - p), 0.0]
    assert heatmap_focal(logits, heat).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("mining", [None, MINED], ids=["none", "gmm"])
@pytest.mark.parametrize("has_keypoints", [False, True])
def test_unlabelled_frames_contribute_nothing(
    mining: GmmMining | None, has_keypoints: bool
) -> None:
    labelled, unlabelled = FramesInMemory(2)[0], FramesInMemory(2)[1]
    unlabelled = replace(unlabelled, boxes_cam=None, boxes_bev=None)
    alone, both = make_batch([labelled], CODEC), make_batch([labelled, unlabelled], CODEC)
    assert context_of(both).num_samples == context_of(alone).num_samples
    predictions = make_center_detector(has_keypoints=has_keypoints)(both)
    first = {name: value[:1] for name, value in predictions.responses.items()}
    objectives = [make_center_objective(CODEC, mining=mining) for _ in range(2)]
    output = objectives[0](predictions, both, context_of(both, progress=3.0))
    wanted = objectives[1](Predictions(responses=first), alone, context_of(alone, progress=3.0))
    assert set(output.terms) == (TERMS | KEYPOINT_TERMS if has_keypoints else TERMS)
    for name in output.terms:
        torch.testing.assert_close(output.terms[name], wanted.terms[name])


@pytest.mark.parametrize("depth_loss", ["smooth_l1_log", "smooth_l1_m", "laplace"])
def test_an_empty_batch_gives_zeros_with_a_graph(depth_loss: DepthLoss) -> None:
    frames = [replace(FramesInMemory(2)[i], boxes_cam=None, boxes_bev=None) for i in range(2)]
    batch = make_batch(frames, CODEC)
    detector = make_center_detector(has_uncertainty=depth_loss == "laplace", has_keypoints=True)
    objective = make_center_objective(CODEC, depth_loss=depth_loss, mining=MINED)
    output = objective(
        detector(batch), batch, context_of(batch, progress=3.0, with_statistics=True)
    )
    assert all(value == 0 for value in output.terms.values())
    assert all(value.isfinite() for value in output.statistics.values())
    total(output).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.eq(0).all(), name


def test_each_term_alone_reaches_the_first_convolution() -> None:
    batch = make_batch([surround_frame(0)], CODEC)
    detector = make_center_detector(has_uncertainty=True, has_keypoints=True)
    objective = make_center_objective(CODEC, depth_loss="laplace")
    first = next(p for p in detector.trunk.backbone.parameters() if p.dim() == 4)
    terms = objective(detector(batch), batch, context_of(batch)).terms
    assert set(terms) == TERMS | KEYPOINT_TERMS
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, first, retain_graph=True)
        assert gradient.abs().sum() > 0, name


def test_mining_changes_the_depth_term_only() -> None:
    batch = small_batch(0, 1)
    predictions = make_center_detector().eval()(batch)
    context = context_of(batch, progress=5.0, with_statistics=True)
    none = make_center_objective(CODEC)(predictions, batch, context).terms
    gmm = make_center_objective(CODEC, mining=GmmMining())(predictions, batch, context)
    for name in TERMS:
        assert torch.equal(none[name], gmm.terms[name]) == (name != "depth"), name
    assert gmm.statistics["mining/weight_mean"].item() == pytest.approx(1.0, abs=1e-5)


class Recorder(Uniform):
    def __init__(self) -> None:
        self.seen: list[DepthSamples] = []

    def weigh(self, samples: DepthSamples, state: MiningState, progress: float) -> MinedWeights:
        self.seen.append(samples)
        return super().weigh(samples, state, progress)


def test_each_object_is_one_depth_sample() -> None:
    batch, recorder = make_batch([surround_frame(0)], CODEC), Recorder()
    make_center_objective(CODEC, mining=recorder)(
        make_center_detector()(batch), batch, context_of(batch)
    )
    (samples,) = recorder.seen
    ids = samples.object_ids[samples.valid]
    assert len(ids.unique()) == len(ids) == int(batch.positives.valid.sum())
