"""Official splits, a folder's own, lists of samples."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mono3d.data.nuscenes import NuScenesDataset
from mono3d.errors import DataError
from tests.support.nuscenes_tables import open_tiny, write_tables

OpenDataset = Callable[..., NuScenesDataset]


@pytest.fixture(scope="module")
def open_dataset(tmp_path_factory: pytest.TempPathFactory) -> OpenDataset:
    folder = tmp_path_factory.mktemp("nuscenes")
    return partial(open_tiny, write_tables(folder / "data"), folder)


@pytest.mark.parametrize(
    ("split", "samples"),
    [("tiny_val", ["scene-b-sample-0", "scene-b-sample-1"]), ("all", None)],
)
def test_splits(open_dataset: OpenDataset, split: str, samples: list[str] | None) -> None:
    dataset = open_dataset(split=split)
    every = open_dataset(surround=True).frame_ids
    assert dataset.sample_tokens == (samples or every)


def test_split_listed_in_a_file(open_dataset: OpenDataset, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("scene-b\nscene-a-sample-1\n")
    dataset = open_dataset(split=str(path))
    expected = ["scene-a-sample-1", "scene-b-sample-0", "scene-b-sample-1"]
    assert dataset.sample_tokens == expected
    assert dataset.describe().scenes == 2


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("tiny_vall", "split 'tiny_vall': neither .*'tiny_val'"),
        ("mini_val", "split 'mini_val': 'scene-0103' is neither"),
        ("/nowhere/list.txt", "/nowhere/list.txt: list of samples cannot be read"),
    ],
)
def test_wrong_split_is_named(open_dataset: OpenDataset, split: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(split=split)
    assert "\n" not in str(caught.value)


def test_wrong_line_of_a_list_is_named(open_dataset: OpenDataset, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("scene-a\nscene-x\n")
    with pytest.raises(DataError, match=r"mine\.txt: 'scene-x' is neither a scene nor a sample"):
        open_dataset(split=str(path))


def test_empty_list_is_refused(open_dataset: OpenDataset, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("\n")
    with pytest.raises(DataError, match=r"mine\.txt: names no scene and no sample"):
        open_dataset(split=str(tmp_path / "mine.txt"))
