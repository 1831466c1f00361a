"""Files of a data set, read whole or refused."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from mono3d.errors import DataError


def read_bytes(path: Path) -> bytes:
    """Content of a file.

    Raises:
        DataError: If it is missing or unreadable.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def read_points(path: Path, values_per_point: int) -> Float[np.ndarray, "n values"]:
    """Points of a LiDAR sweep stored as float32, one after the other; not to be written to.

    Raises:
        DataError: If the file is missing, empty, cut short, or holds numbers that are not finite.
    """
    content = read_bytes(path)
    size = 4 * values_per_point
    if not content or len(content) % size:
        raise DataError(f"{path}: {len(content)} bytes are no whole number of {size}-byte points")
    points = np.frombuffer(content, dtype=np.float32).reshape(-1, values_per_point)
    if not np.isfinite(points).all():
        raise DataError(f"{path}: a point is not finite")
    return points
