"""Muon: weight matrices step along the nearest orthogonal matrix of their momentum.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024): Nesterov
momentum, five Newton-Schulz iterations with its coefficients; the factor that gives a step the size
of AdamW's is section 2.2 of Liu et al. (arXiv:2502.16982). Ours are three things. Convolutions
count as matrices [out, k * k * in], where torch.optim.Muon takes only two dimensions and works in
bfloat16, which processors without matrix units emulate slowly. The iterations run on the Gram
matrix: they are polynomials in X X^T times X, so X itself is needed once, at the end. And each rank
iterates on its part of the matrices only; the directions are exchanged.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_ADAMW_RMS = 0.2
"""Root mean square of the entries of a typical AdamW step, as a share of the rate."""
MIN_SIDE = 16
"""Matrices with a shorter side are stems and embeddings of a few channels, not hidden layers."""


def is_hidden_matrix(parameter: nn.Parameter) -> bool:
    """Whether Muon is meant for this weight."""
    return parameter.dim() > 1 and min(_as_matrix(parameter).shape) >= MIN_SIDE


def orthogonalised(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """About U V^T of the singular value decomposition U S V^T: singular values of 0.7 to 1.2."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    unit = (matrix.T if is_tall else matrix) / (matrix.norm() + 1e-7)
    gram = unit @ unit.T
    product = factor = _polynomial(gram)
    for _ in range(_ITERATIONS - 1):
        gram = factor @ gram @ factor
        factor = _polynomial(gram)
        product = factor @ product
    found: Tensor = product @ unit
    return found.T if is_tall else found


def _polynomial(gram: Float[Tensor, "rows rows"]) -> Float[Tensor, "rows rows"]:
    """What one iteration multiplies the matrix by: a I + b G + c G G."""
    a, b, c = _COEFFICIENTS
    factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor


def orthogonalised_by_all_ranks(
    matrices: Sequence[Float[Tensor, "_ _"]],
) -> list[Float[Tensor, "_ _"]]:
    """`orthogonalised` of each; every rank must hold the same matrices and gets all of them."""
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    if world_size == 1:
        return [orthogonalised(matrix) for matrix in matrices]
    parts = _parts([matrix.shape for matrix in matrices], world_size)
    flat = [matrices[0].new_empty(sum(matrices[i].numel() for i in part)) for part in parts]
    own = dist.get_rank()  # before any exchange, so that ranks do not wait for each other in turn
    if parts[own]:
        flat[own] = torch.cat([orthogonalised(matrices[i]).flatten() for i in parts[own]])
    exchanges = [dist.broadcast(f, src=r, async_op=True) for r, f in enumerate(flat) if len(f)]
    for exchange in exchanges:
        exchange.wait()
    found = [torch.empty_like(matrix) for matrix in matrices]
    for part, values in zip(parts, flat, strict=True):
        for i, piece in zip(part, values.split([found[i].numel() for i in part]), strict=True):
            found[i].copy_(piece.view_as(found[i]))
    return found


def _parts(shapes: Sequence[torch.Size], count: int) -> list[list[int]]:
    """Indices of matrices in parts of about equal work, the heaviest ones dealt out first."""
    work = [max(shape) * min(shape) ** 2 for shape in shapes]
    parts: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for index in sorted(range(len(work)), key=lambda i: -work[i]):
        lightest = loads.index(min(loads))
        parts[lightest].append(index)
        loads[lightest] += work[index]
    return parts


class Muon(Optimizer):
    """Muon for hidden matrices, fused AdamW for everything else, at one learning rate.

    `found_inf` (float 0 or 1, on the device) set to 1 makes a step that changes nothing, as in the
    fused optimisers of torch.
    """

    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: list[dict[str, Any]],
        *,
        lr: float,
        weight_decay: float,
        momentum: float,
        betas: tuple[float, float],
    ) -> None:
        """Divide the work.

        Args:
            matrices: What `is_hidden_matrix` holds for.
            others: Parameter groups for AdamW, each with its own weight decay.
            lr: Of both parts.
            weight_decay: Of the matrices, decoupled.
            momentum: Of the matrices.
            betas: AdamW's.
        """
        own = {"params": list(matrices), "weight_decay": weight_decay, "momentum": momentum}
        super().__init__([own, *others], {"lr": lr})
        # The same groups and the same state: rates and checkpoints see one optimiser.
        self._adamw = AdamW(self.param_groups[1:], lr=lr, betas=betas, fused=True)
        self._adamw.state = self.state
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; nothing crosses to the host."""
        self._adamw.grad_scale = self.grad_scale  # type: ignore[attr-defined]
        self._adamw.found_inf = self.found_inf  # type: ignore[attr-defined]
        self._adamw.step()
        group = self.param_groups[0]
        learnt = [parameter for parameter in group["params"] if parameter.grad is not None]
        device = learnt[0].device if learnt else None
        is_bad = torch.zeros((), device=device) if self.found_inf is None else self.found_inf
        rate = (1 - is_bad) * group["lr"]
        ahead = [self._ahead(parameter, group["momentum"], is_bad) for parameter in learnt]
        for parameter, direction in zip(learnt, orthogonalised_by_all_ranks(ahead), strict=True):
            update = direction * (rate * _ADAMW_RMS * max(direction.shape) ** 0.5)
            shape = parameter.movedim(1, -1).shape
            update = update.view(shape).movedim(-1, 1)
            parameter.mul_(1 - rate * group["weight_decay"]).sub_(update)

    def _ahead(self, parameter: Tensor, momentum: float, is_bad: Tensor) -> Tensor:
        """The matrix of Nesterov's look-ahead; the momentum moves unless the step is bad."""
        assert parameter.grad is not None
        gradient = torch.where(is_bad > 0, 0.0, parameter.grad)
        buffer: Tensor = self.state[parameter]["momentum_buffer"]
        buffer.mul_(torch.where(is_bad > 0, 1.0, momentum)).add_(gradient)
        return _as_matrix(gradient.add_(buffer, alpha=momentum))


def _as_matrix(weight: Tensor) -> Float[Tensor, "rows columns"]:
    """Rows of outputs; inputs vary fastest, so that a convolution in channels_last is a view."""
    return weight.movedim(1, -1).flatten(1)
