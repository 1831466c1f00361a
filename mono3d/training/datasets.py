"""From a config to the frames of a split, and what a run's record says of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, assert_never

from mono3d.config.data_sections import (
    DataConfig,
    KittiData,
    KittiFolder,
    KittiSet,
    MergedData,
    NuScenesData,
    NuScenesFolder,
    NuScenesSet,
)
from mono3d.config.model_sections import GridModel, LidarModel
from mono3d.config.schema import RunConfig
from mono3d.data.drives import LIST, MAPPING
from mono3d.data.files import data_path
from mono3d.data.kitti import KittiDataset
from mono3d.data.merged import Member, MergedDataset
from mono3d.data.nuscenes import NuScenesDataset
from mono3d.data.nuscenes_labels import check_has_objects
from mono3d.data.pseudo_labels import PseudoLabelled, read_pseudo_labels
from mono3d.data.sampling import FrameDataset
from mono3d.errors import ConfigError, DataError
from mono3d.storage.location import is_s3, local_path

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")


def build_dataset(
    config: RunConfig,
    split: Split,
    *,
    with_points: bool | None = None,
    has_labels: bool = True,
) -> FrameDataset:
    """The frames of a split; with LiDAR where training learns from it.

    A detector that answers in images gets frames of one camera each, one that answers on a grid
    those of whole moments.

    Args:
        config: Of the run.
        split: Which.
        with_points: None: as training and evaluation need it.
        has_labels: False leaves labels out, also where there are none.

    Raises:
        ConfigError: Classes and label maps do not fit the data.
        DataError: A folder cannot be read.
    """
    data = config.data
    if with_points is None:
        with_points = split == "train" and config.model.learns_lidar_depth
        with_points |= split == "val" and measures_depth_map(config)
        with_points |= config.model.depth_input == "lidar" or isinstance(config.model, LidarModel)
    bare = partial(build_dataset, config, split, with_points=False, has_labels=has_labels)
    cache_gib = config.input.cache_gib
    surround = isinstance(config.model, GridModel)
    if not isinstance(data, MergedData):
        if isinstance(data, NuScenesData):
            check_has_objects(data.class_names, data.label_map)
        name = data.train_split if split == "train" else data.val_split
        dataset: FrameDataset = _open_folder(
            data,
            name,
            data.class_names,
            with_points=with_points,
            cache_gib=cache_gib,
            has_labels=has_labels,
            surround=surround,
        )
        if split == "val" and with_points:
            check_sweeps(config, dataset, [0], without_points=bare)
        return dataset
    members = {}
    for member_name, member in data.sets.items():
        own_split = member.train_split if split == "train" else member.val_split
        if own_split is not None:
            dataset = _open_folder(
                member,
                own_split,
                data.class_names,
                with_points=with_points,
                cache_gib=cache_gib,
                has_labels=has_labels and member.has_labels,
                surround=surround,
            )
            if member.pseudo_labels is not None and has_labels:
                path = data_path(member.pseudo_labels, cache_gib=cache_gib)
                labels = read_pseudo_labels(
                    path, data.class_names, min_score=member.pseudo_min_score
                )
                dataset = PseudoLabelled(dataset, labels)
            members[member_name] = Member(
                dataset=dataset, ground_height_m=member.ground_height_m, share=member.share
            )
    merged = MergedDataset(members)
    if split == "val" and with_points:
        check_sweeps(config, merged, merged.first(len(members)), without_points=bare)
    return merged


def check_sweeps(
    config: RunConfig,
    dataset: FrameDataset,
    indices: Iterable[int],
    *,
    without_points: Callable[[], FrameDataset],
) -> None:
    """Read some frames with their LiDAR: a run shall not find out at its first evaluation.

    Args:
        config: Of the run, which says what LiDAR is for.
        dataset: Frames with points.
        indices: Of those to read.
        without_points: Opens the same frames without points, by which it is seen whether a frame
            that cannot be read lacks nothing but its LiDAR; called only then.

    Raises:
        DataError: A frame cannot be read; where only LiDAR is wrong, with what can be done.
    """
    for index in indices:
        try:
            dataset[index]
        except DataError as error:
            without_points()[index]
            advice = "evaluation.depth_map=false evaluates without LiDAR"
            if isinstance(config.model, LidarModel):
                advice = "model.kind=lidar reads it"
            if config.model.depth_input == "lidar":
                advice = "model.depth_input=lidar reads it, model.depth_input=objects needs none"
            raise DataError(f"{error}; {advice}") from error


def check_leakage(data: DataConfig, train: FrameDataset, val: FrameDataset) -> None:
    """Refuse to learn without labels from drives that the validation split shows.

    A teacher's answers about them would be learnt by heart, and validation would measure that.

    Raises:
        ConfigError: Drives are in both, or it is not known from which drives frames come.
        DataError: A list of drives is broken.
    """
    if not isinstance(data, MergedData):
        return
    assert isinstance(train, MergedDataset)
    assert isinstance(val, MergedDataset)
    unlabelled = (
        name for name, own in data.sets.items() if not (own.has_labels or own.may_overlap_val)
    )
    for name in unlabelled:
        for other, measured in val.members.items():
            own = train.members[name]
            folder = own.folder if isinstance(own, PseudoLabelled) else own
            _check_drives(data, {name: folder, other: measured})


def pseudo_label_teachers(dataset: FrameDataset) -> dict[str, Any]:
    """Who found the labels of sets that have none of their own, by name of the set."""
    members = dataset.members if isinstance(dataset, MergedDataset) else {}
    return {
        name: own.labels.header.teacher
        for name, own in members.items()
        if isinstance(own, PseudoLabelled)
    }


def _check_drives(data: MergedData, pair: Mapping[str, FrameDataset]) -> None:
    """Of a set without labels and one that is measured on, in this order."""
    (name, own), (other, measured) = pair.items()
    if isinstance(own, KittiDataset) and isinstance(measured, KittiDataset):
        unknown = [n for n, d in ((name, own), (other, measured)) if d.drives is None]
        if unknown and own.drives != frozenset():  # of testing frames none can be
            raise ConfigError(
                f"data.sets.{name}.has_labels=false: whether its drives are in {other}'s val_split "
                f"is not known: {data.sets[unknown[0]].root} has neither {LIST} (a frame and its "
                f"drive a line) nor the development kit's {MAPPING}; add it, or set "
                f"data.sets.{name}.may_overlap_val=true"
            )
    both = sorted(_drives(own) & _drives(measured))
    if both:
        raise ConfigError(
            f"data.sets.{name}.has_labels=false: drives are in {other}'s val_split too "
            f"({len(both)}): {', '.join(both[:3])}; leave them out of "
            f"data.sets.{name}.train_split, or set data.sets.{name}.may_overlap_val=true"
        )


def _drives(dataset: FrameDataset) -> frozenset[str]:
    assert isinstance(dataset, KittiDataset | NuScenesDataset)
    return dataset.drives or frozenset()


def measures_depth_map(config: RunConfig) -> bool:
    """Whether evaluation compares a depth map with LiDAR."""
    return config.model.learns_lidar_depth and config.evaluation.depth_map


def _open_folder(
    folder: NuScenesFolder | KittiFolder,
    split: str,
    class_names: Sequence[str],
    *,
    with_points: bool,
    cache_gib: float,
    has_labels: bool,
    surround: bool,
) -> KittiDataset | NuScenesDataset:
    located = partial(data_path, cache_gib=cache_gib)
    match folder:
        case NuScenesFolder():
            return NuScenesDataset(
                located(folder.root),
                version=folder.version,
                split=split,
                class_names=class_names,
                label_map=folder.label_map,
                cameras=folder.cameras,
                surround=surround,
                with_points=with_points,
                has_labels=has_labels,
                blob_root=None if folder.blob_root is None else located(folder.blob_root),
            )
        case KittiFolder():
            return KittiDataset(
                located(folder.root),
                split=split,
                class_names=class_names,
                label_map=folder.label_map,
                with_points=with_points,
                has_labels=has_labels,
            )
        case _:
            assert_never(folder)


@dataclass(frozen=True, kw_only=True)
class SplitRecord:
    """A split of one folder, as a run's record names it."""

    name: str
    source: str
    """Folder or s3:// URI."""
    fingerprint: str


def split_records(data: DataConfig, split: Split, dataset: FrameDataset) -> list[SplitRecord]:
    """The folders behind a split's data set, one or several."""
    if not isinstance(data, MergedData):
        return [_split_record(data, split, dataset)]
    assert isinstance(dataset, MergedDataset)
    return [
        _split_record(data.sets[name], split, member, prefix=f"{name}/")
        for name, member in dataset.members.items()
    ]


def _split_record(
    folder: NuScenesData | KittiData | NuScenesSet | KittiSet,
    split: Split,
    dataset: FrameDataset,
    *,
    prefix: str = "",
) -> SplitRecord:
    name = folder.train_split if split == "train" else folder.val_split
    kind = folder.version if isinstance(folder, NuScenesFolder) else folder.kind
    labels = " with pseudo-labels" if isinstance(dataset, PseudoLabelled) else ""
    return SplitRecord(
        name=f"{prefix}{kind}/{name}{labels}",
        source=folder.root if is_s3(folder.root) else str(local_path(folder.root).resolve()),
        fingerprint=dataset.fingerprint,
    )
