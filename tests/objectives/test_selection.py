"""Learnt selection: its weights by hand, what it learns from, and when it has nothing to do."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mono3d.objectives.detection import PointObjective
from mono3d.objectives.selection import Selection
from mono3d.structures import Batch
from tests.support.detectors import (
    context_of,
    make_center_detector,
    make_center_objective,
    make_detector,
    make_objective,
)
from tests.support.frames import FramesInMemory, make_batch, make_center_codec, make_codec
from tests.support.host_sync import NoHostSync

AT_ONCE = Selection(warmup_epochs=0.0, ramp_epochs=0.0)
IDS = torch.tensor([[3, 3, 0, 3, 0, 5], [1, 1, 1, 1, 1, 2]])
VALID = torch.tensor([[True] * 6, [True, True, False, False, False, False]])


def weigh(selection: Selection, logits: Tensor, *, progress: float = 9.0, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return selection.weigh(logits, IDS, VALID, num_slots=6, progress=progress)


def of_object(weights: Tensor, image: int, number: int) -> Tensor:
    return weights[image][(IDS[image] == number) & VALID[image]]


def test_weights_are_a_softmax_of_noisy_scores_times_the_objects_samples() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0, -1.0, 0.5, 4.0], [0.0] * 6])
    torch.manual_seed(7)
    noise = -torch.empty_like(logits).exponential_().log()
    weights = weigh(Selection(temperature=0.5, warmup_epochs=0.0, ramp_epochs=0.0), logits, seed=7)
    for image, number in ((0, 3), (0, 0), (0, 5), (1, 1)):
        members = (IDS[image] == number) & VALID[image]
        scores = ((logits + noise)[image][members] / 0.5).exp()
        expected = scores / scores.sum() * len(scores)
        torch.testing.assert_close(of_object(weights, image, number), expected)


def test_weights_have_mean_one_over_each_object_and_are_zero_on_padding() -> None:
    weights = weigh(AT_ONCE, torch.randn(2, 6))
    for image, number in ((0, 3), (0, 0), (0, 5), (1, 1)):
        assert of_object(weights, image, number).mean() == pytest.approx(1, abs=1e-6)
    assert weights[~VALID].eq(0).all()


def test_without_noise_to_speak_of_the_best_score_gets_all() -> None:
    logits = torch.tensor([[0.0, 1e4, 0.0, 0.0, -1e4, 0.0], [-1e4, 0.0, 1e9, 0.0, 0.0, 0.0]])
    assert weigh(AT_ONCE, logits).tolist() == [[0, 3, 2, 0, 0, 1], [0, 2, 0, 0, 0, 0]]


def test_the_noise_is_gumbels() -> None:
    """Of two samples with scores 1 apart the better wins with probability 1 / (1 + 1/e)."""
    count = 20000
    ids, valid = torch.zeros(count, 2, dtype=torch.int64), torch.ones(count, 2, dtype=torch.bool)
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, 1.0]]).expand(count, 2)
    weights = AT_ONCE.weigh(logits, ids, valid, num_slots=1, progress=0.0)
    share = (weights[:, 1] > weights[:, 0]).float().mean()
    assert float(share) == pytest.approx(1 / (1 + math.exp(-1)), abs=0.015)


def test_warm_up_is_exactly_equal_and_the_ramp_half_way() -> None:
    selection, logits = Selection(), torch.randn(2, 6)
    before, full = weigh(selection, logits, progress=0.9), weigh(selection, logits)
    assert torch.equal(before, VALID.float())
    half = weigh(selection, logits, progress=1.5)
    torch.testing.assert_close(half, (full + VALID) / 2)


def test_a_seed_fixes_the_weights() -> None:
    logits = torch.randn(2, 6)
    assert torch.equal(weigh(AT_ONCE, logits), weigh(AT_ONCE, logits))
    assert not torch.equal(weigh(AT_ONCE, logits), weigh(AT_ONCE, logits, seed=1))


def test_the_gradient_is_that_of_the_formula() -> None:
    logits = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: weigh(AT_ONCE, x), (logits,))


def test_nothing_to_select_from() -> None:
    none = torch.zeros(2, 4, dtype=torch.bool)
    logits = torch.randn(2, 4, requires_grad=True)
    ids = torch.zeros(2, 4, dtype=torch.int64)
    weights = AT_ONCE.weigh(logits, ids, none, num_slots=1, progress=0.0)
    assert weights.eq(0).all()
    weights.sum().backward()
    assert logits.grad is not None
    assert logits.grad.eq(0).all()


def test_no_host_synchronisation() -> None:
    logits = torch.randn(2, 6)
    with NoHostSync():
        AT_ONCE.weigh(logits, IDS, VALID, num_slots=6, progress=0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 0.0), ("temperature", math.inf), ("warmup_epochs", -1.0),
     ("ramp_epochs", float("nan"))],
)  # fmt: skip
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"Selection: {name}={value!r} is out of range"):
        Selection(**{name: value})


DENSE, CENTER = make_codec(), make_center_codec()


def dense(**options: Any) -> tuple[PointObjective, torch.nn.Module, Batch]:
    """Objective, detector and a batch of two frames."""
    laplace = options.get("has_uncertainty", False)
    objective = make_objective(
        DENSE, depth_loss="laplace" if laplace else "smooth_l1_log", selection=AT_ONCE
    )
    batch = make_batch([FramesInMemory(2)[i] for i in range(2)], DENSE)
    return objective, make_detector(has_selection=True, **options), batch


def scores_gradient(objective: PointObjective, detector: torch.nn.Module, batch: Batch) -> Tensor:
    torch.manual_seed(0)
    predictions = detector(batch)
    depth = objective(predictions, batch, context_of(batch)).terms["depth"]
    scores = predictions.responses["selection_logits"]
    (gradient,) = torch.autograd.grad(depth, scores, retain_graph=True)
    return gradient


@pytest.mark.parametrize("options", [{}, {"has_uncertainty": True}, {"num_depth_bins": 4}], ids=str)
def test_the_depth_loss_teaches_the_scores_of_the_positives(options: dict[str, Any]) -> None:
    objective, detector, batch = dense(**options)
    gradient = scores_gradient(objective, detector, batch)
    targets = DENSE.targets(batch)
    at_positives = torch.zeros_like(gradient).scatter(1, targets.index, targets.valid.float())
    assert gradient[at_positives == 0].eq(0).all()
    assert gradient[at_positives == 1].abs().sum() > 0
    # A softmax: what one sample of an object gains, the others lose.
    assert gradient.sum() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("options", [{}, {"has_uncertainty": True}], ids=str)
def test_scores_learn_to_prefer_what_the_network_gets_right(options: dict[str, Any]) -> None:
    """Fixed answers, of which each object has good and bad ones: only the branch learns."""
    objective, detector, batch = dense(**options)
    targets = DENSE.targets(batch)
    torch.manual_seed(0)
    predictions = detector(batch)
    responses = {name: value.detach() for name, value in predictions.responses.items()}
    wrong = torch.arange(targets.index.shape[1]) % 2 == 0
    answer = targets.log_depth + 2.0 * wrong
    responses["log_depth"] = responses["log_depth"].scatter(1, targets.index, answer)
    scores = torch.zeros_like(responses["selection_logits"], requires_grad=True)
    optimizer = torch.optim.SGD([scores], lr=30.0)
    for _ in range(30):
        said = type(predictions)(responses={**responses, "selection_logits": scores})
        depth = objective(said, batch, context_of(batch)).terms["depth"]
        optimizer.zero_grad()
        depth.backward()
        optimizer.step()
    learnt = scores.detach().gather(1, targets.index)
    good, bad = learnt[targets.valid & ~wrong], learnt[targets.valid & wrong]
    assert good.mean() > bad.mean() + 1


def test_without_its_branch_or_in_evaluation_all_count_alike() -> None:
    objective, detector, batch = dense()
    predictions = detector.eval()(batch)
    assert "selection_logits" not in predictions.responses
    selected = objective(predictions, batch, context_of(batch)).terms
    plain = make_objective(DENSE)(predictions, batch, context_of(batch)).terms
    assert all(torch.equal(selected[name], plain[name]) for name in plain)


def test_statistics_are_those_of_the_selected_weights() -> None:
    objective, detector, batch = dense()
    context = context_of(batch, with_statistics=True)
    statistics = objective(detector(batch), batch, context).statistics
    assert statistics["mining/weight_mean"].item() == pytest.approx(1, abs=1e-5)
    assert statistics["mining/effective_share"] < 0.9
    assert statistics["mining/blend"] == 1
    assert not any(value.requires_grad for value in statistics.values())


def test_with_one_sample_an_object_it_changes_nothing() -> None:
    batch = make_batch([FramesInMemory(2)[i] for i in range(2)], CENTER)
    detector = make_center_detector(has_selection=True)
    predictions = detector(batch)
    context = context_of(batch)
    selected = make_center_objective(CENTER, selection=AT_ONCE)(predictions, batch, context).terms
    plain = make_center_objective(CENTER)(predictions, batch, context).terms
    assert all(torch.equal(selected[name], plain[name]) for name in plain)
    scores = predictions.responses["selection_logits"]
    (gradient,) = torch.autograd.grad(selected["depth"], scores)
    assert gradient.eq(0).all()
