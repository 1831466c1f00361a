"""Which drive each frame of a KITTI folder comes from: frames of one drive show the same places.

KITTI's object frames are picked from its raw drives and shuffled. The development kit says from
where (`mapping/train_mapping.txt`, `mapping/train_rand.txt`); for frames of one's own a list does.
"""

from collections.abc import Mapping

from mono3d.data.files import DataPath, read_text
from mono3d.errors import DataError

LIST = "ImageSets/drives.txt"
"""A frame and its drive a line."""
MAPPING, ORDER = "mapping/train_mapping.txt", "mapping/train_rand.txt"
"""Of the development kit: date, drive and frame a line; and which line each frame is, from 1 on."""


def kitti_drives(root: DataPath) -> Mapping[str, str] | None:
    """Frame → drive, as far as the folder says it; None if it does not.

    Raises:
        DataError: A list is broken.
        StorageError: If the store that holds the folder cannot be used.
    """
    if (root / LIST).is_file():
        known: dict[str, str] = {}
        for line in filter(str.strip, read_text(root / LIST).splitlines()):
            words = line.split()
            if len(words) != 2:
                raise DataError(f"{root / LIST}: line {line!r}: a frame and its drive")
            known[words[0]] = words[1]
        return known
    if not ((root / MAPPING).is_file() and (root / ORDER).is_file()):
        return None
    lines = [line.split() for line in read_text(root / MAPPING).splitlines() if line.strip()]
    order = [int(number) for number in read_text(root / ORDER).replace(",", " ").split()]
    if any(len(line) != 3 for line in lines) or not all(1 <= n <= len(lines) for n in order):
        raise DataError(
            f"{root / MAPPING}: {len(lines)} lines of date, drive and frame do not fit the "
            f"{len(order)} numbers in {root / ORDER}"
        )
    return {f"{frame:06d}": lines[line - 1][1] for frame, line in enumerate(order)}
