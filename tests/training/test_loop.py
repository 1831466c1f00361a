"""The loop: it learns, it never waits for the device, and a bad step changes nothing."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mono3d.objectives.protocol import ObjectiveOutput
from mono3d.structures import Batch
from mono3d.tracking.records import MetricRecord
from mono3d.training.loop import StepMeter, fit, step_context, train_step
from mono3d.training.parts import Place, RunParts
from mono3d.training.state import TrainState, WeightAverage
from tests.support.host_sync import NoHostSync
from tests.support.training import CENTER, no_evaluation, state_digests, tiny_config, tiny_parts

FAMILIES: dict[str, dict[str, object]] = {"dense": {}, "center": CENTER}


def tiny_state(**overrides: object) -> tuple[TrainState, list[Batch]]:
    """A state in training mode before its first step, and some batches of two frames."""
    parts = tiny_parts(tiny_config(**overrides), Place())
    parts.state.module.train()
    batches = [batch for _, batch in zip(range(4), parts.loader.epoch(0), strict=False)]
    return parts.state, batches


def step(state: TrainState, batches: list[Batch], **changes: Any) -> ObjectiveOutput:
    how = {"max_grad_norm": 35.0, "progress": 3.0, "with_statistics": False, **changes}
    return train_step(state, batches, **how)


def total(output: ObjectiveOutput) -> float:
    return float(torch.stack(list(output.terms.values())).sum())


def nan_batch(batch: Batch) -> Batch:
    """Labels that no loss survives."""
    dims = torch.full_like(batch.boxes_cam.dims_hwl, torch.nan)
    return replace(batch, boxes_cam=replace(batch.boxes_cam, dims_hwl=dims))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_twenty_steps_lower_the_loss(family: dict[str, object]) -> None:
    state, batches = tiny_state(**family)
    state.schedule, state.peak_lr = (lambda step: 1.0), 1e-2
    losses = [total(step(state, batches[:2])) for _ in range(20)]
    assert losses[-1] < 0.6 * losses[0]
    assert state.step == 20
    assert state.skipped == 0


@pytest.mark.parametrize("with_statistics", [False, True])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("mining", ["none", "gmm"])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_step_never_waits_for_the_device(
    family: dict[str, object], optimiser: str, mining: str, with_statistics: bool
) -> None:
    """Forward, backward, clipping, optimiser, average, mining and its statistics, metrics kept."""
    state, batches = tiny_state(optim__kind=optimiser, mining__kind=mining, **family)
    meter = StepMeter(10)
    step(state, batches[:2], with_statistics=True)
    with NoHostSync():
        output = step(state, batches[2:], with_statistics=with_statistics)
        assert meter.add(state, output, num_images=4) is None
    assert ("mining/weight_mean" in output.statistics) == with_statistics
    assert state.skipped == 0


def test_no_option_of_the_detector_makes_a_step_wait_for_the_device() -> None:
    state, batches = tiny_state(
        model__num_depth_bins=4, model__has_uncertainty=True, loss__depth_loss="laplace",
        model__ground={"height_m": 0.0},
    )  # fmt: skip
    step(state, batches[:2])
    with NoHostSync():
        output = step(state, batches[2:], with_statistics=True)
    assert all(value.isfinite() for value in output.terms.values())


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_statistics_of_the_iou_term_are_those_of_the_last_step(family: dict[str, object]) -> None:
    state, batches = tiny_state(iou_loss__kind="gciou", iou_loss__warmup_epochs=0, **family)
    meter = StepMeter(2)
    outputs = [step(state, batches[:2], with_statistics=last) for last in (False, True)]
    state.step = 1
    assert meter.add(state, outputs[0], num_images=4) is None
    state.step = 2
    record = meter.add(state, outputs[1], num_images=4)
    assert record is not None
    found = {k: v for k, v in record.metrics.items() if k.startswith("iou_loss/")}
    assert found == pytest.approx(
        {k: float(v) for k, v in outputs[1].statistics.items() if k.startswith("iou_loss/")}
    )
    assert len(found) == 10
    assert record.metrics["loss/iou"] > 0


def test_metrics_cross_in_one_transfer_when_they_are_due() -> None:
    state, batches = tiny_state()
    meter = StepMeter(1)
    output = step(state, batches[:2])
    with pytest.raises(AssertionError, match=r"tolist waits"), NoHostSync():
        meter.add(state, output, num_images=4)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_gradient_that_is_not_finite_changes_nothing(optimiser: str) -> None:
    """Weights, batch statistics, mining, optimiser and average; one micro-batch is enough."""
    state, batches = tiny_state(optim__kind=optimiser)
    step(state, batches[:2])
    before = state_digests(state)
    output = step(state, [batches[2], nan_batch(batches[3])])
    assert not output.statistics["grad_norm"].isfinite()
    assert state_digests(state) == before
    assert state.skipped == 1
    assert state.step == 2
    step(state, batches[2:])
    assert state.skipped == 1
    after = state_digests(state)
    assert all(after[name] != digest for name, digest in before.items())


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_bad_first_step_might_as_well_not_have_been(optimiser: str) -> None:
    ends = []
    for first_is_bad in (True, False):
        state, batches = tiny_state(optim__kind=optimiser)
        state.schedule = lambda step: 1.0
        state.ema = WeightAverage(state.train_module.student, 0.0)
        if first_is_bad:
            step(state, [nan_batch(batch) for batch in batches[:2]])
        step(state, batches[2:])
        ends.append(state_digests(state))
    assert ends[0] == ends[1]


def test_micro_batches_step_like_one_batch() -> None:
    """Batch norms apart, which see micro-batches."""
    ends: list[dict[str, Tensor]] = []
    for size in (1, 2, 4):
        state, batches = tiny_state(
            optim__kind="sgd", mining__kind="none", train__batch_size=4 // size,
            input__flip_probability=0.0, input__brightness_jitter=0.0, input__contrast_jitter=0.0,
        )  # fmt: skip
        state.module.eval()
        state.schedule, state.peak_lr = (lambda step: 1.0), 1e-2
        frames = [name for batch in batches[:size] for name in batch.frame_ids]
        output = step(state, batches[:size])
        ends.append({**state.train_module.state_dict(), "loss": torch.tensor(total(output))})
        assert len(set(frames)) == 4
    for other in ends[1:]:
        for name, value in ends[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-6)


def test_samples_are_counted_over_all_micro_batches() -> None:
    state, batches = tiny_state()
    context = step_context(state, batches, progress=1.5, with_statistics=True)
    wanted = sum(int(batch.positives.valid.sum()) for batch in batches)
    assert context.num_samples == wanted
    assert context.num_images == 8
    assert context.world_size == 1
    unlabelled = replace(batches[0].positives, valid=torch.zeros_like(batches[0].positives.valid))
    empty = replace(batches[0], positives=unlabelled)
    assert step_context(state, [empty], progress=0.0, with_statistics=False).num_samples == 1


def test_the_learning_rate_follows_the_schedule() -> None:
    state, batches = tiny_state(schedule__warmup_steps=4, optim__lr=1e-3)
    rates = []
    for _ in range(4):
        step(state, batches[:2])
        rates.append(state.optimizer.param_groups[0]["lr"])
    # 4 frames a step for a reference of 16.
    assert rates == pytest.approx([1e-3 / 4 * share for share in (0.25, 0.5, 0.75, 1.0)])


def test_gradients_are_clipped() -> None:
    state, batches = tiny_state(optim__kind="sgd", optim__weight_decay=0.0)
    state.schedule, state.peak_lr = (lambda step: 1.0), 1.0
    before = {n: p.detach().clone() for n, p in state.module.named_parameters()}
    output = step(state, batches[:2], max_grad_norm=1e-3)
    assert output.statistics["grad_norm"] > 1e-3
    moved = [(p - before[n]).square().sum() for n, p in state.module.named_parameters()]
    assert torch.stack(moved).sum().sqrt().item() == pytest.approx(1e-3, rel=1e-3)


@dataclass
class Notes:
    """An observer that remembers."""

    records: list[MetricRecord] = field(default_factory=list)
    saves: list[tuple[int, int, int, bool]] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)

    def on_records(self, state: TrainState, record: MetricRecord) -> None:
        self.records.append(record)

    def on_evaluate(self, state: TrainState) -> None:
        self.evaluated.append(state.epoch)

    def on_save(
        self, state: TrainState, metrics: Mapping[str, float], *, epoch_ended: bool
    ) -> None:
        self.saves.append((state.step, state.epoch, state.batch, epoch_ended))


def fitted(parts: RunParts) -> Notes:
    notes = Notes()
    fit(parts.state, parts.loader, parts.plan, evaluate=no_evaluation, observer=notes)
    return notes


@pytest.mark.parametrize(
    ("answers", "asked", "epochs"),
    [
        ([True, True], [1, 2], 3),  # the last evaluation is nobody's question
        ([True, False], [1, 2], 2),
        ([False], [1], 1),
    ],
)
def test_a_fit_asks_after_each_evaluation_whether_it_goes_on(
    answers: list[bool], asked: list[int], epochs: int
) -> None:
    parts = tiny_parts(tiny_config(train__epochs=3, train__epoch_frames=4), Place())
    notes, questions, left = Notes(), [], list(answers)

    def goes_on(state: TrainState, metrics: Mapping[str, float]) -> bool:
        assert metrics == {"val/score": float(state.epoch)}
        assert notes.saves[-1][1] == state.epoch  # it has been kept before
        questions.append(state.epoch)
        return left.pop(0)

    fit(
        parts.state,
        parts.loader,
        parts.plan,
        evaluate=lambda state: {"val/score": float(state.epoch)},
        observer=notes,
        goes_on=goes_on,
    )
    assert (questions, parts.state.epoch) == (asked, epochs)


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_restored_state_that_was_evaluated_is_asked_about_first(goes_on: bool) -> None:
    parts = tiny_parts(tiny_config(train__epochs=3, train__epoch_frames=4), Place())
    parts.state.epoch = 2
    questions: list[Mapping[str, float]] = []

    def asked(state: TrainState, metrics: Mapping[str, float]) -> bool:
        questions.append(metrics)
        return goes_on

    fit(
        parts.state,
        parts.loader,
        parts.plan,
        evaluate=no_evaluation,
        observer=Notes(),
        goes_on=asked,
        evaluated={"val/score": 0.5},
    )
    assert questions == [{"val/score": 0.5}]
    assert parts.state.epoch == (3 if goes_on else 2)


def test_a_fit_trains_saves_and_evaluates_when_due() -> None:
    """14 frames are 7 batches of 2, 3 steps of 2 batches; the seventh batch is left out."""
    config = tiny_config(
        train__epoch_frames=14, train__epochs=3, checkpoint__every_steps=2,
        evaluation__every_epochs=2, train__log_every_steps=2,
    )  # fmt: skip
    parts = tiny_parts(config, Place())
    notes = fitted(parts)
    assert parts.state.step == 9
    assert [record.step for record in notes.records] == [2, 4, 6, 8]
    assert notes.evaluated == [2, 3]
    assert notes.saves == [
        (2, 0, 4, False), (3, 1, 0, True), (4, 1, 2, False), (6, 2, 0, True), (8, 2, 4, False),
        (9, 3, 0, True),
    ]  # fmt: skip
    first = notes.records[0].metrics
    assert {"loss/total", "loss/depth", "train/lr", "train/images_per_s", "train/grad_norm",
            "train/skipped_steps", "mining/weight_mean"} <= set(first)  # fmt: skip
    terms = [value for name, value in first.items() if name.startswith("loss/")]
    assert sum(terms) == pytest.approx(2 * first["loss/total"], rel=1e-5)


def test_metrics_are_means_over_their_interval() -> None:
    state, _ = tiny_state()
    meter = StepMeter(2)
    records = []
    for number, loss in enumerate([1.0, 3.0, 10.0, 20.0]):
        state.step = number + 1
        output = ObjectiveOutput(
            terms={"depth": torch.tensor(loss), "dims": torch.tensor(2 * loss)},
            statistics={"grad_norm": torch.tensor(loss), "mining/blend": torch.tensor(loss)},
        )
        records.append(meter.add(state, output, num_images=4))
    assert records[0] is None
    assert records[2] is None
    assert records[1] is not None
    assert records[3] is not None
    assert records[1].metrics["loss/depth"] == 2.0
    assert records[1].metrics["loss/total"] == 6.0
    assert records[1].metrics["train/grad_norm"] == 2.0
    assert records[1].metrics["mining/blend"] == 3.0  # of the last step
    assert records[3].metrics["loss/depth"] == 15.0
    assert records[3].step == 4


def test_the_wait_for_batches_is_a_share_of_the_interval() -> None:
    state, _ = tiny_state()
    meter = StepMeter(1)
    shares = []
    for number, wait_s in enumerate([0.1, 0.0]):
        with meter.waiting():
            time.sleep(wait_s)
        time.sleep(0.1)
        state.step = number + 1
        record = meter.add(state, ObjectiveOutput(terms={"depth": torch.zeros(())}), num_images=4)
        assert record is not None
        shares.append(record.metrics["train/data_wait_share"])
    assert 0.1 < shares[0] < 0.9
    assert 0 <= shares[1] < 0.1


def test_what_is_not_training_does_not_slow_images_per_second() -> None:
    state, _ = tiny_state()
    meter = StepMeter(1)
    with meter.paused():
        time.sleep(0.2)
    state.step = 1
    record = meter.add(state, ObjectiveOutput(terms={"depth": torch.zeros(())}), num_images=100)
    assert record is not None
    assert record.metrics["train/images_per_s"] > 100 / 0.2
