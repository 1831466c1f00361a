"""Files with secrets."""

import os
from pathlib import Path

from mono3d.errors import ServiceError


def make_private(folder: Path) -> None:
    """Make a folder that only the user can enter, or close one that others could.

    Raises:
        ServiceError: It cannot be made, or is another user's.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise ServiceError(
            f"{folder}: cannot be made private ({error.strerror}); choose another with --directory"
        ) from error


def write_private(path: Path, text: str) -> None:
    """Write a file that only the user can read, at once or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    part.replace(path)
