"""What happens in Ray's controller when workers fail.

In a file of its own: the controller imports it, and should start without torch.
"""

import re
from typing import Any

import ray.train
from ray.exceptions import OutOfMemoryError

from mono3d.config.training_sections import TrainConfig
from mono3d.errors import ConfigError, Mono3dError, StorageAwayError
from mono3d.tracking.redact import redact
from mono3d.training.batch_advice import smaller_batch


class FailureCallback(ray.train.UserCallback):  # type: ignore[misc]
    """Tells the user of failures, and ends the run where a restart would not help."""

    def __init__(self, mailbox: Any, train: TrainConfig) -> None:
        """`mailbox` is the actor's handle, `train` of the run."""
        self._mailbox = mailbox
        self._train = train

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """In Ray's controller, after workers failed.

        Raises:
            Mono3dError: An error that will come again until the user has done something.
        """
        for rank, error in worker_exceptions.items():
            reason = understood(root_of(error), self._train)
            # A store may be back in a moment; a wrong config or a full disk will not mend.
            if isinstance(reason, Mono3dError) and not isinstance(reason, StorageAwayError):
                raise reason
            self._mailbox.put.remote(f"worker {rank} failed: {first_line(reason)}")


def understood(reason: Exception, train: TrainConfig) -> Exception:
    """An error that a user can mend in place of Ray's own, where there is one.

    Ray kills workers when their machine is about to run out of memory, so nothing was measured.
    """
    if not isinstance(reason, OutOfMemoryError):
        return reason
    in_use = re.search(r"was ([\d.]+ ?GB) used / ([\d.]+ ?GB) limit", str(reason))
    line = (
        f"train.batch_size={train.batch_size}: Ray ended a worker whose machine ran out of memory"
    )
    if in_use:
        line += f" ({in_use[1]} of {in_use[2]} in use)"
    if train.batch_size == 1:
        return ConfigError(f"{line}; give it more memory, or fewer cluster.workers")
    half = smaller_batch(train, train.batch_size // 2)
    return ConfigError(f"{line}; give it more memory, or try less: {half}")


def root_of(error: Exception) -> Exception:
    """What really happened, out of Ray's wrappings."""
    for wrapping in ("_base_exc", "health_check_failure"):
        error = getattr(error, wrapping, error)
    return error


def first_line(error: Exception) -> str:
    """Kind and first line of an exception, credentials hidden."""
    lines = redact(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
