"""What training would teach of a frame: the loader's and the objective's own work, to be drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mono3d.codec.center import CenterCodec
from mono3d.codec.point_codec import PointCodec
from mono3d.codec.points import level_size
from mono3d.config.distillation_sections import NoDistillation
from mono3d.config.schema import RunConfig
from mono3d.data.lidar import depth_map
from mono3d.data.loaders import PreparedDataset
from mono3d.data.sampling import FrameDataset
from mono3d.errors import ConfigError
from mono3d.evaluation.target_figure import Teaching
from mono3d.objectives.detection import PointObjective
from mono3d.objectives.protocol import StepContext
from mono3d.structures import Batch, Frame
from mono3d.training.assembly import build_preparation, build_train_module
from mono3d.training.checkpoint import load_student
from mono3d.training.model_assembly import build_codec


@dataclass(frozen=True, kw_only=True)
class ShownFrame:
    """A frame as the network gets it, and what it teaches."""

    frame: Frame
    teaching: Teaching


def show_frames(
    config: RunConfig,
    dataset: FrameDataset,
    indices: Sequence[int],
    *,
    epoch: int = 0,
    checkpoint: str | None = None,
) -> Iterator[ShownFrame]:
    """Prepare frames as an epoch of training would, with the targets that they would give.

    Mining weights come from the depths of the network as it starts, or of a checkpoint's, with
    mining fully ramped in and each frame taken for a step of its own.

    Args:
        config: Of the run.
        dataset: The training split.
        indices: Of frames.
        epoch: Whose augmentation and image size are shown.
        checkpoint: Location of one of the same architecture.

    Raises:
        ConfigError: There is no frame of such an index.
        Mono3dError: A frame or the checkpoint cannot be read.
    """
    strange = next((index for index in indices if not 0 <= index < len(dataset)), None)
    if strange is not None:
        raise ConfigError(f"frame {strange}: the split has frames 0 to {len(dataset) - 1}")
    codec = build_codec(config)
    if not isinstance(codec, PointCodec):
        raise ConfigError(
            f"model.kind={config.model.kind}: learns on a grid on the ground; shown here is "
            "what detectors learn in images, such as model.kind=dense"
        )
    preparation = build_preparation(config, codec, training=True)
    prepared = PreparedDataset(dataset, preparation, config.seed)
    untaught = config.model_copy(update={"distillation": NoDistillation()})
    module = build_train_module(untaught).eval()
    if checkpoint is not None:
        load_student(checkpoint, module.student)
    for index in indices:
        batch = prepared[[(epoch, index)]]
        with torch.no_grad():
            predictions = module.student(batch)
            assert isinstance(module.objective, PointObjective)
            mined = module.objective.mined_weights(predictions, batch, _alone(config, batch))
        frame = _frame_of(batch)
        yield ShownFrame(frame=frame, teaching=_teaching(codec, frame, batch, mined[0]))


def _frame_of(batch: Batch) -> Frame:
    """The only frame of a batch of one camera."""
    first = torch.tensor(0)
    boxes = batch.boxes_cam.select(first).select(first)
    of_moment = batch.boxes_bev.select(first)
    is_labelled = bool(batch.has_labels[0])
    return Frame(
        frame_id=batch.frame_ids[0],
        camera_names=("camera",),
        images=batch.images[0],
        projection=batch.projection[0],
        bev_from_cam=batch.bev_from_cam[0],
        boxes_cam=(boxes.select(boxes.valid),) if is_labelled else None,
        boxes_bev=of_moment.select(of_moment.valid) if is_labelled else None,
        points=batch.points,
    )


def _alone(config: RunConfig, batch: Batch) -> StepContext:
    """A step of this batch only, at the end of training."""
    return StepContext(
        num_samples=PointObjective.count_samples(batch).clamp(min=1),
        num_images=len(batch.images),
        world_size=1,
        progress=float(config.train.epochs),
        with_statistics=False,
    )


def _teaching(codec: PointCodec, frame: Frame, batch: Batch, mined: Tensor) -> Teaching:
    targets = codec.targets(batch)
    decoded = codec.boxes_of(targets, batch)
    valid, slot = targets.valid[0], targets.object_ids[0]
    index, grid = targets.index[0][valid], codec.grid(batch.images)
    image_size = (batch.images.shape[-2], batch.images.shape[-1])
    heat = None
    if isinstance(codec, CenterCodec):
        heatmap = codec.image_targets(batch, targets).heatmap[0].amax(-1)
        heat = heatmap.view(level_size(image_size, codec.strides[0]))
    depth_m = None
    if frame.points is not None:
        depth_m = depth_map(frame.points, frame.bev_from_cam[0], frame.projection[0], image_size)
    return Teaching(
        points_px=grid.centers_px[index],
        cell_px=grid.strides_px[index],
        slot=slot[valid],
        weight=targets.weight[0][valid],
        box_px=batch.positives.box_px[0, 0][valid],
        decoded=decoded.select(torch.tensor(0)).select(valid),
        mined=mined[valid],
        heat=heat,
        depth_m=depth_m,
    )
