"""The rule by which an object gets its class."""

from pathlib import Path

import pytest

from mono3d.data.labels import IGNORED, check_classes, label_of
from mono3d.errors import ConfigError

CLASSES = ("vehicle", "person", "animal")


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["person"], 1),
        (["Van"], 0),
        (["Tram"], IGNORED),
        (["unheard of"], None),
        (["vehicle.bus.bendy", "bus"], 0),
        (["vehicle.bus.rigid", "bus"], IGNORED),
        (["animal", "person"], 2),
    ],
)
def test_the_most_special_name_decides_and_the_map_before_the_class_list(
    names: list[str], label: int | None
) -> None:
    label_map = {"Van": "vehicle", "Tram": None, "vehicle.bus.bendy": "vehicle", "bus": None}
    assert label_of(names, CLASSES, label_map) == label


def test_a_class_can_be_mapped_away() -> None:
    assert label_of(["animal"], CLASSES, {"animal": None}) == IGNORED
    assert label_of(["animal"], CLASSES, {"animal": "person"}) == 1


@pytest.mark.parametrize(
    ("names", "label_map", "message"),
    [
        (["car", "car"], {}, r"classes \['car', 'car'\]: name at least one class, each once"),
        ([], {}, r"classes \[\]: name at least one class"),
        (["car"], {"Van": "cra"}, r"/d: label_map Van: cra: must be null or one of .*\['car'\]"),
    ],
)
def test_what_cannot_be_meant_is_named(
    names: list[str], label_map: dict[str, str | None], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_classes(names, label_map, source=Path("/d"))
