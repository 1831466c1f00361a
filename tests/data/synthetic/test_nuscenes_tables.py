import pytest
from nuscenes.eval.detection.utils import (
    category_to_detection_name,
    detection_name_to_rel_attributes,
)

from mono3d.data.synthetic.catalogue import CLASSES
from mono3d.data.synthetic.nuscenes_tables import (
    TABLE_NAMES,
    common_tables,
    token,
    visibility_token,
)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, "1"), (0.39, "1"), (0.4, "2"), (0.59, "2"), (0.6, "3"), (0.8, "4"), (1.0, "4")],
)
def test_visibility_has_nuscenes_bins(share: float, expected: str) -> None:
    assert visibility_token(share) == expected


def test_tokens_are_long_distinct_and_always_the_same() -> None:
    assert token("sample", 1) == token("sample", 1)
    assert len({token("sample", i) for i in range(1000)}) == 1000
    assert len(token("x")) == 32
    assert token("a", "b") != token("ab")


def test_common_tables_name_all_that_labels_refer_to() -> None:
    tables = common_tables()
    assert set(tables) == set(TABLE_NAMES)
    categories = {row["name"] for row in tables["category"]}
    assert {kind.category for kind in CLASSES} <= categories
    attributes = {row["name"] for row in tables["attribute"]}
    for category in categories:
        name = category_to_detection_name(category)
        if name is not None:
            assert set(detection_name_to_rel_attributes(name)) <= attributes
    assert [row["token"] for row in tables["visibility"]] == ["1", "2", "3", "4"]
    assert len(tables["sensor"]) == 7
