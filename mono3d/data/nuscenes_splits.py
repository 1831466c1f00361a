"""Which samples of a nuScenes version a split means."""

from pathlib import Path

import numpy as np
from jaxtyping import Int64

from mono3d.data.nuscenes_index import NuScenesIndex
from mono3d.errors import DataError

ALL_SCENES = "all"


def samples_of_split(index: NuScenesIndex, split: str) -> Int64[np.ndarray, " picked"]:
    """Rows of the samples of a split, in table order.

    Args:
        index: Of the version.
        split: "all" for every scene of the tables; the name of an official split or of one in
            the version folder's splits.json; or the path of a .txt file that lists scene names
            and sample tokens, one a line.

    Raises:
        DataError: If there is no such split or file, or it names what the tables do not hold.
    """
    if split == ALL_SCENES:
        return np.arange(len(index.sample_tokens))
    if split.endswith(".txt"):
        return _listed_samples(index, Path(split))
    if split not in index.splits:
        raise DataError(
            f"split {split!r}: neither {ALL_SCENES!r}, a .txt list nor one of {list(index.splits)}"
        )
    return _samples_of_names(index, list(index.splits[split]), f"split {split!r}")


def _listed_samples(index: NuScenesIndex, path: Path) -> Int64[np.ndarray, " picked"]:
    try:
        lines = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: list of samples cannot be read ({error})") from error
    return _samples_of_names(index, lines, str(path))


def _samples_of_names(
    index: NuScenesIndex, names: list[str], source: str
) -> Int64[np.ndarray, " picked"]:
    if not names:
        raise DataError(f"{source}: names no scene and no sample")
    encoded = [name.encode() for name in names]
    scene_names = np.array([name.encode() for name in index.scene_names])
    is_known = np.isin(encoded, scene_names) | np.isin(encoded, index.sample_tokens)
    if not is_known.all():
        name = names[int(is_known.argmin())]
        raise DataError(f"{source}: {name!r} is neither a scene nor a sample token of the tables")
    is_picked = np.isin(scene_names, encoded)[index.scenes] | np.isin(index.sample_tokens, encoded)
    return np.flatnonzero(is_picked)
