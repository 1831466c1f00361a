"""A synthetic data set on disk in any format: written whole or not at all, kept if it is there."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from mono3d.errors import DataError

RECORD_NAME = "synthetic.json"
"""Says with what settings a folder was made; written last."""


class Contents(TypedDict):
    """What a data set holds, as its record says it.

    Attributes:
        num_samples: Moments of each split.
        num_images: Pictures in total.
        num_labels: Labelled boxes of each class, named as in the files.
        num_biased_labels: Boxes among them that are wrong on purpose; only where some were wanted.
    """

    num_samples: dict[str, int]
    num_images: int
    num_labels: dict[str, int]
    num_biased_labels: NotRequired[int]


@dataclass(frozen=True, kw_only=True)
class SyntheticSummary:
    """What a data set holds.

    Attributes:
        root: Its folder.
        num_samples: See Contents.
        num_images: See Contents.
        num_labels: See Contents.
        num_biased_labels: See Contents.
        is_new: Whether it was written just now, rather than found.
    """

    root: Path
    num_samples: dict[str, int]
    num_images: int
    num_labels: dict[str, int]
    num_biased_labels: int = 0
    is_new: bool


def write_once(
    root: Path, settings: dict[str, Any], write: Callable[[Path], Contents]
) -> SyntheticSummary:
    """Write a data set, unless it is there already.

    The folder appears at once when all is written: a run that is killed leaves a hidden sibling,
    and nothing that looks like a data set.

    Args:
        root: Where to; a new folder, or one that this function has made.
        settings: What decides every byte, for JSON.
        write: Fills the empty folder that it is given.

    Returns:
        What is in the folder.

    Raises:
        DataError: If the folder holds something else, or another synthetic data set.
    """
    if root.exists() and any(root.iterdir()):
        return SyntheticSummary(root=root, is_new=False, **_recorded(root, settings))
    partial = root.with_name(f".{root.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        contents = write(partial)
        record = {"settings": settings, "summary": contents}
        (partial / RECORD_NAME).write_text(json.dumps(record, indent=0))
        partial.replace(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return SyntheticSummary(root=root, is_new=True, **contents)


def _recorded(root: Path, settings: dict[str, Any]) -> Contents:
    """The contents of the data set that is there, if it is the one that is wanted."""
    path = root / RECORD_NAME
    if not path.is_file():
        raise DataError(
            f"{root}: is not empty and has no {RECORD_NAME}; give a new folder, or remove this one"
        )
    record = json.loads(path.read_text())
    if record["settings"] != settings:
        raise DataError(
            f"{path}: was made with {json.dumps(record['settings'])}, wanted is"
            f" {json.dumps(settings)}; give a new folder, or remove this one"
        )
    contents: Contents = record["summary"]
    return contents
