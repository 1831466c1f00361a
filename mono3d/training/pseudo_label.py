"""A detector over frames that nobody labelled: its boxes become a file that others learn from."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mono3d.codec.box_frames import boxes_in_bev
from mono3d.codec.image_objects import boxes_in_image
from mono3d.config.data_sections import MergedData
from mono3d.config.schema import RunConfig
from mono3d.data.files import data_path, read_text
from mono3d.data.gt_sampling import join_boxes
from mono3d.data.loaders import read_frames
from mono3d.data.merged import MergedDataset
from mono3d.data.pseudo_labels import (
    FORMAT,
    Folder,
    FoundMoment,
    PseudoBox,
    PseudoLabelHeader,
    brightness_of,
    read_header,
    read_pseudo_labels,
)
from mono3d.data.sampling import FrameDataset
from mono3d.errors import ConfigError, StorageError
from mono3d.geometry.box_iou import footprints_bev
from mono3d.storage.location import is_s3, local_path, write_bytes
from mono3d.storage.s3 import check_access
from mono3d.storage.s3_location import S3Location
from mono3d.structures import Boxes3D, Detections, Frame
from mono3d.training.datasets import build_dataset, split_records
from mono3d.training.detect import suppress
from mono3d.training.frame_log import FrameLog
from mono3d.training.predict import Detector

STAGING = Path("runs/pseudo_labels")
"""Where a file for S3 grows."""
OnFrame = Callable[[int, int | None], None]
"""Told how many moments are done and how many there are."""


@dataclass(frozen=True, kw_only=True)
class Unlabelled:
    """Frames to look at; their labels, if there are any, are not read."""

    config: RunConfig
    dataset: FrameDataset
    """As the detector wants them."""
    folder: Folder
    """The same frames in the same order, in their own bev frame."""
    raised_m: float
    """How much higher all things are in the detector's bev frame."""

    @property
    def facts(self) -> dict[str, str]:
        """Which frames these are."""
        (record,) = split_records(self.config.data, "train", self.dataset)
        return {"name": record.name, "source": record.source, "fingerprint": record.fingerprint}


def open_unlabelled(config: RunConfig, set_name: str | None = None) -> Unlabelled:
    """The training split of a config's data, without labels.

    Args:
        config: Of the detector.
        set_name: Of merged data, which set; None is the only one without labels.

    Raises:
        ConfigError: It is not clear which frames are meant.
        DataError: They cannot be read.
    """
    reads_lidar = not config.model.reads_images_alone
    if not isinstance(config.data, MergedData):
        if set_name is not None:
            raise ConfigError(f"--set {set_name}: for merged data, and these are one set")
        dataset = build_dataset(config, "train", with_points=reads_lidar, has_labels=False)
        assert isinstance(dataset, Folder)
        return Unlabelled(config=config, dataset=dataset, folder=dataset, raised_m=0.0)
    sets = config.data.sets
    if set_name is None:
        bare = [name for name, member in sets.items() if not member.has_labels]
        if len(bare) != 1:
            raise ConfigError(f"--set is missing: one of {', '.join(sets)}")
        (set_name,) = bare
    if set_name not in sets:
        raise ConfigError(f"--set {set_name}: is none of {', '.join(sets)}")
    if sets[set_name].train_split is None:
        raise ConfigError(f"--set {set_name}: data.sets.{set_name}.train_split is null")
    only = config.data.model_copy(update={"sets": {set_name: sets[set_name]}})
    config = config.model_copy(update={"data": only})
    merged = build_dataset(config, "train", with_points=reads_lidar, has_labels=False)
    assert isinstance(merged, MergedDataset)
    folder = merged.members[set_name]
    assert isinstance(folder, Folder)
    raised_m = -sets[set_name].ground_height_m
    return Unlabelled(config=config, dataset=merged, folder=folder, raised_m=raised_m)


def answering(config: RunConfig) -> dict[str, Any]:
    """Settings that change what a network answers; how it is asked does not."""
    kept = (
        {"image_height_px", "image_width_px"},
        {"top_k", "nms_iou", "position_tolerances_m", "flip"},
    )
    return {
        **config.input.model_dump(mode="json", include=kept[0]),
        **config.evaluation.model_dump(mode="json", include=kept[1]),
    }


@dataclass(frozen=True, kw_only=True)
class LabelCounts:
    """What came of it."""

    moments: int
    boxes: Mapping[str, int]
    """By class."""


class _Log(FrameLog[FoundMoment]):
    @staticmethod
    def encode(found: FoundMoment) -> Mapping[str, Any]:
        return found.model_dump(mode="json", by_alias=True)

    @staticmethod
    def decode(record: Mapping[str, Any]) -> FoundMoment:
        return FoundMoment.model_validate({k: v for k, v in record.items() if k != "frame"})


def check_output(output: str) -> None:
    """Raise now what could not be written after hours.

    Raises:
        ConfigError: It names no file.
        StorageError: The bucket cannot be written.
    """
    if is_s3(output):
        location = S3Location.parse(output)
        if not location.key:
            raise ConfigError(f"--output={output}: names a bucket; name a file in it")
        check_access(output.rpartition("/")[0])
    elif not local_path(output).name or local_path(output).is_dir():
        raise ConfigError(f"--output={output}: is a folder; name a file")


def pseudo_label(
    detector: Detector,
    unlabelled: Unlabelled,
    output: str,
    *,
    teacher: Mapping[str, Any],
    min_scores: Float[Tensor, " classes"],
    on_frame: OnFrame,
) -> LabelCounts:
    """Write what a detector finds in frames as a file that `data.sets.NAME.pseudo_labels` takes.

    The file grows under another name and is there at once or not at all. Interrupted at any moment,
    the same call goes on after the last moment that was done; finished, it only counts. A file of
    another call is not replaced: runs may have learnt from it.

    Args:
        detector: To ask.
        unlabelled: Frames.
        output: Path or s3:// URI.
        teacher: What the file says of the detector.
        min_scores: Weaker boxes are left out.
        on_frame: Told at the beginning and after each moment.

    Raises:
        ConfigError: Another call's file is there, finished or not; or `output` names none.
        DataError: A frame cannot be read; what came before it is kept for the same call.
        StorageError: The file cannot be written.
    """
    check_output(output)
    header = PseudoLabelHeader(
        format=FORMAT,
        teacher=dict(teacher),
        frames=unlabelled.facts,
        class_names=detector.class_names,
        cameras=unlabelled.folder.cameras,
        min_scores=dict(zip(detector.class_names, min_scores.tolist(), strict=True)),
    )
    indices_of = {
        moment: list(indices)
        for moment, indices in groupby(
            range(len(unlabelled.folder)), key=unlabelled.folder.moment_of
        )
    }
    if not _is_finished(output, header):
        part = _part(output)
        with _naming(part), _Log(part, header.model_dump(mode="json")) as log:
            missing = {name: own for name, own in indices_of.items() if name not in log.done}
            on_frame(log.count, len(indices_of))
            for moment, found in _found(detector, unlabelled, missing, min_scores):
                log.add(moment, found)
                on_frame(log.count, len(indices_of))
            if is_s3(output):
                write_bytes(output, part.read_bytes())
                log.delete()
            else:
                log.finish(local_path(output))
    labels = read_pseudo_labels(data_path(output), detector.class_names).boxes.labels
    counts = labels.bincount(minlength=len(detector.class_names)).tolist()
    return LabelCounts(
        moments=len(indices_of), boxes=dict(zip(detector.class_names, counts, strict=True))
    )


def _part(output: str) -> Path:
    """Where a file grows until it is whole."""
    if not is_s3(output):
        path = local_path(output)
        return path.with_name(f"{path.name}.part")
    digest = hashlib.sha256(output.encode()).hexdigest()[:8]
    return STAGING / f"{output.rpartition('/')[2]}.{digest}.part"


@contextmanager
def _naming(part: Path) -> Iterator[None]:
    """Say where the work is that could not be brought to its place."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StorageError(f"cannot write {error.filename or part}: {error.strerror}") from error
    except StorageError as error:
        raise StorageError(
            f"{error}; what was found is in {part}, and the same call goes on"
        ) from error


def _is_finished(output: str, header: PseudoLabelHeader) -> bool:
    """Whether the file is there and of this call.

    Raises:
        ConfigError: It is of another.
    """
    path = data_path(output)
    if not path.is_file():
        return False
    known = read_header(path, read_text(path).partition("\n")[0])
    changed = [key for key, value in header if getattr(known, key) != value]
    if changed:
        raise ConfigError(
            f"--output={output}: has labels of another call ({', '.join(changed)} changed), which "
            "runs may have learnt from; choose another file, or delete it"
        )
    return True


def _found(
    detector: Detector,
    unlabelled: Unlabelled,
    indices_of: Mapping[str, Sequence[int]],
    min_scores: Float[Tensor, " classes"],
) -> Iterator[tuple[str, FoundMoment]]:
    """Boxes of moments, as a file has them."""
    indices = [index for own in indices_of.values() for index in own]
    processes = detector.config.input.loader_processes
    frames = read_frames(unlabelled.dataset, indices, num_workers=processes)
    answers = detector.detect_all(frames, min_score=float(min_scores.min()))
    max_iou = detector.config.evaluation.nms_iou
    in_moments = groupby(
        zip(indices, answers, strict=True), key=lambda item: unlabelled.folder.moment_of(item[0])
    )
    for moment, items in in_moments:
        views = [answer for _, answer in items]
        kept = [found.select(found.scores >= min_scores[found.boxes.labels]) for _, found in views]
        parts = [_in_bev(found, frame) for (frame, _), found in zip(views, kept, strict=True)]
        found = Detections(
            boxes=join_boxes([part.boxes for part in parts]),
            scores=torch.cat([part.scores for part in parts]),
        )
        if len(views) > 1:  # an object at the edge of two images is found in both
            found = suppress(
                found.boxes, found.scores, min_score=0.0, max_iou=max_iou, place=footprints_bev
            )
        own = [frame for frame, _ in views]
        names = detector.class_names
        yield (
            moment,
            FoundMoment(
                brightness={k: v for frame in own for k, v in brightness_of(frame).items()},
                boxes=_pseudo_boxes(found, own, class_names=names, raised_m=unlabelled.raised_m),
            ),
        )


def _in_bev(found: Detections, frame: Frame) -> Detections:
    """A detector answers in the frame of a lone camera, and else in the bev frame."""
    if len(frame.images) > 1:
        return found
    return replace(found, boxes=boxes_in_bev(found.boxes, frame.bev_from_cam[0]))


def _pseudo_boxes(
    found: Detections, views: Sequence[Frame], *, class_names: Sequence[str], raised_m: float
) -> tuple[PseudoBox, ...]:
    """Boxes that a camera sees, in the folder's own bev frame."""
    seen_by: list[list[str]] = [[] for _ in range(len(found))]
    for frame in views:
        for camera, name in enumerate(frame.camera_names):
            for row in boxes_in_image(found.boxes, frame, camera)[1].nonzero()[:, 0].tolist():
                seen_by[row].append(name)
    boxes: Boxes3D = found.boxes
    centers = boxes.centers - boxes.centers.new_tensor([0.0, 0.0, raised_m])
    return tuple(
        PseudoBox(
            class_name=class_names[label],
            score=round(score, 4),
            center_xyz_m=tuple(round(value, 3) for value in center),
            dims_hwl_m=tuple(round(value, 3) for value in dims),
            yaw_rad=round(yaw, 4),
            cameras=tuple(cameras),
        )
        for label, score, center, dims, yaw, cameras in zip(
            boxes.labels.tolist(),
            found.scores.tolist(),
            centers.tolist(),
            boxes.dims_hwl.tolist(),
            boxes.yaw.tolist(),
            seen_by,
            strict=True,
        )
        if cameras
    )
