"""The dense detector's objective: values, what counts, and what is normalised by what."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mono3d.objectives.depth_term import DepthLoss
from mono3d.objectives.losses.depth import SMOOTH_L1_BETA, smooth_l1
from mono3d.objectives.mining.gmm import GmmMining
from mono3d.objectives.mining.protocol import MinedWeights, MiningState
from mono3d.objectives.mining.uniform import Uniform
from mono3d.objectives.protocol import ObjectiveOutput
from mono3d.objectives.weights import LossWeights
from mono3d.structures import Batch, DepthSamples, Predictions
from tests.support.boxes import make_boxes
from tests.support.detectors import context_of, make_detector, make_objective
from tests.support.frames import FramesInMemory, make_batch, make_codec, surround_frame

CODEC = make_codec()
TERMS = (
    "classification", "depth", "centerness", "offset", "dims", "axis", "direction", "velocity",
    "attribute",
)  # fmt: skip
MINED = GmmMining(warmup_epochs=0.0, ramp_epochs=0.0)


def small_batch(*indices: int) -> Batch:
    """Frames with velocities and attributes, so that every term has something to do."""
    frames = [FramesInMemory(40)[index] for index in indices]
    for i, frame in enumerate(frames):
        assert frame.boxes_cam is not None
        boxes = replace(frame.boxes_cam[0], attributes=torch.tensor([0, 1, -1]))
        frames[i] = replace(frame, boxes_cam=(boxes,), boxes_bev=boxes)
    return make_batch(frames, CODEC)


def said(batch: Batch, **options: Any) -> Predictions:
    predictions: Predictions = make_detector(**options).eval()(batch)
    return predictions


def total(output: ObjectiveOutput) -> Tensor:
    return torch.stack(list(output.terms.values())).sum()


def test_a_total_by_hand() -> None:
    """One object, learnt by one point only, and a network whose every response is zero."""
    codec = make_codec(max_positives=1)
    boxes = make_boxes([[0.2, 0.3, 10.0]], dims_hwl=(1.6, 1.8, 8.4), yaw=0.0, labels=[1])
    boxes = replace(boxes, velocity=torch.tensor([[2.0, 0.0]]), attributes=torch.tensor([3]))
    frame = replace(FramesInMemory(1)[0], boxes_cam=(boxes,), boxes_bev=boxes)
    batch = make_batch([frame], codec)
    targets = codec.targets(batch)
    num_points = len(codec.grid(batch.images))
    widths = {"class_logits": 2, "attribute": 4, "offset": 2, "log_dims": 3, "axis": 2,
              "direction": 2, "velocity": 2}  # fmt: skip
    responses = {name: torch.zeros(1, num_points, width) for name, width in widths.items()}
    responses |= {name: torch.zeros(1, num_points) for name in ("centerness_logits", "log_depth")}
    responses["depth_m"] = torch.full((1, num_points), math.exp(2.5))
    responses["depth_slope"] = torch.ones(1, num_points)
    output = make_objective(codec)(Predictions(responses=responses), batch, context_of(batch))

    def l1(*errors: float) -> float:
        beta = SMOOTH_L1_BETA
        return sum(e * e / (2 * beta) if (e := abs(x)) < beta else e - beta / 2 for x in errors)

    alpha = -math.atan2(0.2, 10.0)
    weight = targets.weight.item()
    expected = {
        # p = 0.5 everywhere: one positive costs α/4 ln 2, every other logit (1 - α)/4 ln 2.
        "classification": (0.25 + 0.75 * (2 * num_points - 1)) / 4 * math.log(2),
        "depth": l1((math.log(10.0) - 2.5) / 0.6),
        "centerness": math.log(2),
        "offset": l1(*targets.offset.flatten().tolist()),
        # Sizes of class 1 are (1.7, 0.7, 0.8).
        "dims": l1(math.log(1.6 / 1.7), math.log(1.8 / 0.7), math.log(8.4 / 0.8)),
        "axis": l1(math.sin(2 * alpha), math.cos(2 * alpha)),
        "direction": math.log(2),
        "velocity": 0.05 * l1(2.0, 0.0),
        "attribute": math.log(4),
    }
    assert 0 < weight <= 1
    assert {name: value.item() for name, value in output.terms.items()} == pytest.approx(
        expected, rel=1e-4
    )
    relative = abs(math.exp(2.5) - 10) / 10
    assert output.statistics["depth_error"].item() == pytest.approx(relative, rel=1e-5)


def test_factors_scale_their_terms() -> None:
    batch = small_batch(0)
    predictions = said(batch)
    plain = make_objective(CODEC)(predictions, batch, context_of(batch)).terms
    twice = LossWeights(**{name: 2 * getattr(LossWeights(), name) for name in TERMS})
    doubled = make_objective(CODEC, weights=twice)(predictions, batch, context_of(batch)).terms
    assert tuple(sorted(plain)) == tuple(sorted(TERMS))
    for name in TERMS:
        torch.testing.assert_close(doubled[name], 2 * plain[name])
        assert plain[name] > 0 or name == "velocity"


@pytest.mark.parametrize("mining", [None, MINED], ids=["none", "gmm"])
def test_unlabelled_frames_contribute_nothing(mining: GmmMining | None) -> None:
    """Neither a loss, nor a sample, nor a punishment for what is found in them."""
    labelled, unlabelled = FramesInMemory(2)[0], FramesInMemory(2)[1]
    unlabelled = replace(unlabelled, boxes_cam=None, boxes_bev=None)
    alone, both = make_batch([labelled], CODEC), make_batch([labelled, unlabelled], CODEC)
    assert context_of(both).num_samples == context_of(alone).num_samples
    predictions = said(both)
    logits = predictions.responses["class_logits"].detach().clone()
    logits[1] = 5.0
    logits.requires_grad_()
    shouting = replace(predictions, responses={**predictions.responses, "class_logits": logits})
    output = make_objective(CODEC, mining=mining)(shouting, both, context_of(both, progress=3.0))
    first = {name: value[:1] for name, value in shouting.responses.items()}
    wanted = make_objective(CODEC, mining=mining)(
        Predictions(responses=first), alone, context_of(alone, progress=3.0)
    )
    for name in TERMS:
        torch.testing.assert_close(output.terms[name], wanted.terms[name])
    (gradient,) = torch.autograd.grad(total(output), logits)
    assert gradient[0].abs().sum() > 0
    assert gradient[1].eq(0).all()


@pytest.mark.parametrize("depth_loss", ["smooth_l1_log", "smooth_l1_m", "laplace"])
def test_an_empty_batch_gives_zeros_with_a_graph(depth_loss: DepthLoss) -> None:
    frames = [replace(FramesInMemory(2)[i], boxes_cam=None, boxes_bev=None) for i in range(2)]
    batch = make_batch(frames, CODEC)
    detector = make_detector(has_uncertainty=depth_loss == "laplace")
    objective = make_objective(CODEC, depth_loss=depth_loss, mining=MINED)
    output = objective(
        detector(batch), batch, context_of(batch, progress=3.0, with_statistics=True)
    )
    assert all(value == 0 for value in output.terms.values())
    assert all(value.isfinite() for value in output.statistics.values())
    total(output).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.eq(0).all(), name
    assert objective.mining_steps == 0


def test_a_labelled_frame_without_objects_teaches_that_there_are_none() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    frame = FramesInMemory(1)[0]
    assert frame.boxes_bev is not None
    empty = frame.boxes_bev.select(nothing)
    batch = make_batch([replace(frame, boxes_cam=(empty,), boxes_bev=empty)], CODEC)
    terms = make_objective(CODEC)(said(batch), batch, context_of(batch)).terms
    assert terms["classification"] > 0
    assert all(terms[name] == 0 for name in TERMS if name != "classification")


def test_micro_batches_add_up_to_the_whole_batch() -> None:
    """Losses and gradients, because both are divided by the samples of the whole step."""
    whole = small_batch(0, 1, 2, 3)
    parts = small_batch(0), small_batch(1, 2, 3)
    detector, objective = make_detector().eval(), make_objective(CODEC)

    def gradients(batches: tuple[Batch, ...]) -> list[Tensor]:
        detector.zero_grad()
        context = context_of(*batches)
        for batch in batches:
            total(objective(detector(batch), batch, context)).backward()
        return [p.grad.clone() for p in detector.parameters() if p.grad is not None]

    for one, other in zip(gradients((whole,)), gradients(parts), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("depth_loss", ["smooth_l1_log", "smooth_l1_m"])
def test_without_mining_the_depth_loss_is_the_plain_sum_to_the_last_bit(
    depth_loss: DepthLoss,
) -> None:
    batch = small_batch(0, 1)
    predictions, targets, context = said(batch), CODEC.targets(batch), context_of(batch)
    term = make_objective(CODEC, depth_loss=depth_loss)(predictions, batch, context).terms["depth"]
    name, target = "log_depth", targets.log_depth
    if depth_loss == "smooth_l1_m":
        name, target = "depth_m", targets.depth_m
    losses = smooth_l1(predictions.responses[name].gather(1, targets.index), target, beta=1 / 9)
    plain = (losses * targets.valid).sum() * (1 / context.num_samples)
    assert torch.equal(term, plain)


def test_during_warm_up_gmm_equals_none() -> None:
    batch = small_batch(0, 1)
    predictions, context = said(batch), context_of(batch, progress=0.5)
    none = make_objective(CODEC)(predictions, batch, context).terms
    gmm = make_objective(CODEC, mining=GmmMining(warmup_epochs=1.0))(predictions, batch, context)
    assert all(torch.equal(none[name], gmm.terms[name]) for name in TERMS)
    assert gmm.statistics["mining/median_error"] > 0


def test_mining_changes_the_depth_term_only() -> None:
    batch = small_batch(0, 1)
    predictions, context = said(batch), context_of(batch, progress=5.0, with_statistics=True)
    none = make_objective(CODEC)(predictions, batch, context).terms
    gmm = make_objective(CODEC, mining=GmmMining())(predictions, batch, context)
    for name in TERMS:
        assert torch.equal(none[name], gmm.terms[name]) == (name != "depth"), name
    assert gmm.statistics["mining/weight_mean"].item() == pytest.approx(1.0, abs=1e-5)
    assert "mining/weight_share/class_pedestrian" in gmm.statistics


def test_the_memory_of_mining_moves_in_training_only_and_is_saved() -> None:
    batch = small_batch(0, 1)
    predictions, context = said(batch), context_of(batch, progress=5.0)
    objective = make_objective(CODEC, mining=GmmMining())
    objective.eval()(predictions, batch, context)
    assert objective.mining_steps == 0
    objective.train()(predictions, batch, context)
    assert objective.mining_steps == 1
    assert objective.mining_median_error > 0
    assert set(objective.state_dict()) == {"mining_median_error", "mining_steps"}


def test_padding_does_not_teach_uncertainty() -> None:
    """Twice the capacity is twice the padding, and the same loss for sigma."""
    frame = FramesInMemory(1)[0]
    losses = []
    for capacity in (48, 96):
        codec = make_codec(max_positives=capacity)
        batch = make_batch([frame], codec)
        assert batch.positives.valid.sum() < 48
        responses = {k: v.detach() for k, v in said(batch, has_uncertainty=True).responses.items()}
        responses["log_sigma"].requires_grad_()
        output = make_objective(codec, depth_loss="laplace")(
            Predictions(responses=responses), batch, context_of(batch)
        )
        (gradient,) = torch.autograd.grad(output.terms["depth"], responses["log_sigma"])
        learning = set(gradient[0].nonzero()[:, 0].tolist())
        positives = batch.positives
        assert learning == set(positives.index[positives.valid].tolist())
        losses.append(output.terms["depth"])
    torch.testing.assert_close(losses[0], losses[1])


class Recorder(Uniform):
    """Equal weights; keeps the samples that it is shown."""

    def __init__(self) -> None:
        self.seen: list[DepthSamples] = []

    def weigh(self, samples: DepthSamples, state: MiningState, progress: float) -> MinedWeights:
        self.seen.append(samples)
        return super().weigh(samples, state, progress)


@pytest.mark.parametrize(
    ("depth_loss", "options"),
    [
        ("smooth_l1_log", {}),
        ("smooth_l1_log", {"num_depth_bins": 4}),
        ("smooth_l1_m", {}),
        ("smooth_l1_m", {"num_depth_bins": 4}),
        ("laplace", {"has_uncertainty": True}),
        ("laplace", {"has_uncertainty": True, "num_depth_bins": 4}),
    ],
)
def test_the_gradient_given_to_mining_is_that_on_the_raw_output(
    depth_loss: DepthLoss, options: dict[str, Any]
) -> None:
    """By finite differences on the regression branch's bias, with one point that learns."""
    codec, recorder = make_codec(max_positives=1), Recorder()
    batch = make_batch([FramesInMemory(1)[0]], codec)
    detector = make_detector(**options).eval()
    objective = make_objective(codec, depth_loss=depth_loss, mining=recorder)

    def loss_at(bias: float) -> float:
        detector.box_branches.set_bias("log_depth", bias)
        with torch.no_grad():
            return float(objective(detector(batch), batch, context_of(batch)).terms["depth"])

    step = 0.01
    difference = (loss_at(step) - loss_at(-step)) / (2 * step)
    loss_at(0.0)
    assert recorder.seen[-1].gradient.tolist() == pytest.approx([abs(difference)], rel=0.02)


def test_each_term_alone_reaches_the_first_convolution() -> None:
    batch = make_batch([surround_frame(0)], CODEC)
    detector = make_detector(has_uncertainty=True)
    objective = make_objective(CODEC, depth_loss="laplace")
    first = next(p for p in detector.trunk.backbone.parameters() if p.dim() == 4)
    terms = objective(detector(batch), batch, context_of(batch)).terms
    assert set(terms) == set(TERMS)
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, first, retain_graph=True)
        assert gradient.abs().sum() > 0, name


def test_dense_depth_by_hand() -> None:
    """One image with two known cells: errors of 0.5 and 0 in log depth, one image of two known."""
    batch = small_batch(0, 1)
    depth_targets = torch.zeros(2, 1, 8, 12)
    depth_targets[0, 0, 2, 3] = depth_targets[0, 0, 2, 4] = math.exp(2.5)
    batch = replace(batch, depth_targets=depth_targets)
    predictions = said(batch)
    depth_map = torch.zeros(2, 8, 12)
    depth_map[0, 2, 3] = 0.5
    predictions = replace(predictions, responses={**predictions.responses, "depth_map": depth_map})
    term = make_objective(CODEC)(predictions, batch, context_of(batch)).terms["depth_map"]
    assert term.item() == pytest.approx((0.5 - SMOOTH_L1_BETA / 2) / 2 / 2, rel=1e-4)


def test_unknown_velocities_and_attributes_are_not_learnt() -> None:
    frame = FramesInMemory(1)[0]
    assert frame.boxes_cam is not None
    unknown = replace(frame.boxes_cam[0], velocity=torch.full((3, 2), torch.nan))
    batch = make_batch([replace(frame, boxes_cam=(unknown,), boxes_bev=unknown)], CODEC)
    terms = make_objective(CODEC)(said(batch), batch, context_of(batch)).terms
    assert terms["velocity"] == 0
    assert terms["attribute"] == 0
    assert terms["axis"] > 0


def test_low_precision_responses_are_judged_in_float32() -> None:
    batch = small_batch(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictions = said(batch)
    assert predictions.responses["offset"].dtype == torch.bfloat16
    output = make_objective(CODEC, mining=MINED)(predictions, batch, context_of(batch))
    assert all(value.dtype == torch.float32 for value in output.terms.values())
    assert total(output).isfinite()
