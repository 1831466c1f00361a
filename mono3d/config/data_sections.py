"""Which data a run learns from: folders of the benchmarks' formats, alone or merged."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal, TypeGuard

from pydantic import AfterValidator, Field, model_validator

from mono3d.config.section import Section

NUSCENES_CLASSES = (
    "car", "truck", "bus", "trailer", "construction_vehicle", "pedestrian", "motorcycle",
    "bicycle", "traffic_cone", "barrier",
)  # fmt: skip
NUSCENES_CAMERAS = (
    "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT",
)  # fmt: skip
KITTI_CLASSES = ("Car", "Pedestrian", "Cyclist")


def _once_each(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("each name must be there once")
    return names


ClassNames = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_once_each)]


class NuScenesFolder(Section):
    """What is read of a folder in nuScenes' format, real or synthetic."""

    kind: Literal["nuscenes"] = "nuscenes"
    root: str
    """Folder or s3:// URI with the version folder, maps/ and, without `blob_root`, samples/."""
    version: str = Field("v1.0-trainval", pattern=r"^\w[\w.-]*$")
    """Name of the folder with the tables."""
    blob_root: str | None = None
    """Folder or s3:// URI that holds samples/, if `root` does not."""
    cameras: tuple[str, ...] = NUSCENES_CAMERAS
    label_map: dict[str, str | None] = {}
    """Category or detection class → class that it counts as; null ignores it."""


class KittiFolder(Section):
    """What is read of a folder in KITTI's object format: KITTI itself, synthetic, or one's own."""

    kind: Literal["kitti"] = "kitti"
    root: str
    """Folder or s3:// URI that holds training/, and testing/ for the split test."""
    label_map: dict[str, str | None] = {}
    """Type in the label files → class that it counts as; null ignores it."""


class NuScenesData(NuScenesFolder):
    """A folder in nuScenes' format, real or synthetic."""

    train_split: str = "train"
    """An official split, one of the version's splits.json, a path to a .txt file, or `all`."""
    val_split: str = "val"
    class_names: ClassNames = NUSCENES_CLASSES
    """Classes to detect, in the order of the network's outputs."""
    mean_dims_hwl: dict[str, tuple[float, float, float]] = {}
    """Mean height, width and length in metres of classes that the benchmarks do not know."""


class KittiData(KittiFolder):
    """A folder in KITTI's object format: KITTI itself, synthetic, or one's own."""

    train_split: str = "train"
    """A list in ImageSets/, an official split, a path to a .txt file of frame names, or `all`."""
    val_split: str = "val"
    class_names: ClassNames = KITTI_CLASSES
    """Classes to detect, in the order of the network's outputs."""
    mean_dims_hwl: dict[str, tuple[float, float, float]] = {}
    """Mean height, width and length in metres of classes that the benchmarks do not know."""


class _Member(Section):
    """What is said of a data set that is one of several."""

    train_split: str | None = "train"
    """As where the data set is alone; null: it is not trained on."""
    val_split: str | None = "val"
    """Null: it is not evaluated on."""
    has_labels: bool = True
    """False: its frames are trained on without labels; only LiDAR depth (`model.has_depth_map`,
    `model.depth_targets`) and distillation learn from them, and with `pseudo_labels` all the
    rest."""
    pseudo_labels: str | None = None
    """File or s3:// URI that `mono3d pseudo-label` wrote: its boxes are learnt as labels. For
    has_labels=false."""
    pseudo_min_score: float = Field(0.0, ge=0, le=1)
    """Boxes of that file with a lower score are not learnt."""
    may_overlap_val: bool = False
    """Frames without labels may come from drives that a validation split has frames of: such a run
    has seen what it is measured on."""
    share: float | None = Field(None, gt=0)
    """How often its frames are drawn, together, relative to the other sets'; of all sets or none.
    Null: by their number."""

    @model_validator(mode="after")
    def _is_used(self) -> "_Member":
        if self.train_split is None and self.val_split is None:
            raise ValueError("train_split and val_split are null: one of them must name frames")
        if self.pseudo_labels is None and self.pseudo_min_score > 0:
            raise ValueError(
                f"pseudo_min_score={self.pseudo_min_score:g}: there are no pseudo_labels"
            )
        if self.has_labels and self.pseudo_labels is not None:
            raise ValueError(
                f"pseudo_labels={self.pseudo_labels}: the set has labels of its own; with "
                "has_labels=false they are left out"
            )
        if not self.has_labels and self.val_split is not None:
            raise ValueError(
                f"val_split={self.val_split}: frames without labels cannot be evaluated on; set it "
                "to null"
            )
        return self


class NuScenesSet(NuScenesFolder, _Member):
    """A folder in nuScenes' format beside other data sets."""

    ground_height_m: float = 0.0
    """Of the ground in its bev frame, which is moved so that the ground is at 0 in all sets."""


class KittiSet(KittiFolder, _Member):
    """A folder in KITTI's object format beside other data sets."""

    ground_height_m: float = -1.73
    """Of the ground in its bev frame, the Velodyne's or, without one, the camera's; the frame is
    moved so that the ground is at 0 in all sets."""


class MergedData(Section):
    """Several data sets in one run, with one list of classes."""

    kind: Literal["merged"] = "merged"
    class_names: ClassNames
    """Classes to detect, in the order of the network's outputs. Where a set does not label a class,
    its objects count as background."""
    mean_dims_hwl: dict[str, tuple[float, float, float]] = {}
    """Mean height, width and length in metres of classes that the benchmarks do not know."""
    sets: dict[str, Annotated[NuScenesSet | KittiSet, Field(discriminator="kind")]] = Field(
        min_length=1
    )
    """By a name of one's own, which frames and metrics of the set bear."""

    @model_validator(mode="after")
    def _fit_together(self) -> "MergedData":
        for name in self.sets:
            if not re.fullmatch(r"\w+", name, re.ASCII):
                raise ValueError(f"sets.{name}: a name must be letters, digits and underscores")
        for split in ("train_split", "val_split"):
            if all(getattr(member, split) is None for member in self.sets.values()):
                raise ValueError(f"{split} is null in all sets; one must name frames")
        if len({member.share is None for member in self.sets.values()}) > 1:
            raise ValueError("share: give one to all sets, or to none")
        return self


DataConfig = Annotated[NuScenesData | KittiData | MergedData, Field(discriminator="kind")]


def has_nuscenes_metrics(data: Section, class_names: Sequence[str]) -> TypeGuard[NuScenesFolder]:
    """Whether nuscenes-devkit can measure detections of these classes: data and classes are its."""
    return isinstance(data, NuScenesFolder) and set(class_names) <= set(NUSCENES_CLASSES)


def has_official_metrics(data: DataConfig) -> bool:
    """Whether a benchmark measures detections of the whole of these data."""
    return isinstance(data, KittiFolder) or has_nuscenes_metrics(data, data.class_names)
