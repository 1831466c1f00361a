"""Names and numbers of the benchmark are those of nuscenes-devkit."""

import pytest
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.constants import ATTRIBUTE_NAMES, DETECTION_NAMES
from nuscenes.eval.detection.utils import (
    category_to_detection_name,
    detection_name_to_rel_attributes,
)

from mono3d.codec.nuscenes_names import (
    ATTRIBUTES,
    CATEGORY_CLASSES,
    CLASS_ATTRIBUTES,
    CLASS_RANGE_M,
    DEFAULT_ATTRIBUTE,
    DETECTION_CLASSES,
)


def test_names_and_ranges_are_those_of_the_devkit() -> None:
    assert list(DETECTION_CLASSES) == DETECTION_NAMES
    assert list(ATTRIBUTES) == ATTRIBUTE_NAMES
    assert config_factory("detection_cvpr_2019").class_range == CLASS_RANGE_M


@pytest.mark.parametrize("name", DETECTION_CLASSES)
def test_attributes_of_a_class(name: str) -> None:
    assert list(CLASS_ATTRIBUTES[name]) == detection_name_to_rel_attributes(name)
    assert DEFAULT_ATTRIBUTE[name] in (CLASS_ATTRIBUTES[name] or ("",))


@pytest.mark.parametrize(("category", "detection_class"), CATEGORY_CLASSES.items())
def test_class_of_a_category(category: str, detection_class: str | None) -> None:
    assert category_to_detection_name(category) == detection_class


def test_categories_of_all_classes_are_known() -> None:
    assert set(CATEGORY_CLASSES.values()) - {None} == set(DETECTION_CLASSES)
    assert len(CATEGORY_CLASSES) == 23, "as nuScenes says of itself"
