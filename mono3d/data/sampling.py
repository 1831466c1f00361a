"""In which order frames are trained on, and each rank's part of it.

The order is a function of (seed, epoch) and can start in the middle of an epoch, so a resumed run
goes on exactly where it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from mono3d.errors import DataError
from mono3d.structures import Boxes3D, Frame


@runtime_checkable
class FrameDataset(Protocol):
    """What every data set offers."""

    @property
    def frame_ids(self) -> Sequence[str]:
        """Names of all frames, in order."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 of what the labels, calibrations and names are."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Frame:
        """Read one frame."""
        ...

    def frame_labels(self, index: int) -> Int64[np.ndarray, " n"] | None:
        """Classes of the frame's objects, without reading its images. None: not labelled."""
        ...

    def camera_labels(self, index: int) -> list[tuple[Boxes3D, Float[Tensor, "3 4"]]]:
        """Camera-frame boxes and projection of each camera of a frame, without its images."""
        ...

    def moment_of(self, index: int) -> str:
        """Name of the moment that the frame shows; other frames may show it to other cameras."""
        ...


def class_balanced_shares(
    dataset: FrameDataset,
    num_classes: int,
    *,
    threshold: float,
    count_exponent: float,
    empty_share: float,
) -> Float[np.ndarray, " frames"]:
    """How often each frame should be drawn, relative to the others, so that rare classes are seen.

    A class in a share f of the frames repeats its frames sqrt(threshold / f) times, at least once;
    a frame follows its rarest class. That is multiplied by the number of the frame's objects to
    the power of `count_exponent`. Frames without objects get `empty_share`, those that are not
    labelled 1.

    Raises:
        DataError: No frame would ever be drawn.

    Source: repeat-factor sampling, Gupta et al., LVIS, CVPR 2019 (arXiv:1908.03195), section 4.
    The factor for the number of objects is ours.
    """
    present = np.zeros((len(dataset), num_classes), dtype=bool)
    counts = np.zeros(len(dataset))
    is_labelled = np.ones(len(dataset), dtype=bool)
    for index in range(len(dataset)):
        labels = dataset.frame_labels(index)
        if labels is None:
            is_labelled[index] = False
            continue
        present[index, labels] = True
        counts[index] = len(labels)
    num_labelled = max(is_labelled.sum(), 1)
    frequency = present.sum(axis=0).clip(min=1) / num_labelled
    factors = np.maximum(1.0, np.sqrt(threshold / frequency))
    shares = np.where(present, factors, 0.0).max(axis=1, initial=0.0)
    shares = shares * counts**count_exponent
    shares = np.where(present.any(axis=1), shares, empty_share)
    shares = np.where(is_labelled, shares, 1.0)
    if not shares.any():
        raise DataError("no frame holds an object of the classes, and empty frames are not drawn")
    return shares


def epoch_order(
    shares: Float[np.ndarray, " frames"] | None,
    num_frames: int,
    *,
    length: int,
    seed: int,
    epoch: int,
) -> Int64[np.ndarray, " length"]:
    """Frames of one epoch in order: every rank computes the same list.

    Without shares it is a permutation, repeated where `length` exceeds it. With shares each frame
    comes floor(expected count) times and one more with the remaining probability.
    """
    random = np.random.default_rng([seed, epoch])
    if shares is None:
        rounds = -(-length // num_frames)
        drawn: Int64[np.ndarray, " length"] = np.concatenate(
            [random.permutation(num_frames) for _ in range(rounds)]
        )
        return drawn[:length]
    edges = np.cumsum(shares / shares.sum()) * length
    picks = np.searchsorted(edges, np.arange(length) + random.random(), side="right")
    order: Int64[np.ndarray, " length"] = random.permutation(picks.clip(max=num_frames - 1))
    return order


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Order of training, and each rank's part in it."""

    num_frames: int
    batch_size: int
    """Frames of one rank and micro-batch."""
    epoch_frames: int
    """Frames of an epoch over all ranks; rounded down to whole global batches."""
    seed: int
    rank: int = 0
    world_size: int = 1
    shares: Float[np.ndarray, " frames"] | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Batches of one rank in an epoch."""
        return self.epoch_frames // (self.batch_size * self.world_size)

    def batches(self, epoch: int, first_batch: int) -> list[list[tuple[int, int]]]:
        """(epoch, index) keys of this rank's batches from `first_batch` on."""
        whole = self.batches_per_epoch * self.batch_size * self.world_size
        order = epoch_order(self.shares, self.num_frames, length=whole, seed=self.seed, epoch=epoch)
        # Rank r takes every world_size-th frame: one global batch is the same set for any split.
        own = order.reshape(self.batches_per_epoch, self.batch_size, self.world_size)
        rows = own[first_batch:, :, self.rank].tolist()
        return [[(epoch, index) for index in row] for row in rows]
