"""Which class of a run each category of a nuScenes folder counts as."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from mono3d.codec.nuscenes_names import CATEGORY_CLASSES, DETECTION_CLASSES
from mono3d.data.files import DataPath
from mono3d.data.labels import IGNORED, LabelMap, label_of
from mono3d.errors import ConfigError, DataError


def check_has_objects(class_names: Sequence[str], label_map: LabelMap) -> None:
    """Raise unless nuScenes can have objects of each class, by its own name or by the label map.

    Raises:
        ConfigError: Naming the first class that can have none.
    """
    known = {*DETECTION_CLASSES, *CATEGORY_CLASSES, *label_map.values()}
    unknown = next((name for name in class_names if name not in known), None)
    if unknown is not None:
        raise ConfigError(
            f"class {unknown!r} is not a nuScenes detection class ({', '.join(DETECTION_CLASSES)}),"
            " and no category is mapped to it"
        )


def category_labels(
    categories: Sequence[str],
    counts: Int64[np.ndarray, " categories"],
    class_names: Sequence[str],
    label_map: LabelMap,
    *,
    source: DataPath,
) -> Int64[np.ndarray, " categories"]:
    """Label of each category, IGNORED where it is not learnt.

    Args:
        categories: Names in the folder's table.
        counts: Objects of each in the frames that are read.
        class_names: Classes in the order of their labels.
        label_map: Category or detection class → class; a category wins over its detection class.
        source: The folder, for errors.

    Raises:
        ConfigError: If the label map names what is neither category nor detection class.
        DataError: If objects have a category that is neither nuScenes', nor a class, nor mapped.
    """
    strange = sorted(label_map.keys() - {*categories, *DETECTION_CLASSES, *CATEGORY_CLASSES})
    if strange:
        raise ConfigError(
            f"{source}: label_map names {strange[0]}, which is neither a category nor a detection "
            f"class; categories are {', '.join(categories)}"
        )
    labels = np.full(len(categories), IGNORED, dtype=np.int64)
    for number, category in enumerate(categories):
        detection_class = CATEGORY_CLASSES.get(category)
        names = [category] if detection_class is None else [category, detection_class]
        label = label_of(names, class_names, label_map)
        if label is not None:
            labels[number] = label
        elif category not in CATEGORY_CLASSES and counts[number]:
            raise DataError(
                f"{source}: category {category} of {counts[number]} objects is neither nuScenes' "
                f"nor one of the classes {[*class_names]}; map it to one of them, or to null to "
                "ignore it"
            )
    return labels
