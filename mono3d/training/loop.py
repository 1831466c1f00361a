"""The training loop: plain PyTorch, one process or many, no Ray, no MLflow.

Nothing crosses to the host within a step; metrics cross together every `log_every_steps` steps.
`record_function` names the stages of a step for a profiler, and costs microseconds without one.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from torch.profiler import record_function

from mono3d.data.loaders import BatchLoader
from mono3d.objectives.protocol import ObjectiveOutput, StepContext
from mono3d.structures import Batch, to_device
from mono3d.tracking.records import MetricRecord
from mono3d.training.schedule import guarded_step, set_learning_rate
from mono3d.training.state import TrainState


@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """How long and how often."""

    epochs: int
    accumulate: int
    max_grad_norm: float
    seed: int
    log_every_steps: int
    save_every_steps: int | None
    evaluate_every_epochs: int
    evaluate_at_start: bool = False

    def saves_after(self, step: int) -> bool:
        """Whether a checkpoint is due in the middle of an epoch; its end is one anyway."""
        return self.save_every_steps is not None and step % self.save_every_steps == 0


GoesOn = Callable[[TrainState, Mapping[str, float]], bool]
"""Whether a run goes on after an evaluation, given its metrics; the same answer on every rank."""


@runtime_checkable
class RunObserver(Protocol):
    """What happens around the loop: progress, records, checkpoints."""

    def on_records(self, state: TrainState, record: MetricRecord) -> None:
        """Metrics of the last steps have crossed to the host."""
        ...

    def on_evaluate(self, state: TrainState) -> None:
        """An evaluation begins; it may take a while."""
        ...

    def on_save(
        self, state: TrainState, metrics: Mapping[str, float], *, epoch_ended: bool
    ) -> None:
        """The state should be kept; called on every rank at the same step.

        Args:
            state: Between two steps.
            metrics: Of the evaluation at this moment; empty where there was none.
            epoch_ended: False in the middle of an epoch.
        """
        ...


def fit(
    state: TrainState,
    loader: BatchLoader,
    plan: FitPlan,
    *,
    evaluate: Callable[[TrainState], dict[str, float]],
    observer: RunObserver,
    goes_on: GoesOn | None = None,
    evaluated: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Train from where the state stands to the last epoch; evaluate and save on the way.

    Args:
        state: Trained in place.
        loader: Of the training split.
        plan: How long and how often.
        evaluate: Metrics of a state on the validation split.
        observer: Told of everything; keeps the states.
        goes_on: Asked after each evaluation but the last, when its state has been kept; None
            trains to the end.
        evaluated: Metrics of the state as it is, if it was evaluated before it was restored: then
            `goes_on` is asked first, since the answer may have been lost.
    """

    def is_stopped(metrics: Mapping[str, float]) -> bool:
        is_judged = bool(metrics) and 0 < state.epoch < plan.epochs
        return is_judged and goes_on is not None and not goes_on(state, metrics)

    if is_stopped(evaluated):
        return
    if plan.evaluate_at_start and state.step == 0:
        observer.on_evaluate(state)
        observer.on_save(state, evaluate(state), epoch_ended=True)
    meter = StepMeter(plan.log_every_steps)
    while state.epoch < plan.epochs:
        for is_last in train_epoch(
            state, loader, plan, meter=meter, on_records=observer.on_records
        ):
            if plan.saves_after(state.step) and not is_last:
                with meter.paused():
                    observer.on_save(state, {}, epoch_ended=False)
        is_due = state.epoch % plan.evaluate_every_epochs == 0 or state.epoch == plan.epochs
        metrics: Mapping[str, float] = {}
        with meter.paused():
            if is_due:
                observer.on_evaluate(state)
                metrics = evaluate(state)
            observer.on_save(state, metrics, epoch_ended=True)
            if is_stopped(metrics):
                return


def train_epoch(
    state: TrainState,
    loader: BatchLoader,
    plan: FitPlan,
    *,
    meter: "StepMeter",
    on_records: Callable[[TrainState, MetricRecord], None],
) -> Generator[bool]:
    """The rest of an epoch, step by step; after each, yields whether it was the last."""
    batches_per_epoch = loader.batches_per_epoch // plan.accumulate * plan.accumulate
    state.module.train()
    groups = _groups(loader.epoch(state.epoch, state.batch), plan.accumulate)
    while True:
        with record_function("stage/load"), meter.waiting():
            group = next(groups, None)
        if group is None:
            break
        with record_function("stage/to device"):
            batches = [to_device(batch, state.device) for batch in group]
        seed_step(plan.seed, state.step)
        output = train_step(
            state,
            batches,
            max_grad_norm=plan.max_grad_norm,
            progress=state.epoch + state.batch / batches_per_epoch,
            with_statistics=meter.is_due(state.step + 1),
        )
        state.batch += plan.accumulate
        with record_function("stage/log"):
            record = meter.add(state, output, num_images=sum(map(count_images, batches)))
            if record is not None:
                on_records(state, record)
        yield state.batch == batches_per_epoch
    state.epoch, state.batch = state.epoch + 1, 0


def endless_steps(
    state: TrainState, loader: BatchLoader, plan: FitPlan, *, log_every_steps: int
) -> Generator[bool]:
    """Steps of training, epoch after epoch; metrics cross to the host when due, and are dropped."""
    meter = StepMeter(log_every_steps)
    while True:
        yield from train_epoch(state, loader, plan, meter=meter, on_records=lambda *_: None)


def train_step(
    state: TrainState,
    batches: Sequence[Batch],
    *,
    max_grad_norm: float,
    progress: float,
    with_statistics: bool,
) -> ObjectiveOutput:
    """One optimiser step over micro-batches; returns detached terms and statistics, on the device.

    A gradient that is not finite leaves weights, buffers, optimiser and average as they were; the
    step counts as skipped. The decision is taken on the device.
    """
    buffers = [(buffer, buffer.clone()) for buffer in state.module.buffers()]
    with record_function("stage/count samples"):  # here a rank waits for slower ones
        context = step_context(state, batches, progress=progress, with_statistics=with_statistics)
    state.optimizer.zero_grad(set_to_none=True)
    outputs = []
    for number, batch in enumerate(batches):
        is_last = number == len(batches) - 1
        with nullcontext() if is_last else _no_sync(state.module):
            output: ObjectiveOutput = state.module(batch, context)
            with record_function("stage/backward"):
                torch.stack(list(output.terms.values())).sum().backward()
        outputs.append(_detached(output))
    with record_function("stage/optimiser"):
        norms = state.train_module.gradient_statistics()
        norms["grad_norm"] = clip_grad_norm_(state.module.parameters(), max_grad_norm)
        is_bad = (~norms["grad_norm"].isfinite()).float()
        set_learning_rate(state.optimizer, state.peak_lr * state.schedule(state.step))
        guarded_step(state.optimizer, is_bad)
        for buffer, before in buffers:  # statistics of batch norms and mining have moved already
            buffer.copy_(torch.where(is_bad > 0, before, buffer))
    state.step += 1
    state.skipped += is_bad
    with record_function("stage/average weights"):
        state.ema.update(state.step, is_bad=is_bad)
    total = _add_up(outputs)
    return ObjectiveOutput(terms=total.terms, statistics={**total.statistics, **norms})


def step_context(
    state: TrainState, batches: Sequence[Batch], *, progress: float, with_statistics: bool
) -> StepContext:
    """Count the depth samples of all micro-batches and ranks before the first backward pass."""
    objective = state.train_module.objective
    count = torch.stack([objective.count_samples(batch) for batch in batches]).sum()
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    if world_size > 1:
        dist.all_reduce(count)
    return StepContext(
        num_samples=count.clamp(min=1),
        num_images=world_size * sum(map(count_images, batches)),
        world_size=world_size,
        progress=progress,
        with_statistics=with_statistics,
    )


def count_images(batch: Batch) -> int:
    """Frames times cameras."""
    return batch.images.shape[0] * batch.images.shape[1]


def seed_step(seed: int, step: int) -> None:
    """Random numbers of a step (dropout, stochastic depth) depend on step and rank alone."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    torch.manual_seed((seed * 1_000_003 + step) * 4_099 + rank)


def _no_sync(module: torch.nn.Module):  # type: ignore[no-untyped-def]
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def _groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Full groups of micro-batches; a last incomplete one is left out."""
    while True:
        group = [batch for _, batch in zip(range(size), batches, strict=False)]
        if len(group) < size:
            return
        yield group


def _detached(output: ObjectiveOutput) -> ObjectiveOutput:
    return ObjectiveOutput(
        terms={name: value.detach() for name, value in output.terms.items()},
        statistics=output.statistics,
    )


def _add_up(outputs: Sequence[ObjectiveOutput]) -> ObjectiveOutput:
    """Terms add up over micro-batches, statistics are averaged."""
    terms = {name: torch.stack([o.terms[name] for o in outputs]).sum() for name in outputs[0].terms}
    statistics = {
        name: torch.stack([o.statistics[name] for o in outputs]).mean()
        for name in outputs[0].statistics
    }
    return ObjectiveOutput(terms=terms, statistics=statistics)


class StepMeter:
    """Sums metrics on the device and brings their means to the host every few steps.

    Statistics of an interval's last step alone have a group in their name: `mining/weight_mean`.
    """

    def __init__(self, every_steps: int) -> None:
        """Nothing seen yet."""
        self._every = every_steps
        self._names: list[str] = []
        self._sums: Tensor | None = None
        self._steps = 0
        self._images = 0
        self._waited_s = 0.0
        self._started = time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for the next batches."""
        began = time.perf_counter()
        yield
        self._waited_s += time.perf_counter() - began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is not training: it does not count in images per second."""
        began = time.perf_counter()
        yield
        self._started += time.perf_counter() - began

    def is_due(self, step: int) -> bool:
        """Whether an interval ends with this step: the same steps in a resumed run."""
        return step % self._every == 0

    def add(
        self, state: TrainState, output: ObjectiveOutput, *, num_images: int
    ) -> MetricRecord | None:
        """Add a step; at the end of an interval, the record of its means. One transfer."""
        values = {f"loss/{name}": value for name, value in output.terms.items()}
        values["loss/total"] = torch.stack(list(output.terms.values())).sum()
        values |= {f"train/{k}": v for k, v in output.statistics.items() if "/" not in k}
        self._names = list(values)
        step_values = torch.stack([value.float() for value in values.values()])
        self._sums = step_values if self._sums is None else self._sums + step_values
        self._steps += 1
        self._images += num_images
        return self._flush(state, output) if self.is_due(state.step) else None

    def _flush(self, state: TrainState, output: ObjectiveOutput) -> MetricRecord:
        assert self._sums is not None
        now = {k: v.float() for k, v in output.statistics.items() if "/" in k}
        crossing = torch.cat([
            self._sums / self._steps,
            torch.stack([state.skipped.float(), *now.values()]),
        ]).tolist()  # fmt: skip
        metrics = dict(zip([*self._names, "train/skipped_steps", *now], crossing, strict=True))
        seconds = time.perf_counter() - self._started
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        metrics["train/images_per_s"] = self._images * world_size / seconds
        metrics["train/data_wait_share"] = self._waited_s / seconds
        metrics["train/lr"] = state.optimizer.param_groups[0]["lr"]
        metrics["train/epoch"] = float(state.epoch)
        self._sums, self._steps, self._images, self._waited_s = None, 0, 0, 0.0
        self._started = time.perf_counter()
        return MetricRecord(step=state.step, time_ms=int(time.time() * 1000), metrics=metrics)
