"""Categories of a nuScenes folder as classes of a run."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mono3d.data.nuscenes import NuScenesDataset
from mono3d.data.nuscenes_labels import check_has_objects
from mono3d.errors import ConfigError, DataError
from tests.support.nuscenes_tables import edit_table, open_tiny, write_tables

OpenDataset = Callable[..., NuScenesDataset]
CLASSES = ("vehicle", "person")
MAP = {"car": "vehicle", "vehicle.truck": "vehicle", "pedestrian": "person"}


@pytest.fixture(scope="module")
def open_dataset(tmp_path_factory: pytest.TempPathFactory) -> OpenDataset:
    folder = tmp_path_factory.mktemp("nuscenes")
    return partial(open_tiny, write_tables(folder / "data"), folder)


def test_detection_classes_and_categories_can_be_mapped(open_dataset: OpenDataset) -> None:
    """Each sample has two of each category: car, adult, cone, truck, animal."""
    dataset = open_dataset(class_names=CLASSES, label_map=MAP, surround=True)
    boxes = dataset[0].boxes_bev
    assert boxes is not None
    assert boxes.labels.tolist() == [0, 1, 0, 0, 1, 0]
    assert boxes.object_ids.tolist() == [0, 1, 3, 5, 6, 8]
    assert dataset.describe().objects == {"vehicle": 16, "person": 8}
    assert dataset.describe().others == {"movable_object.trafficcone": 8, "animal": 8}


def test_categories_outside_the_benchmark_can_be_learnt(open_dataset: OpenDataset) -> None:
    assert open_dataset(class_names=["animal"]).describe().objects == {"animal": 8}
    mapped = open_dataset(class_names=["car"], label_map={"animal": "car", "truck": None})
    assert mapped.describe().objects == {"car": 16}


def test_the_fingerprint_follows_the_map(open_dataset: OpenDataset) -> None:
    mapped = open_dataset(class_names=CLASSES, label_map=MAP)
    fewer = open_dataset(class_names=CLASSES, label_map={**MAP, "vehicle.truck": None})
    other = open_dataset(class_names=CLASSES, label_map={**MAP, "vehicle.truck": "person"})
    assert len({dataset.fingerprint for dataset in (mapped, fewer, other)}) == 3


def test_a_category_of_ones_own_must_be_a_class_or_mapped(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "data")
    edit_table(root, "category", lambda rows: rows[0].update(name="robot"))
    open_own = partial(open_tiny, root, tmp_path)
    with pytest.raises(DataError, match=r"tiny: category robot of 8 objects is neither nuScenes'"):
        open_own(class_names=CLASSES, label_map={"animal": None})
    assert open_own(class_names=["robot"]).describe().objects == {"robot": 8}
    assert open_own(class_names=["truck"], label_map={"robot": None}).describe().objects == {
        "truck": 8
    }
    assert open_own(class_names=["truck"], has_labels=False).frame_labels(0) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"label_map": {"vehicle.cra": "vehicle"}},
            "label_map names vehicle.cra, which is neither",
        ),
        ({"label_map": {"car": "vehicel"}}, "label_map car: vehicel: must be null or one of"),
    ],
)
def test_a_map_of_unknown_names_is_refused(
    open_dataset: OpenDataset, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_dataset(class_names=CLASSES, **changes)
    assert "\n" not in str(caught.value)


def test_a_class_without_a_category_is_refused_where_nuscenes_is_alone() -> None:
    check_has_objects(["truck", "animal", "vehicle"], {"car": "vehicle"})
    with pytest.raises(ConfigError, match="class 'van' is not a nuScenes detection class"):
        check_has_objects(["car", "van"], {"car": None})
