"""Which class of a run a labelled object counts as: the rule that all data sets share."""

from collections.abc import Mapping, Sequence

from mono3d.data.files import DataPath
from mono3d.errors import ConfigError

IGNORED = -1
"""Label of objects that are not learnt."""

LabelMap = Mapping[str, str | None]
"""What objects are called in a data set → class that they count as; None ignores them."""


def check_classes(class_names: Sequence[str], label_map: LabelMap, *, source: DataPath) -> None:
    """Raise unless classes are named once each, and a folder's label map leads to some of them.

    Raises:
        ConfigError: Naming what is wrong.
    """
    if not class_names or len(set(class_names)) != len(class_names):
        raise ConfigError(f"classes {[*class_names]}: name at least one class, each once")
    for name, wanted in label_map.items():
        if wanted is not None and wanted not in class_names:
            raise ConfigError(
                f"{source}: label_map {name}: {wanted}: must be null or one of the classes "
                f"{[*class_names]}"
            )


def label_of(names: Sequence[str], class_names: Sequence[str], label_map: LabelMap) -> int | None:
    """The label of an object.

    Args:
        names: What the object is called, the most special name first; the first one of which the
            label map or the class list speaks decides.
        class_names: Classes in the order of their labels.
        label_map: Wins over the class list.

    Returns:
        A number of a class, IGNORED, or None where neither speaks of any of the names.
    """
    for name in names:
        if name in label_map:
            wanted = label_map[name]
            return IGNORED if wanted is None else class_names.index(wanted)
        if name in class_names:
            return class_names.index(name)
    return None
