"""A network over a split: detections, depth pairs and official metrics, on one rank or many."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from mono3d.codec.detector_codec import DetectorCodec
from mono3d.config.data_sections import (
    KittiFolder,
    MergedData,
    NuScenesFolder,
    has_nuscenes_metrics,
)
from mono3d.config.schema import RunConfig
from mono3d.data.kitti import KittiDataset
from mono3d.data.loaders import evaluation_batches
from mono3d.data.merged import MergedDataset
from mono3d.data.nuscenes import NuScenesDataset
from mono3d.data.sampling import FrameDataset
from mono3d.evaluation import kitti, nuscenes
from mono3d.evaluation.dense_depth import DenseSums, dense_quality, dense_sums
from mono3d.evaluation.depth_quality import (
    DepthPairs,
    concatenate,
    depth_quality,
    match_in_image,
    pair_depths,
)
from mono3d.evaluation.kitti_ap import RECALLS
from mono3d.evaluation.oracle import Quantity, with_truth
from mono3d.evaluation.precision_recall import PrecisionRecall
from mono3d.evaluation.views import by_camera
from mono3d.structures import Batch, Detections, to_device
from mono3d.training.assembly import build_preparation
from mono3d.training.datasets import measures_depth_map
from mono3d.training.detect import detect, respond
from mono3d.training.model_assembly import build_codec
from mono3d.training.out_of_memory import evaluation_memory

PAIRINGS: tuple[Literal["centers", "matched"], ...] = ("centers", "matched")


@dataclass(frozen=True, kw_only=True)
class FrameAnswer:
    """What a network says about a frame, and how deep it says the labelled objects are."""

    frame_id: str
    detections: Detections
    """In the camera's frame of a frame of one camera, in the bev frame of others."""
    centers: DepthPairs
    """Depth read at the objects' projected centres."""
    matched: DepthPairs
    """Depth of the detections that mark the objects in the image."""
    dense: DenseSums | None = None
    """Errors of the depth map, where there is one and LiDAR to measure it by."""
    seconds: float = 0.0
    """From the frame on the device to its detections: a share of its batch's time."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics of a split with what figures are drawn from."""

    metrics: Mapping[str, float]
    answers: Sequence[FrameAnswer]
    curves: Mapping[str, PrecisionRecall]
    """By class: of nuScenes at 2 m, of KITTI in 3D, moderate."""

    @property
    def centers(self) -> DepthPairs:
        """All objects' depths at their projected centres."""
        return concatenate(answer.centers for answer in self.answers)


def evaluate_split(
    config: RunConfig,
    network: nn.Module,
    weights: Mapping[str, Tensor] | None,
    dataset: FrameDataset,
    *,
    max_frames: int | None = None,
) -> Evaluation:
    """Run a network over a split and measure it; every rank takes part and gets the same answer.

    Args:
        config: Of the run.
        network: The student, on its device; left in the mode it came in.
        weights: Used in place of the network's own, such as averaged ones.
        dataset: The split.
        max_frames: Only so many frames, whole samples from the first on, of merged data sets as
            many of each; None is all.
    """
    asked = _first_frames(dataset, max_frames)
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    answers = list(answer_frames(config, network, weights, dataset, asked[rank::world_size]))
    answers = _from_all_ranks(answers, world_size)
    evaluation: list[Evaluation | None] = [None]
    if rank == 0:
        evaluation[0] = _with_latency(config, score(config, dataset, answers, asked))
    if world_size > 1:
        dist.broadcast_object_list(evaluation, src=0)
    assert evaluation[0] is not None
    return evaluation[0]


def _with_latency(config: RunConfig, evaluation: Evaluation) -> Evaluation:
    if not config.evaluation.latency or not evaluation.answers:
        return evaluation
    latency_ms = 1000 * median(answer.seconds for answer in evaluation.answers)
    return replace(evaluation, metrics={**evaluation.metrics, "latency_ms": latency_ms})


def _from_all_ranks(answers: list[FrameAnswer], world_size: int) -> list[FrameAnswer]:
    if world_size == 1:
        return answers
    gathered: list[list[FrameAnswer]] = [[] for _ in range(world_size)]
    dist.all_gather_object(gathered, answers)
    return [answer for part in gathered for answer in part]


def _first_frames(dataset: FrameDataset, max_frames: int | None) -> Sequence[int]:
    if max_frames is None or max_frames >= len(dataset):
        return range(len(dataset))
    return dataset.first(max_frames) if isinstance(dataset, MergedDataset) else range(max_frames)


def score(
    config: RunConfig,
    dataset: FrameDataset,
    answers: Sequence[FrameAnswer],
    indices: Iterable[int],
) -> Evaluation:
    """Official detection metrics, where there are any, and depth quality of the answers.

    Of merged data sets it is the depth quality of all frames, and everything of each set under
    `{set}/`.

    Args:
        config: Of the run.
        dataset: The split.
        answers: To the frames at `indices`, in any order.
        indices: Frames that were asked.
    """
    data = config.data
    if not isinstance(data, MergedData):
        return _score_folder(data, data.class_names, dataset, answers, indices)
    assert isinstance(dataset, MergedDataset)
    return _score_members(data, dataset, answers, indices)


def _score_members(
    data: MergedData,
    dataset: MergedDataset,
    answers: Sequence[FrameAnswer],
    indices: Iterable[int],
) -> Evaluation:
    own_answers: dict[str, list[FrameAnswer]] = {name: [] for name in dataset.members}
    own_indices: dict[str, list[int]] = {name: [] for name in dataset.members}
    for answer in answers:
        name, _, frame_id = answer.frame_id.partition("/")
        own_answers[name].append(replace(answer, frame_id=frame_id))
    for index in indices:
        name, own_index = dataset.locate(index)
        own_indices[name].append(own_index)
    metrics = _depth_metrics(answers, data.class_names)
    for name, member in dataset.members.items():
        own = _score_folder(
            data.sets[name], data.class_names, member, own_answers[name], own_indices[name]
        )
        metrics |= {f"{name}/{key}": value for key, value in own.metrics.items()}
    return Evaluation(metrics=metrics, answers=answers, curves={})


def _score_folder(
    folder: NuScenesFolder | KittiFolder,
    class_names: Sequence[str],
    dataset: FrameDataset,
    answers: Sequence[FrameAnswer],
    indices: Iterable[int],
) -> Evaluation:
    official = _official_metrics(folder, class_names, dataset, answers, indices)
    metrics = {**official.values, **_depth_metrics(answers, class_names)}
    return Evaluation(metrics=metrics, answers=answers, curves=official.curves)


@dataclass(frozen=True, kw_only=True)
class _Official:
    """What a benchmark says; nothing where none measures these data and classes."""

    values: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, PrecisionRecall] = field(default_factory=dict)


def _depth_metrics(answers: Sequence[FrameAnswer], class_names: Sequence[str]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for pairing in PAIRINGS:
        pairs = concatenate(getattr(answer, pairing) for answer in answers)
        metrics |= depth_quality(pairs, class_names, pairing)
    return metrics | dense_quality(a.dense for a in answers if a.dense is not None)


def oracle_scores(
    config: RunConfig, dataset: FrameDataset, evaluation: Evaluation, quantities: Sequence[Quantity]
) -> dict[str, Mapping[str, float]]:
    """Metrics of an evaluation with each quantity, and with all of them, replaced by the truth.

    Args:
        config: Of the run.
        dataset: The split that was evaluated, from its first frame on.
        evaluation: Of the network as it is.
        quantities: What to replace.

    Returns:
        By quantity; `all` comes last where there are several.
    """
    number_of = {frame_id: number for number, frame_id in enumerate(dataset.frame_ids)}
    numbers = [number_of[answer.frame_id] for answer in evaluation.answers]
    views = [(*dataset.camera_labels(n)[0], dataset[n].images.shape[-2:]) for n in numbers]
    wanted: dict[str, Sequence[Quantity]] = {name: (name,) for name in quantities}
    if len(quantities) > 1:
        wanted["all"] = quantities
    scores: dict[str, Mapping[str, float]] = {}
    for name, replaced in wanted.items():
        answers = [
            replace(
                answer,
                detections=with_truth(
                    answer.detections, truth, projection, (height, width), replaced
                ),
            )
            for answer, (truth, projection, (height, width)) in zip(
                evaluation.answers, views, strict=True
            )
        ]
        scores[name] = score(config, dataset, answers, range(len(answers))).metrics
    return scores


def _official_metrics(
    folder: NuScenesFolder | KittiFolder,
    class_names: Sequence[str],
    dataset: FrameDataset,
    answers: Sequence[FrameAnswer],
    indices: Iterable[int],
) -> _Official:
    """The devkit's metrics of nuScenes' classes, KITTI's of any in KITTI's format."""
    by_frame = {answer.frame_id: answer.detections for answer in answers}
    if isinstance(dataset, KittiDataset) and dataset.has_labels:
        return _kitti_metrics(folder, class_names, dataset, by_frame)
    if not has_nuscenes_metrics(folder, class_names) or not isinstance(dataset, NuScenesDataset):
        return _Official()
    frame_ids = dataset.frame_ids
    found = nuscenes.evaluate_detections(
        by_frame,
        {frame_ids[index]: dataset.pose(index) for index in indices},
        class_names,
        root=dataset.tables_root,
        version=folder.version,
        cameras=folder.cameras,
    )
    curves = {
        name: PrecisionRecall(
            recall=by_distance[2.0].recall,
            precision=by_distance[2.0].precision,
            average_precision=found.values.get(f"nuscenes_{name}_ap", 0.0),
        )
        for name, by_distance in found.curves.items()
    }
    return _Official(values=found.values, curves=curves)


def _kitti_metrics(
    folder: NuScenesFolder | KittiFolder,
    class_names: Sequence[str],
    dataset: KittiDataset,
    by_frame: Mapping[str, Detections],
) -> _Official:
    frame_ids = dataset.frame_ids
    indices = [index for index, name in enumerate(frame_ids) if name in by_frame]
    files = zip(dataset.label_files(indices), dataset.image_sizes(indices), strict=True)
    answers = [
        kitti.KittiAnswer(
            label_file=label_file,
            detections=by_frame[frame_ids[index]],
            projection=dataset.camera_labels(index)[0][1],
            image_size=image_size,
        )
        for index, (label_file, image_size) in zip(indices, files, strict=True)
    ]
    found = kitti.evaluate_detections(answers, class_names, folder.label_map)
    curves = {
        name: PrecisionRecall(
            recall=RECALLS,
            precision=curve.points[1],
            average_precision=curve.r40[1] / 100,
        )
        for name, kinds in found.curves["std"].items()
        if (curve := kinds["3d"]) is not None
    }
    return _Official(values=found.values, curves=curves)


def answer_frames(
    config: RunConfig,
    network: nn.Module,
    weights: Mapping[str, Tensor] | None,
    dataset: FrameDataset,
    indices: Sequence[int],
) -> Iterator[FrameAnswer]:
    """Detections and depth pairs, frame by frame."""
    codec = build_codec(config)
    device = next(network.parameters()).device
    batches = evaluation_batches(
        dataset,
        build_preparation(config, codec, training=False, with_depth=measures_depth_map(config)),
        indices,
        batch_size=config.evaluation.batch_size,
        num_workers=config.input.loader_processes,
    )
    was_training = network.training
    network.eval()
    try:
        with evaluation_memory():
            for batch in batches:
                yield from answer_batch(config, codec, network, weights, to_device(batch, device))
    finally:
        network.train(was_training)


@torch.no_grad()
def answer_batch(
    config: RunConfig,
    codec: DetectorCodec,
    network: nn.Module,
    weights: Mapping[str, Tensor] | None,
    batch: Batch,
) -> list[FrameAnswer]:
    """One batch of frames through the network and the decoder."""
    began_s = time.perf_counter()
    responses = respond(config.evaluation, codec, network, weights, batch)
    found = detect(config.evaluation, codec, responses, batch)  # on the CPU: the device has ended
    seconds = (time.perf_counter() - began_s) / len(found)
    maps_m = codec.depth_maps_m(responses, batch)
    depth = codec.depth_at_centers(responses, batch)
    depth, maps_m, batch = to_device((depth, maps_m, batch), "cpu")
    cameras = batch.images.shape[:2]
    answers = [
        replace(_answer(batch, number, detections, own_depth), seconds=seconds)
        for number, (detections, own_depth) in enumerate(
            zip(found, depth.unflatten(0, cameras), strict=True)
        )
    ]
    if batch.depth_targets is None or maps_m is None:
        return answers
    return [
        replace(answer, dense=dense_sums(predicted_m.flatten(0, 1), true_m.flatten(0, 1)))
        for answer, predicted_m, true_m in zip(
            answers, maps_m.unflatten(0, cameras), batch.depth_targets, strict=True
        )
    ]


def _answer(
    batch: Batch, number: int, detections: Detections, depth_m: Float[Tensor, "v k"]
) -> FrameAnswer:
    """What is said of one frame, its objects taken camera by camera."""
    height, width = batch.images.shape[-2:]
    projection, poses = batch.projection[number], batch.bev_from_cam[number]
    views = by_camera(detections, projection, poses, (height, width))
    centers, matched = [], []
    for camera, seen in enumerate(views):
        truth = batch.boxes_cam.select(torch.tensor(number)).select(torch.tensor(camera))
        is_read = depth_m[camera].isfinite()
        centers.append(pair_depths(depth_m[camera][is_read], truth.select(is_read)))
        matched.append(match_in_image(seen, truth, projection[camera], (height, width)))
    return FrameAnswer(
        frame_id=batch.frame_ids[number],
        detections=detections,
        centers=concatenate(centers),
        matched=concatenate(matched),
    )
