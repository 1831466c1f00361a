"""Smaller batches, in words.

In a file of its own: Ray's controller imports it, and should start without torch.
"""

from mono3d.config.training_sections import TrainConfig


def micro_batches(train: TrainConfig, batch_size: int) -> int:
    """Micro-batches of another size that have at least the frames of a step."""
    return -(-train.batch_size * train.accumulate // batch_size)


def smaller_batch(train: TrainConfig, at_most: int) -> str:
    """The largest batch up to a size with which a step keeps its frames, as overrides."""
    frames = train.batch_size * train.accumulate
    size = max(size for size in range(1, at_most + 1) if frames % size == 0)
    return (
        f"as a new run, train.batch_size={size} train.accumulate={frames // size} keeps the "
        f"{frames} frames of a step"
    )
