"""An optimiser's state by the names of the parameters: order and grouping do not matter."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mono3d.errors import CheckpointError


def optimiser_tensors(module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """`<parameter>.<state>` → tensor, such as `student.neck.0.weight.exp_avg`."""
    return {
        f"{name}.{key}": value
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimiser_tensors(
    module: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor], *, source: str
) -> None:
    """Take over what `optimiser_tensors` gave; settings such as weight decay are not part of it.

    Raises:
        CheckpointError: A tensor belongs to no parameter, or has neither its shape nor none.
    """
    parameters = dict(module.named_parameters())
    for full_name, value in tensors.items():
        name, _, _ = full_name.rpartition(".")
        if name not in parameters:
            raise CheckpointError(f"{source}: {full_name} belongs to no parameter of this model")
        expected = parameters[name].shape
        if value.shape not in (expected, ()):
            raise CheckpointError(
                f"{source}: {full_name} has shape {list(value.shape)}, "
                f"this model needs {list(expected)}"
            )
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition(".")
        parameter = parameters[name]
        optimizer.state[parameter][key] = _like(parameter, value)


def _like(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """On the parameter's device and, if of its shape, in its memory layout, as optimisers do."""
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
