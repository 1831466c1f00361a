"""The IoU term of an objective: beside the depth loss, in both families, reaching every part."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.profiler import profile

from mono3d.codec.center import CenterCodec
from mono3d.codec.dense import DenseCodec
from mono3d.config.iou_sections import ChosenIouLoss
from mono3d.objectives.center import CenterObjective
from mono3d.objectives.dense import DenseObjective
from mono3d.objectives.detection import PointObjective
from mono3d.objectives.iou_term import IouTerm
from mono3d.objectives.losses.gciou import GciouLoss
from mono3d.objectives.losses.iou import BoxPairs, diou_loss, iou_loss
from mono3d.objectives.mining.uniform import Uniform
from mono3d.objectives.protocol import ObjectiveOutput
from mono3d.objectives.weights import LossWeights
from mono3d.structures import Batch, Predictions
from mono3d.training.loop import train_step
from mono3d.training.parts import Place
from mono3d.training.state import TrainState
from tests.support.detectors import context_of, make_center_detector, make_detector
from tests.support.frames import (
    FramesInMemory,
    make_batch,
    make_center_codec,
    make_codec,
    surround_frame,
)
from tests.support.host_sync import NoHostSync
from tests.support.training import CENTER, tiny_config, tiny_parts

KINDS = [kind.model_fields["kind"].default for kind in get_args(ChosenIouLoss)]
CONFIGS: dict[str, dict[str, object]] = {"dense": {}, "center": CENTER}
AT_ONCE = {"iou_loss__warmup_epochs": 0, "iou_loss__ramp_epochs": 0}


@dataclass(frozen=True)
class Family:
    codec: DenseCodec | CenterCodec
    detector: Callable[[Batch], Predictions]
    kind: type[DenseObjective] | type[CenterObjective]
    heading: str
    """Response that says the heading by a number; the choice beside it has no gradient."""
    choice: str

    def objective(self, term: IouTerm | None) -> PointObjective:
        return self.kind(
            codec=self.codec,
            class_names=("car", "pedestrian"),
            mining=Uniform(),
            weights=LossWeights(),
            depth_loss="smooth_l1_log",
            iou_term=term,
        )

    def batch(self) -> Batch:
        return make_batch([FramesInMemory(40)[0], FramesInMemory(40)[1]], self.codec)

    def truth(self, batch: Batch) -> Predictions:
        """What a network says that is right at every positive; there only, with a gradient."""
        answers, targets = self.detector(batch).responses, self.codec.targets(batch)
        said = {
            "offset": targets.offset,
            "depth_m": targets.depth_m,
            "log_depth": targets.log_depth,
            "log_dims": targets.log_dims,
            **self.codec.heading.encode(targets.alpha),
        }
        responses = {name: value.detach().clone() for name, value in answers.items()}
        for name, value in said.items():
            for image, point in targets.valid.nonzero().tolist():
                responses[name][image, targets.index[image, point]] = value[image, point]
        return Predictions(responses={n: v.requires_grad_() for n, v in responses.items()})


FAMILIES = {
    "dense": Family(make_codec(), make_detector().eval(), DenseObjective, "axis", "direction"),
    "center": Family(
        make_center_codec(),
        make_center_detector().eval(),
        CenterObjective,
        "heading_residuals",
        "heading_bins",
    ),
}
each_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def shifted(predictions: Predictions, **changes: float) -> Predictions:
    """Responses with something added, at every point."""
    responses = {
        name: (value.detach() + changes.get(name, 0.0)).requires_grad_()
        for name, value in predictions.responses.items()
    }
    return Predictions(responses=responses)


def output_of(
    family: Family, term: IouTerm | None, predictions: Predictions, batch: Batch
) -> ObjectiveOutput:
    context = context_of(batch, progress=3.0, with_statistics=True)
    output: ObjectiveOutput = family.objective(term)(predictions, batch, context)
    return output


def tiny_state(**overrides: object) -> tuple[TrainState, list[Batch]]:
    parts = tiny_parts(tiny_config(**overrides), Place())
    parts.state.module.train()
    batches = [batch for _, batch in zip(range(2), parts.loader.epoch(0), strict=False)]
    return parts.state, batches


def steps(state: TrainState, batches: list[Batch], count: int) -> list[ObjectiveOutput]:
    return [
        train_step(state, batches, max_grad_norm=35.0, progress=3.0, with_statistics=True)
        for _ in range(count)
    ]


@cache
def step_without(family: str) -> tuple[ObjectiveOutput, set[str]]:
    """A first step without an IoU loss, and what such a state holds."""
    state, batches = tiny_state(**CONFIGS[family])
    return steps(state, batches, 1)[0], set(state.module.state_dict())


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_loss_joins_a_step_of_each_family_without_changing_another_term(
    kind: str, family: str
) -> None:
    state, batches = tiny_state(iou_loss__kind=kind, **AT_ONCE, **CONFIGS[family])
    without, held = step_without(family)
    with NoHostSync():
        (output,) = steps(state, batches, 1)
    assert set(output.terms) == {*without.terms, "iou"}
    for name, value in without.terms.items():
        assert torch.equal(output.terms[name], value), name
    assert output.terms["iou"] > 0
    assert output.terms["depth"] > 0
    assert state.skipped == 0
    assert not [name for name in without.statistics if name.startswith("iou_loss/")]
    assert set(state.module.state_dict()) == held  # the term has nothing to resume


@pytest.mark.parametrize("family", CONFIGS)
def test_a_few_steps_lower_the_term_and_the_depth_loss(family: str) -> None:
    state, batches = tiny_state(
        iou_loss__kind="gciou", iou_loss__weight=0.2, **AT_ONCE, **CONFIGS[family]
    )
    state.schedule, state.peak_lr = (lambda step: 1.0), 5e-3
    outputs = steps(state, batches, 24)
    for name in ("iou", "depth"):
        first, last = outputs[0].terms[name], outputs[-1].terms[name]
        assert last < 0.7 * first, name
    shares = [output.statistics["iou_loss/share_overlapping"] for output in outputs]
    assert shares[-1] > shares[0] + 0.2


@pytest.mark.parametrize("family", CONFIGS)
def test_a_backward_pass_reads_nothing_on_the_host(family: str) -> None:
    """The operations themselves: a mode that forbids them takes other ways through some."""
    state, batches = tiny_state(iou_loss__kind="gciou", **AT_ONCE, **CONFIGS[family])
    steps(state, batches, 1)
    context = context_of(*batches, progress=3.0)
    output = state.module(batches[0], context)
    with profile() as profiler:
        again = state.module(batches[0], context).terms["iou"]
        again.backward(retain_graph=True)
    del output
    assert "aten::_local_scalar_dense" not in {event.key for event in profiler.key_averages()}


@each_family
def test_right_answers_cost_nothing_and_overlap_in_full(family: Family) -> None:
    batch = family.batch()
    output = output_of(family, IouTerm(loss=GciouLoss()), family.truth(batch), batch)
    assert output.terms["iou"].item() == pytest.approx(0.0, abs=1e-3)
    assert output.statistics["iou_loss/share_overlapping"] == 1
    assert output.statistics["iou_loss/mean_iou"].item() == pytest.approx(1.0, abs=1e-3)


@each_family
def test_every_part_of_a_box_gets_a_gradient_and_the_choices_none(family: Family) -> None:
    batch = family.batch()
    said = shifted(family.truth(batch), offset=0.05, depth_m=0.2, log_dims=0.1)
    said.responses[family.heading].data += 0.2
    output = output_of(family, IouTerm(loss=GciouLoss()), said, batch)
    output.terms["iou"].backward()
    reached = {
        name
        for name, value in said.responses.items()
        if value.grad is not None and value.grad.abs().sum() > 0
    }
    assert reached == {"offset", "depth_m", "log_dims", family.heading}
    targets = family.codec.targets(batch)
    for name in reached:
        gradient = said.responses[name].grad
        assert gradient is not None
        taught = gradient.flatten(2).abs().sum(-1) if gradient.dim() > 2 else gradient.abs()
        points = torch.zeros_like(taught).scatter_reduce(
            1, targets.index, targets.valid.float(), "amax"
        )
        assert torch.equal(taught > 0, points > 0), name
    assert family.choice in said.responses


@each_family
def test_depth_alignment_judges_all_but_depth(family: Family) -> None:
    batch = family.batch()
    aligned = IouTerm(loss=GciouLoss(), depth_aligned=True)
    too_far = shifted(family.truth(batch), depth_m=3.0, log_depth=0.3)
    assert output_of(family, IouTerm(loss=GciouLoss()), too_far, batch).terms["iou"] > 0.5
    output = output_of(family, aligned, too_far, batch)
    assert output.terms["iou"].item() == pytest.approx(0.0, abs=1e-3)
    assert output.statistics["iou_loss/gradient_depth"] == 0
    assert output.terms["depth"] > 0
    wrong = shifted(too_far, offset=0.05, log_dims=0.1)
    wrong.responses[family.heading].data += 0.2
    found = output_of(family, aligned, wrong, batch).statistics
    for part in ("offset", "dims", "heading"):
        assert found[f"iou_loss/gradient_{part}"] > 0, part
    assert found["iou_loss/gradient_depth"] == 0


@each_family
def test_the_term_is_a_sum_over_the_positives_divided_by_all_samples(family: Family) -> None:
    batch = family.batch()
    predictions = family.detector(batch)
    seen: list[BoxPairs] = []

    def loss(pairs: BoxPairs) -> Tensor:
        seen.append(pairs)
        return diou_loss(pairs)

    objective = family.objective(IouTerm(loss=loss, weight=0.5))
    context = replace(context_of(batch), num_samples=torch.tensor(100.0), world_size=2)
    output = objective(predictions, batch, context)
    valid = family.codec.targets(batch).valid
    expected = 0.5 * 2 / 100 * diou_loss(seen[0])[valid].sum()
    torch.testing.assert_close(output.terms["iou"], expected)
    # Of an object of the mean size of its class it would be its volume.
    means = torch.tensor([[1.6, 1.8, 4.2], [1.7, 0.7, 0.8]])
    labels = family.codec.targets(batch).labels
    typical = means[labels][..., 0] * means[labels][..., 1] * means[labels][..., 2]
    torch.testing.assert_close(seen[0].typical_volume[valid], typical[valid])


@each_family
def test_nothing_labelled_gives_a_zero_with_a_graph(family: Family) -> None:
    frame = replace(FramesInMemory(1)[0], boxes_cam=None, boxes_bev=None)
    batch = make_batch([frame], family.codec)
    output = output_of(family, IouTerm(loss=GciouLoss()), family.detector(batch), batch)
    assert output.terms["iou"] == 0
    assert all(value.isfinite() for value in output.statistics.values())
    output.terms["iou"].backward()
    empty = make_batch([frame, surround_frame(0, cameras=1)], family.codec)
    alone = make_batch([surround_frame(0, cameras=1)], family.codec)
    predictions = family.detector(empty)
    last = Predictions(responses={n: v[1:] for n, v in predictions.responses.items()})
    both, one = (
        output_of(family, IouTerm(loss=GciouLoss()), said, labelled).terms["iou"]
        for said, labelled in ((predictions, empty), (last, alone))
    )
    torch.testing.assert_close(both, one)


@each_family
def test_statistics_are_the_gradients_of_the_term_and_of_all_others(family: Family) -> None:
    batch = family.batch()
    said = shifted(family.truth(batch), offset=0.05, depth_m=0.2, log_depth=0.02, log_dims=0.1)
    said.responses[family.heading].data += 0.2
    output = output_of(family, IouTerm(loss=iou_loss), said, batch)
    others = torch.stack([v for n, v in output.terms.items() if n != "iou"]).sum()
    parts = {"offset": "offset", "dims": "log_dims"}
    for prefix, loss in (("gradient", output.terms["iou"]), ("others_gradient", others)):
        for part, name in parts.items():
            (gradient,) = torch.autograd.grad(loss, said.responses[name], retain_graph=True)
            found = output.statistics[f"iou_loss/{prefix}_{part}"]
            torch.testing.assert_close(found, gradient.norm())
        assert output.statistics[f"iou_loss/{prefix}_depth"] > 0
        assert output.statistics[f"iou_loss/{prefix}_heading"] > 0
    with torch.no_grad():
        silent = output_of(family, IouTerm(loss=iou_loss), said, batch).statistics
    assert "iou_loss/mean_iou" in silent
    assert "iou_loss/gradient_depth" not in silent


def test_the_pull_on_depth_counts_in_the_coordinate_of_the_network() -> None:
    """Metres or log depth: whichever a loss reads, a response of the network moves both."""
    family = FAMILIES["dense"]
    batch = family.batch()
    raw = shifted(family.truth(batch), log_depth=0.1).responses["log_depth"]
    focal = torch.full((2, 1), 80.0)
    responses = dict(family.truth(batch).responses)
    responses |= {"log_depth": raw, "depth_m": family.codec.depth.decode(raw, focal)}
    output = output_of(family, IouTerm(loss=iou_loss), Predictions(responses=responses), batch)
    (gradient,) = torch.autograd.grad(output.terms["iou"], raw)
    torch.testing.assert_close(output.statistics["iou_loss/gradient_depth"], gradient.norm())


def test_the_term_waits_and_then_comes_in() -> None:
    family = FAMILIES["center"]
    batch = family.batch()
    predictions = family.detector(batch)
    term = IouTerm(loss=diou_loss, weight=2.0, warmup_epochs=3.0, ramp_epochs=2.0)
    assert [term.weight_at(epoch) for epoch in (0.0, 3.0, 4.0, 5.0, 9.0)] == [0, 0, 1.0, 2.0, 2.0]
    found = [
        family.objective(term)(predictions, batch, context_of(batch, progress=epoch)).terms["iou"]
        for epoch in (2.9, 4.0, 5.0)
    ]
    assert found[0] == 0
    torch.testing.assert_close(found[2], 2 * found[1])
