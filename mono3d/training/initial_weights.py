"""What a new run takes over from the checkpoint of another: other classes, heads or backbone.

Weights are compared piece by piece. A piece is a tensor, or the rows of one that are one output of
a head, or the row of one class where an output has a channel for each. So attributes and offsets
survive a change of classes, and a class that both runs have keeps its row.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mono3d.config.load import flatten_tree
from mono3d.errors import CheckpointError
from mono3d.model.heads import CLASS_MIXED_OUTPUTS, CLASS_OUTPUTS, output_rows
from mono3d.training.checkpoint import RunFacts, read_student
from mono3d.training.state import TrainState

_SHOWN = 4
"""Names in a list; of the rest the number is said."""


class Piece(NamedTuple):
    """What is taken over whole or not at all."""

    tensor: str
    output: str = ""
    class_name: str = ""


@dataclass(frozen=True, kw_only=True)
class Takeover:
    """What became of a checkpoint's weights in another network; as text, one line for the user."""

    location: str
    taken: Sequence[Piece]
    left_out: Sequence[Piece]
    """Pieces of the checkpoint that this network has not, or not in this shape."""
    fresh: Sequence[Piece]
    """Pieces of this network that the checkpoint has not, or not in this shape."""

    def __str__(self) -> str:
        touched = {piece.tensor for piece in self.taken}
        incomplete = {piece.tensor for piece in self.fresh}
        line = (
            f"starts from {self.location}: {len(touched - incomplete)} of "
            f"{len(touched | incomplete)} tensors fit"
        )
        if touched & incomplete:
            line += f", {len(touched & incomplete)} more in part"
        if self.left_out:
            line += f"; left out: {_named(self.left_out)}"
        if self.fresh:
            line += f"; new here: {_named(self.fresh)}"
        return line


def start_from(location: str | Path, state: TrainState, facts: RunFacts) -> Takeover:
    """Give a state before its first step the averaged weights of a checkpoint, where they fit.

    Args:
        location: A local path or an s3:// URI.
        state: Its student and their average change, nothing else does.
        facts: What the new run is.

    Raises:
        CheckpointError: The checkpoint is incomplete or damaged, or nothing of it fits.
        StorageError: The store cannot be asked.
    """
    tensors, metadata = read_student(location)
    student = state.train_module.student
    found = _pieces(tensors, metadata.output_rows, metadata.config["data"]["class_names"])
    wanted = _pieces(
        student.state_dict(), output_rows(student), facts.config["data"]["class_names"]
    )
    fits = {p for p in wanted if p in found and found[p].shape == wanted[p].shape}
    if not any(wanted[piece].dim() > 1 for piece in fits):  # counters and norms prove nothing
        theirs, ours = _differences(metadata.config["model"], facts.config["model"])
        raise CheckpointError(
            f"{location}: nothing of it fits this run: it has {theirs}; this run has {ours}"
        )
    with torch.no_grad():
        for piece in fits:
            wanted[piece].copy_(found[piece])
    state.ema.load(student.state_dict())
    return Takeover(
        location=str(location),
        taken=[piece for piece in wanted if piece in fits],
        left_out=[piece for piece in found if piece not in fits],
        fresh=[piece for piece in wanted if piece not in fits],
    )


def _pieces(
    tensors: Mapping[str, Tensor],
    rows: Mapping[str, Mapping[str, int]],
    class_names: Sequence[str],
) -> dict[Piece, Tensor]:
    """All pieces of a network's tensors, as views of these."""
    pieces: dict[Piece, Tensor] = {}
    for name, tensor in tensors.items():
        if name not in rows:
            pieces[Piece(name)] = tensor
            continue
        parts = tensor.split(list(rows[name].values()))
        for output, part in zip(rows[name], parts, strict=True):
            if output in CLASS_OUTPUTS:
                of_classes = zip(class_names, part, strict=True)
                pieces |= {Piece(name, output, label): row for label, row in of_classes}
            elif output in CLASS_MIXED_OUTPUTS:  # of all classes at once: all the same, or none
                pieces[Piece(name, output, " ".join(class_names))] = part
            else:
                pieces[Piece(name, output)] = part
    return pieces


def _named(pieces: Iterable[Piece]) -> str:
    """Modules, outputs and classes of pieces; a module's weight and bias count as one."""
    parts: dict[str, dict[str, dict[str, None]]] = {}
    for piece in pieces:
        module = (piece.tensor.rpartition(".")[0] or piece.tensor).removeprefix("trunk.")
        outputs = parts.setdefault(module.partition(".")[0], {})
        classes = outputs.setdefault(f"{module} {piece.output}".strip(), {})
        if piece.class_name:
            classes[piece.class_name] = None
    names: list[str] = []
    for part, outputs in parts.items():
        if len(outputs) > _SHOWN:
            names.append(f"{len(outputs)} modules of {part}")
            continue
        for name, classes in outputs.items():
            names.append(f"{name} ({_shortened([*classes])})" if classes else name)
    return _shortened(names)


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[str, str]:
    """In words the keys in which two `model` sections differ, as each has them."""
    first, second = flatten_tree(theirs), flatten_tree(ours)
    differing = {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}
    keys = ["kind", *sorted(differing - {"kind"})]
    return _settings(first, keys), _settings(second, keys)


def _settings(section: Mapping[str, str], keys: Iterable[str]) -> str:
    return _shortened([f"model.{key}={section[key]}" for key in keys if key in section])
