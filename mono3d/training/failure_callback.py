"""What happens in Ray's controller when workers fail.

In a file of its own: the controller imports it, and should start without torch.
"""

from typing import Any

import ray.train

from mono3d.errors import Mono3dError, StorageError


class FailureCallback(ray.train.UserCallback):  # type: ignore[misc]
    """Tells the user of failures, and ends the run where a restart would not help."""

    def __init__(self, mailbox: Any) -> None:
        """`mailbox` is the actor's handle."""
        self._mailbox = mailbox

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """In Ray's controller, after workers failed.

        Raises:
            Mono3dError: An error that will come again until the user has done something.
        """
        for rank, error in worker_exceptions.items():
            reason = root_of(error)
            # A store may be back in a moment; a wrong config or a damaged file will not mend.
            if isinstance(reason, Mono3dError) and not isinstance(reason, StorageError):
                raise reason
            self._mailbox.put.remote(f"worker {rank} failed: {first_line(reason)}")


def root_of(error: Exception) -> Exception:
    """What really happened, out of Ray's wrappings."""
    for wrapping in ("_base_exc", "health_check_failure"):
        error = getattr(error, wrapping, error)
    return error


def first_line(error: Exception) -> str:
    """Kind and first line of an exception."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
