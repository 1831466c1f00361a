"""Student, objective and adapters in one forward pass: what DDP wraps, so it sees all gradients."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.profiler import record_function

from mono3d.objectives.distillation.protocol import Distiller
from mono3d.objectives.protocol import Objective, ObjectiveOutput, StepContext
from mono3d.structures import Batch, Predictions


@runtime_checkable
class HasDepthBranch(Protocol):
    """A student whose depth comes from a branch of its own."""

    def depth_gradient_norm(self) -> Float[Tensor, ""]:
        """Norm of the gradient of that branch's weights."""
        ...


class TrainModule(nn.Module):
    """Batch → weighted loss terms. Only `student` is exported."""

    def __init__(
        self,
        student: nn.Module,
        objective: Objective,
        distiller: Distiller | None = None,
        *,
        autocast_dtype: torch.dtype | None = None,
    ) -> None:
        """Join the parts; the distiller's teacher stays outside of parameters and state."""
        super().__init__()
        self.student = student
        self.objective = objective
        self._distiller = distiller
        self.adapters = nn.Module() if distiller is None else distiller.adapters
        self.autocast_dtype = autocast_dtype

    def gradient_statistics(self) -> dict[str, Tensor]:
        """Norms of gradients, after a backward pass, that the student has a word for."""
        if not isinstance(self.student, HasDepthBranch):
            return {}
        return {"grad_norm_depth": self.student.depth_gradient_norm()}

    def forward(self, batch: Batch, context: StepContext) -> ObjectiveOutput:
        """Terms of one micro-batch. The network may run in low precision, the losses do not."""
        predictions: Predictions
        autocast = torch.autocast(
            batch.images.device.type,
            dtype=self.autocast_dtype,
            enabled=self.autocast_dtype is not None,
        )
        with record_function("stage/forward"), autocast:
            predictions = self.student(batch)
        with record_function("stage/objective"):
            output: ObjectiveOutput = self.objective(predictions, batch, context)
        if self._distiller is None:
            return output
        with record_function("stage/distiller"):
            distilled = self._distiller.losses(batch, predictions, context)
        terms = {**output.terms, **{f"distill/{name}": term for name, term in distilled.items()}}
        return ObjectiveOutput(terms=terms, statistics=output.statistics)
