"""From frames to batches: preparation, padding, and the loader.

All randomness is a function of (seed, epoch, index): a resumed run sees what it would have seen.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mono3d.codec.points import level_size
from mono3d.data.augment import Augmentation, fit_to_size
from mono3d.data.gt_sampling import ObjectPaster
from mono3d.data.images import channels_first, channels_last
from mono3d.data.lidar import depth_map, points_in_view
from mono3d.data.object_depth import object_depth_map
from mono3d.data.sampling import FrameDataset, Sampling
from mono3d.errors import DataError, Mono3dError
from mono3d.geometry.camera import affine_projection
from mono3d.structures import Batch, Boxes3D, Frame, Positives, map_tensors

DepthSource = Literal["lidar", "objects"]
EncodePositives = Callable[[Boxes3D, Boxes3D, Float[Tensor, "b v 3 4"], tuple[int, int]], Positives]
"""Boxes of a batch, [b v k] of its cameras and [b k] of its moments, its projections, and its
images' height and width → positives."""
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How a frame becomes network input and positives; a plain value that crosses processes."""

    image_size: tuple[int, int]
    """Height and width, pixels."""
    encode: EncodePositives
    epoch_scales: tuple[float, ...] = ()
    """Shares of the size that the first epochs see; later ones see all of it."""
    augmentation: Augmentation | None = None
    depth_input: DepthSource | None = None
    """Where a teacher's map of true depth comes from: projected LiDAR points, or the labels."""
    depth_targets: DepthSource | None = None
    """Where maps of true depth come from that are targets; None is no such target."""
    depth_target_stride: int = 1
    """Of the cells of these maps, pixels."""
    paste: ObjectPaster | None = None
    """Pastes objects of other frames with their LiDAR points; for networks that read no image."""
    only_points_in_view: bool = False
    """Leave out LiDAR points that no camera of the frame sees."""
    max_objects: int = 64
    """Slots for labelled boxes of one camera, and of the moment; the farthest ones are dropped."""

    def in_epoch(self, epoch: int) -> "Preparation":
        """The preparation of one epoch, at its size."""
        if epoch >= len(self.epoch_scales):
            return self
        height, width = (round(side * self.epoch_scales[epoch]) for side in self.image_size)
        return replace(self, image_size=(height, width), epoch_scales=())


@dataclass(frozen=True, kw_only=True)
class _PreparedFrame:
    """One frame, ready to be stacked; its pixels lie in the batch."""

    frame: Frame
    depth_input: Float[Tensor, "v 1 h w"] | None
    depth_targets: Float[Tensor, "v hf wf"] | None


def prepare_batch(
    frames: Iterable[Frame], generators: Sequence[torch.Generator], how: Preparation
) -> Batch:
    """Augment frames, bring them to size, project LiDAR, encode: all that a loader process does.

    Frames are asked for one by one, and their pixels written where the batch has them: an image is
    gone from memory before the next one comes.

    Args:
        frames: Of one number of cameras.
        generators: What each frame's augmentation is drawn from.
        how: To prepare them.

    Raises:
        DataError: Depth is wanted, but a frame has no LiDAR points.
    """
    coming, prepared = iter(frames), list[_PreparedFrame]()
    pixels = np.empty((0,), np.uint8)
    for number, generator in enumerate(generators):
        frame = next(coming)
        if not prepared:
            shape = (len(generators), len(frame.images), *how.image_size, 3)
            pixels = np.empty(shape, np.uint8)
        prepared.append(_prepare(frame, how, generator, pixels[number]))
        del frame
    return _collate(prepared, pixels, how)


def _prepare(
    frame: Frame, how: Preparation, generator: torch.Generator, out: UInt8[np.ndarray, "v h w 3"]
) -> _PreparedFrame:
    if how.augmentation is None:
        frame = fit_to_size(frame, how.image_size)
    else:
        frame = fit_to_size(frame, how.image_size, how.augmentation.window(generator))
        if how.paste is not None:
            frame = how.paste(frame, generator)
        frame = how.augmentation(frame, generator, out)
    pixels = channels_last(frame.images)
    if not np.may_share_memory(pixels, out):
        np.copyto(out, pixels)
        frame = replace(frame, images=channels_first(out))
    if frame.boxes_cam is not None and frame.boxes_bev is not None:
        frame = replace(
            frame,
            boxes_cam=tuple(_nearest(boxes, how.max_objects) for boxes in frame.boxes_cam),
            boxes_bev=_nearest(frame.boxes_bev, how.max_objects, seen=_ids_in_view(frame)),
        )
    if how.only_points_in_view and frame.points is not None:
        views = (frame.bev_from_cam, frame.projection, how.image_size)
        frame = replace(frame, points=points_in_view(frame.points, *views))
    inputs = _depth_maps(frame, how.image_size, how.depth_input, 1)
    return _PreparedFrame(
        frame=frame,
        depth_input=None if inputs is None else inputs[:, None],
        depth_targets=_depth_maps(
            frame, how.image_size, how.depth_targets, how.depth_target_stride
        ),
    )


def _nearest(boxes: Boxes3D, count: int, seen: Int64[Tensor, " ids"] | None = None) -> Boxes3D:
    """The nearest boxes, those first whose objects are seen, if it is told which are."""
    if len(boxes) <= count:
        return boxes
    distance = boxes.centers.norm(dim=-1)
    if seen is not None:
        distance = torch.where(torch.isin(boxes.object_ids, seen), distance, torch.inf)
    return boxes.select(distance.argsort(stable=True)[:count])


def _ids_in_view(frame: Frame) -> Int64[Tensor, " ids"]:
    return torch.cat([boxes.object_ids for boxes in _boxes_of_cameras(frame)])


def _boxes_of_cameras(frame: Frame) -> tuple[Boxes3D, ...]:
    if frame.boxes_cam is None:
        return (Boxes3D.empty(),) * len(frame.images)
    return frame.boxes_cam


def _depth_maps(
    frame: Frame, image_size: tuple[int, int], source: DepthSource | None, stride: int
) -> Float[Tensor, "v hf wf"] | None:
    """True depth of each cell of a stride in each camera, metres; 0 where it is not known.

    That of the nearest LiDAR point in the cell, or of the nearest object in whose 2D box its point
    lies.
    """
    if source is None:
        return None
    shift = -(stride // 2) / stride
    to_cells = frame.projection.new_tensor([[1 / stride, 0, shift], [0, 1 / stride, shift]])
    projection, size = affine_projection(frame.projection, to_cells), level_size(image_size, stride)
    if source == "objects":
        cameras = zip(_boxes_of_cameras(frame), projection, strict=True)
        return torch.stack([object_depth_map(boxes, p, size) for boxes, p in cameras])
    if frame.points is None:
        raise DataError(f"frame {frame.frame_id}: depth is wanted, but it has no LiDAR points")
    views = zip(frame.bev_from_cam, projection, strict=True)
    return torch.stack([depth_map(frame.points, pose, p, size) for pose, p in views])


class PreparedDataset(Dataset[Batch]):
    """A data set whose items are batches, asked for as (epoch, index) of each frame."""

    def __init__(self, dataset: FrameDataset, preparation: Preparation, seed: int) -> None:
        """Wrap a data set."""
        self._dataset = dataset
        self.preparation = preparation
        self._seed = seed

    def __getitem__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """Frames of one epoch, with the augmentation that belongs to it."""
        epoch = keys[0][0]
        return prepare_batch(
            (self._dataset[index] for _, index in keys),
            [self._generator(epoch, index) for _, index in keys],
            self.preparation.in_epoch(epoch),
        )

    def _generator(self, epoch: int, index: int) -> torch.Generator:
        words = np.random.SeedSequence([self._seed, epoch, index]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(words[0]))


class BatchLoader:
    """Training batches of one rank."""

    def __init__(
        self,
        dataset: FrameDataset,
        preparation: Preparation,
        sampling: Sampling,
        *,
        num_workers: int,
    ) -> None:
        """Nothing is read yet; `num_workers` 0 prepares in the training process."""
        self._prepared = PreparedDataset(dataset, preparation, sampling.seed)
        self._sampling = sampling
        self._num_workers = num_workers

    @property
    def batches_per_epoch(self) -> int:
        """Batches of this rank in an epoch."""
        return self._sampling.batches_per_epoch

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """Batches of an epoch, from one in its middle on."""
        keys = self._sampling.batches(epoch, first_batch)
        return _load(self._prepared, keys, self._num_workers)

    def image_size(self, epoch: int) -> tuple[int, int]:
        """Height and width of an epoch's images, pixels."""
        return self._prepared.preparation.in_epoch(epoch).image_size


def evaluation_batches(
    dataset: FrameDataset,
    preparation: Preparation,
    indices: Sequence[int],
    *,
    batch_size: int,
    num_workers: int,
) -> Iterator[Batch]:
    """Batches of the given frames in their order; the last one may be smaller."""
    keys = [
        [(0, i) for i in indices[s : s + batch_size]] for s in range(0, len(indices), batch_size)
    ]
    prepared = PreparedDataset(dataset, preparation, seed=0)
    return _load(prepared, keys, num_workers)


def read_frames(
    dataset: FrameDataset, indices: Sequence[int], *, num_workers: int
) -> Iterator[Frame]:
    """The given frames as the data set has them, in their order, read ahead by processes."""
    return _through(
        DataLoader(
            cast("Dataset[Frame]", dataset),
            sampler=indices,
            batch_size=None,
            num_workers=num_workers,
        )
    )


def _load(
    prepared: PreparedDataset, keys: list[list[tuple[int, int]]], num_workers: int
) -> Iterator[Batch]:
    return _through(
        DataLoader(
            prepared,
            sampler=keys,
            batch_size=None,
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available(),
        )
    )


def _through(loader: Iterable[Item]) -> Iterator[Item]:
    """What a loader yields, with the errors of its processes as they were raised there."""
    failure: Mono3dError | None = None
    try:
        yield from loader
    except Mono3dError as error:
        failure = type(error)(_own_line(error))
        error.__traceback__ = None  # it would keep the loader's processes alive
    if failure is not None:
        raise failure


def _own_line(error: Mono3dError) -> str:
    """The error's text, without the traceback that comes with it from a loader process."""
    kind = type(error)
    before, _, line = str(error).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")
    return line.strip() if before else str(error)


def _collate(
    prepared: Sequence[_PreparedFrame], pixels: UInt8[np.ndarray, "b v h w 3"], how: Preparation
) -> Batch:
    """Stack prepared frames and encode their boxes.

    Boxes are padded to `max_objects`, points joined with offsets; points and depth inputs are in
    the batch where all its frames have them.
    """
    frames = [item.frame for item in prepared]
    has_points = all(frame.points is not None for frame in frames)
    points = [frame.points for frame in frames if frame.points is not None]
    inputs = [item.depth_input for item in prepared if item.depth_input is not None]
    targets = [item.depth_targets for item in prepared if item.depth_targets is not None]
    sizes = torch.tensor([0, *(len(p) for p in points)])
    projection = torch.stack([frame.projection for frame in frames])
    boxes_of_cameras = [boxes for frame in frames for boxes in _boxes_of_cameras(frame)]
    boxes_cam = map_tensors(
        _padded(boxes_of_cameras, how.max_objects), lambda t: t.unflatten(0, projection.shape[:2])
    )
    boxes_bev = _padded([_boxes_of_moment(frame) for frame in frames], how.max_objects)
    return Batch(
        frame_ids=tuple(frame.frame_id for frame in frames),
        images=torch.from_numpy(pixels).permute(0, 1, 4, 2, 3),
        projection=projection,
        bev_from_cam=torch.stack([frame.bev_from_cam for frame in frames]),
        points=torch.cat(points) if has_points else None,
        point_offsets=sizes.cumsum(0) if has_points else None,
        depth_input=torch.stack(inputs) if len(inputs) == len(frames) else None,
        depth_targets=torch.stack(targets) if len(targets) == len(frames) else None,
        has_labels=torch.tensor([frame.boxes_bev is not None for frame in frames]),
        boxes_cam=boxes_cam,
        boxes_bev=boxes_bev,
        positives=how.encode(boxes_cam, boxes_bev, projection, how.image_size),
    )


def _boxes_of_moment(frame: Frame) -> Boxes3D:
    return Boxes3D.empty() if frame.boxes_bev is None else frame.boxes_bev


def _padded(boxes: Sequence[Boxes3D], slots: int) -> Boxes3D:
    """Boxes [n] of each image or moment as [images slots]; zeros (False) after the last box."""
    counts = np.array([len(own) for own in boxes])
    taken = torch.from_numpy(np.flatnonzero(np.arange(slots) < counts[:, None]))

    def padded(name: str) -> Tensor:
        values = torch.cat([getattr(own, name) for own in boxes])
        room = values.new_zeros(len(boxes) * slots, *values.shape[1:])
        return room.index_copy_(0, taken, values).view(len(boxes), slots, *values.shape[1:])

    return Boxes3D(**{f.name: padded(f.name) for f in fields(Boxes3D)})
