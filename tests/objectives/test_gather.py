from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

from mono3d.objectives.gather import gather_samples, number_objects
from mono3d.structures import DepthSamples
from tests.support.depth_samples import concatenated, random_samples
from tests.support.mining import STRATEGIES

CAPACITY, STEPS, PROGRESS = 48, 3, 2.0


def local_samples(rank: int, step: int) -> DepthSamples:
    """Rank 1 has nothing in step 1: it must still join the collective."""
    counts = {(0, 0): 40, (1, 0): 17, (0, 1): 30, (1, 1): 0, (0, 2): 48, (1, 2): 5}
    return random_samples(counts[rank, step], capacity=CAPACITY, seed=10 * rank + step)


def test_object_numbers_differ_between_frames_and_hold_between_cameras() -> None:
    ids = torch.tensor([[[0, 3], [3, 1]], [[0, 3], [3, 1]]])
    numbers = number_objects(ids)
    assert numbers[0].tolist() == ids[0].tolist()
    assert numbers[1, 0, 1] == numbers[1, 1, 0]
    assert set(numbers[0].flatten().tolist()).isdisjoint(numbers[1].flatten().tolist())


def test_without_a_process_group_samples_are_the_same_object() -> None:
    samples = local_samples(0, 0)
    gathered, own = gather_samples(samples, capacity=CAPACITY)
    assert gathered is samples
    assert own == slice(0, CAPACITY)


def test_more_slots_than_the_capacity_is_an_error() -> None:
    with pytest.raises(ValueError, match="48 slots on this rank exceed capacity=47"):
        gather_samples(local_samples(0, 0), capacity=47)


def _with_own_ids(rank: int, step: int) -> DepthSamples:
    """As one process would number the objects of both ranks' frames."""
    samples = local_samples(rank, step)
    return replace(samples, object_ids=samples.object_ids + 1000 * rank)


def _rank(rank: int, folder: str) -> None:
    """Weighs three steps on two ranks; saves weights and state, passing each through a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    for name, build in STRATEGIES.items():
        state = build().initial_state()
        for step in range(STEPS):
            samples, own = gather_samples(local_samples(rank, step), capacity=CAPACITY)
            answer = build().weigh(samples, state, PROGRESS)
            path = Path(folder) / f"{name}_rank{rank}_step{step}.safetensors"
            save_file({**answer.state, "weights": answer.weights[own].clone()}, path)
            state = {key: value for key, value in load_file(path).items() if key != "weights"}
    padded, own = gather_samples(local_samples(rank, 0), capacity=CAPACITY + 2)
    assert own == slice(rank * 50, rank * 50 + 48)
    assert len(padded.valid) == 100
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one_rank_on_the_concatenated_batch(tmp_path: Path) -> None:
    """With every strategy: weights and memory, to the last bit."""
    mp.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    for name, build in STRATEGIES.items():
        state = build().initial_state()
        for step in range(STEPS):
            whole = concatenated(*(_with_own_ids(rank, step) for rank in range(2)))
            answer = build().weigh(whole, state, PROGRESS)
            state = answer.state
            ranks = [load_file(tmp_path / f"{name}_rank{r}_step{step}.safetensors") for r in (0, 1)]
            assert torch.equal(torch.cat([saved.pop("weights") for saved in ranks]), answer.weights)
            for saved in ranks:
                assert saved.keys() == state.keys()
                assert all(torch.equal(saved[key], state[key]) for key in state), name
