"""A trained detector as an object: an image and its camera in, boxes out."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mono3d.config.data_sections import DataConfig, MergedData, NuScenesFolder
from mono3d.config.load import fingerprint
from mono3d.config.model_sections import GridModel, LidarModel
from mono3d.config.schema import RunConfig
from mono3d.config.training_sections import EvaluationConfig
from mono3d.data.cameras import checked_projection
from mono3d.data.files import DataPath, data_path
from mono3d.data.images import read_image
from mono3d.data.loaders import prepare_batch
from mono3d.data.undistort import Distortion, undistort
from mono3d.errors import ConfigError, DataError, Mono3dError
from mono3d.evaluation.shown_scores import shown_scores
from mono3d.geometry.camera import BEV_FROM_LEVEL_CAM
from mono3d.structures import Detections, Frame, to_device
from mono3d.training.assembly import build_preparation
from mono3d.training.checkpoint import read_metadata
from mono3d.training.detect import detect, respond
from mono3d.training.model_assembly import build_codec, load_network
from mono3d.training.run_record import resolve_checkpoint


class Detector:
    """A checkpoint's averaged weights, ready for images of any size and camera.

    Boxes are in the camera frame (x right, y down, z forward, metres; centres are geometric
    centres; yaw is rotation_y), best score first.
    """

    def __init__(
        self, config: RunConfig, network: nn.Module, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Take a network whose weights are loaded; `load` is the usual way.

        Args:
            config: Of its run.
            network: On its device.
            metrics: Of its checkpoint.
        """
        self.config = config
        self._network = network.eval()
        self._codec = build_codec(config)
        self._preparation = build_preparation(config, self._codec, training=False)
        self._device = next(network.parameters()).device
        prefix = _measured_prefix(config.data)
        self.shown_scores = shown_scores(self.class_names, metrics or {}, prefix=prefix)
        """From which score on a detection of each class is worth showing, by its evaluation."""

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        overrides: Sequence[str] = (),
        device: str | None = None,
        may_read_lidar: bool = False,
    ) -> "Detector":
        """Load a checkpoint.

        Args:
            source: Folder or s3:// URI of a checkpoint or of a run, or an MLflow run id.
            overrides: PATH=VALUE changes to its config.
            device: Such as `cuda:1`; a GPU if there is one, unless given.
            may_read_lidar: Whether frames will come with LiDAR points, for one that reads them.

        Raises:
            ConfigError: If it reads more than frames will have.
            Mono3dError: If there is no whole checkpoint of a known architecture there.
        """
        location = resolve_checkpoint(str(source))
        config, network = load_network(location, overrides, device=device)
        reads_lidar = isinstance(config.model, LidarModel) or config.model.depth_input == "lidar"
        if not config.model.reads_images_alone and not (reads_lidar and may_read_lidar):
            reads = f"model.depth_input={config.model.depth_input}"
            if isinstance(config.model, LidarModel):
                reads = "model.kind=lidar"
            raise ConfigError(
                f"{location}: has {reads}: it is a teacher, which reads more than "
                + ("LiDAR points" if may_read_lidar else "images; predict with a network it taught")
            )
        return cls(config, network, read_metadata(location).metrics)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class of each label."""
        return self.config.data.class_names

    def level_pose(self, camera_height_m: float) -> Float[Tensor, "4 4"]:
        """bev_from_cam of a level camera so high above the ground, in the bev frame of training."""
        model, pose = self.config.model, torch.tensor(BEV_FROM_LEVEL_CAM)
        ground_m = 0.0
        if isinstance(model, GridModel):
            ground_m = model.grid.ground_height_m
        elif model.ground is not None:
            ground_m = model.ground.height_m
        pose[2, 3] = camera_height_m + ground_m
        return pose

    @property
    def num_cameras(self) -> int:
        """Of the frames of its data set: more than one for a detector that answers on a grid."""
        if not self._codec.in_bev:
            return 1
        data = self.config.data
        folders = data.sets.values() if isinstance(data, MergedData) else [data]
        return max(len(f.cameras) if isinstance(f, NuScenesFolder) else 1 for f in folders)

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that detectors share which say the same of every frame."""
        digest = hashlib.sha256(fingerprint(self.config).encode())
        for name, value in self._network.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def predict(
        self,
        image: str | DataPath | Shaped[np.ndarray, "..."],
        camera: Float[np.ndarray, "rows columns"] | Float[Tensor, "rows columns"],
        *,
        distortion: Distortion | None = None,
        bev_from_cam: Float[np.ndarray, "4 4"] | Float[Tensor, "4 4"] | None = None,
        min_score: float | None = None,
        flip: bool | None = None,
    ) -> Detections:
        """Detect in one image.

        Args:
            image: A PNG or JPEG file, an s3:// URI of one, or uint8 RGB pixels [h, w, 3].
            camera: Camera matrix K [3, 3] or projection [3, 4] to the pixels of this image.
            distortion: Of the lens, which is taken out of the image first; None is none.
            bev_from_cam: Pose of the camera in the bev frame (x forward, y left, z up, metres). A
                detector that was trained with the ground plane (`model.ground`) needs it, and one
                that answers in bird's-eye view.
            min_score: Detections below it are left out; the run's own limit unless given.
            flip: Whether to average with the mirror image; as in the run unless given.

        Raises:
            DataError: If the image or the camera cannot be used.
            ConfigError: If the camera's pose is needed and not given.
        """
        frame = self.frame(image, camera, distortion=distortion, bev_from_cam=bev_from_cam)
        return self.detect(frame, min_score=min_score, flip=flip)

    def detect(
        self, frame: Frame, *, min_score: float | None = None, flip: bool | None = None
    ) -> Detections:
        """Detect in a frame, such as `frame` makes; see `predict`.

        Of a frame of several cameras the boxes are in the bev frame.
        """
        ((_, found),) = self.detect_all([frame], min_score=min_score, flip=flip)
        return found

    def detect_all(
        self,
        frames: Iterable[Frame],
        *,
        min_score: float | None = None,
        flip: bool | None = None,
    ) -> Iterator[tuple[Frame, Detections]]:
        """Detect in many frames, `evaluation.batch_size` at a time; see `predict` and `detect`.

        Raises:
            Mono3dError: What the frames raise, after the detections in those that came before.
        """
        changes = {"min_score": min_score, "flip": flip}
        settings = self.config.evaluation.model_copy(
            update={name: value for name, value in changes.items() if value is not None}
        )
        if settings.flip and self._codec.in_bev:
            raise ConfigError(
                f"flip (--flip): is for detectors that answer in images, and this one has "
                f"model.kind={self.config.model.kind}"
            )
        rest, failure = iter(frames), None
        while failure is None:
            some: list[Frame] = []
            try:
                for frame in islice(rest, settings.batch_size):
                    some.append(frame)
            except Mono3dError as error:
                failure = error
            if some:
                yield from zip(some, self._detect(some, settings), strict=True)
            elif failure is None:
                return
        raise failure

    def _detect(self, frames: Sequence[Frame], settings: EvaluationConfig) -> list[Detections]:
        generators = [torch.Generator()] * len(frames)
        batch = to_device(prepare_batch(frames, generators, self._preparation), self._device)
        responses = respond(settings, self._codec, self._network, None, batch)
        return detect(settings, self._codec, responses, batch)

    def frame(
        self,
        image: str | DataPath | Shaped[np.ndarray, "..."],
        camera: Float[np.ndarray, "rows columns"] | Float[Tensor, "rows columns"],
        *,
        distortion: Distortion | None = None,
        bev_from_cam: Float[np.ndarray, "4 4"] | Float[Tensor, "4 4"] | None = None,
        name: str | None = None,
    ) -> Frame:
        """The unlabelled frame that `predict` makes of its arguments.

        Its image is without lens distortion; its name is the file's unless given.
        """
        if isinstance(image, np.ndarray):
            name, pixels = name or "image", image
        else:
            path = data_path(image) if isinstance(image, str) else image
            name, pixels = name or path.stem, read_image(path)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise DataError(
                f"{name}: {pixels.dtype} of shape {pixels.shape}; an image is uint8 [h, w, 3]"
            )
        model = self.config.model
        needs_pose = isinstance(model, GridModel) or model.ground is not None
        if bev_from_cam is None and needs_pose:
            raise ConfigError(
                "bev_from_cam (--camera-height) is missing: this detector was trained with "
                "model.ground or answers on the ground, so it reads where that is from the "
                "camera's pose"
            )
        projection = checked_projection(np.asarray(camera), "camera")
        if distortion is not None:
            pixels = undistort(pixels, projection, distortion)
        pose = torch.tensor(BEV_FROM_LEVEL_CAM) if bev_from_cam is None else bev_from_cam
        return Frame(
            frame_id=name,
            camera_names=("camera",),
            images=torch.from_numpy(pixels).permute(2, 0, 1)[None],
            projection=torch.from_numpy(projection).float()[None],
            bev_from_cam=torch.as_tensor(pose, dtype=torch.float32)[None],
            boxes_cam=None,
            boxes_bev=None,
        )


def _measured_prefix(data: DataConfig) -> str:
    """What a run's metrics begin with: of merged data its set's name too, if it measures one."""
    if not isinstance(data, MergedData):
        return "val/"
    measured = [name for name, member in data.sets.items() if member.val_split is not None]
    return f"val/{measured[0]}/" if len(measured) == 1 else "val/"
