"""Order of training: one function of seed and epoch, however it is split or resumed."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from jaxtyping import Int64

from mono3d.data.sampling import FrameDataset, Sampling, class_balanced_shares, epoch_order
from mono3d.errors import DataError
from tests.support.frames import FramesInMemory


class Labelled(FramesInMemory):
    """A data set of which only the labels are asked for."""

    def __init__(self, labels: Sequence[list[int] | None]) -> None:
        super().__init__(len(labels))
        self._labels = labels

    def frame_labels(self, index: int) -> Int64[np.ndarray, " n"] | None:
        labels = self._labels[index]
        return None if labels is None else np.array(labels, dtype=np.int64)


def flat(sampling: Sampling, epoch: int, first_batch: int = 0) -> list[list[int]]:
    return [[index for _, index in batch] for batch in sampling.batches(epoch, first_batch)]


def test_frames_in_memory_are_a_data_set() -> None:
    assert isinstance(FramesInMemory(2), FrameDataset)


def test_rare_classes_are_drawn_more_often() -> None:
    """Class 0 is in 3 of 4 frames, class 1 in one: sqrt(0.5 / 0.75) < 1, sqrt(0.5 / 0.25)."""
    dataset = Labelled([[0, 0], [0], [0, 1], []])
    shares = class_balanced_shares(dataset, 3, threshold=0.5, count_exponent=0.0, empty_share=0.2)
    np.testing.assert_allclose(shares, [1.0, 1.0, np.sqrt(2.0), 0.2])


def test_frames_are_drawn_by_the_number_of_their_objects() -> None:
    dataset = Labelled([[0], [0, 0, 0, 0], [], [0, 0, 0, 0, 0, 0, 0, 0, 1]])
    shares = class_balanced_shares(dataset, 2, threshold=0.0, count_exponent=0.5, empty_share=0.2)
    np.testing.assert_allclose(shares, [1.0, 2.0, 0.2, 3.0])


def test_frames_without_labels_are_drawn_and_say_nothing_of_how_rare_a_class_is() -> None:
    """Class 1 is in one of two labelled frames: sqrt(0.72 / 0.5)."""
    dataset = Labelled([[0], [0, 1], None, None])
    shares = class_balanced_shares(dataset, 2, threshold=0.72, count_exponent=0.0, empty_share=0.0)
    np.testing.assert_allclose(shares, [1.0, 1.2, 1.0, 1.0])


def test_balancing_off_leaves_only_the_empty_frames_apart() -> None:
    shares = class_balanced_shares(
        Labelled([[0], [], [1]]), 2, threshold=0.0, count_exponent=0.0, empty_share=0.5
    )
    np.testing.assert_allclose(shares, [1.0, 0.5, 1.0])


def test_a_split_of_which_nothing_would_be_drawn_is_refused() -> None:
    with pytest.raises(DataError, match="no frame holds an object"):
        class_balanced_shares(
            Labelled([[], []]), 2, threshold=0.5, count_exponent=0.0, empty_share=0.0
        )


def test_without_shares_an_epoch_is_a_permutation() -> None:
    order = epoch_order(None, 20, length=20, seed=0, epoch=0)
    assert sorted(order.tolist()) == list(range(20))
    longer = epoch_order(None, 20, length=50, seed=0, epoch=0)
    assert set(np.bincount(longer).tolist()) == {2, 3}
    assert epoch_order(None, 20, length=7, seed=0, epoch=0).tolist() == order[:7].tolist()


def test_shares_are_met_as_closely_as_whole_numbers_can() -> None:
    """Of 10 frames, shares 1 : 1 : 3 : 0 are 2, 2 and 6; of 7 they are 1.4, 1.4 and 4.2."""
    shares = np.array([1.0, 1.0, 3.0, 0.0])
    for seed in range(20):
        even = epoch_order(shares, 4, length=10, seed=seed, epoch=0)
        assert np.bincount(even, minlength=4).tolist() == [2, 2, 6, 0]
        odd = np.bincount(epoch_order(shares, 4, length=7, seed=seed, epoch=0), minlength=4)
        assert odd[0] in (1, 2)
        assert odd[2] in (4, 5)
        assert odd[3] == 0


@pytest.mark.parametrize("shares", [None, np.linspace(0.5, 2.0, 30)])
def test_order_is_a_function_of_seed_and_epoch(shares: np.ndarray | None) -> None:
    orders = {
        (seed, epoch): epoch_order(shares, 30, length=30, seed=seed, epoch=epoch).tolist()
        for seed, epoch in itertools.product((0, 1), (0, 1))
    }
    again = epoch_order(shares, 30, length=30, seed=1, epoch=0).tolist()
    assert again == orders[1, 0]
    assert len({tuple(order) for order in orders.values()}) == 4


@pytest.mark.parametrize(("world_size", "batch_size"), [(1, 12), (2, 6), (3, 4), (4, 3)])
def test_any_split_over_ranks_has_the_same_global_batches(world_size: int, batch_size: int) -> None:
    whole = Sampling(num_frames=60, batch_size=12, epoch_frames=50, seed=3)
    ranks = [
        Sampling(
            num_frames=60, batch_size=batch_size, epoch_frames=50, seed=3, rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]  # fmt: skip
    assert whole.batches_per_epoch == 4
    parts = [flat(sampling, 2) for sampling in ranks]
    for number, batch in enumerate(flat(whole, 2)):
        assert sorted(itertools.chain(*(part[number] for part in parts))) == sorted(batch)


def test_an_epoch_can_start_in_its_middle() -> None:
    sampling = Sampling(num_frames=20, batch_size=3, epoch_frames=20, seed=0)
    assert sampling.batches(1, 4) == sampling.batches(1, 0)[4:]
    assert sampling.batches(1, 6) == []
    assert {epoch for batch in sampling.batches(1, 0) for epoch, _ in batch} == {1}
