"""A trained detector as an object: an image and its camera in, boxes out."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mono3d.config.load import parse
from mono3d.config.schema import RunConfig
from mono3d.data.files import DataPath, data_path
from mono3d.data.images import read_image
from mono3d.data.loaders import collate, prepare
from mono3d.errors import ConfigError, DataError
from mono3d.geometry.camera import BEV_FROM_LEVEL_CAM
from mono3d.structures import Detections, Frame, to_device
from mono3d.training.assembly import build_codec, build_model, build_preparation
from mono3d.training.checkpoint import load_student, read_metadata
from mono3d.training.detect import detect, respond
from mono3d.training.run_record import resolve_checkpoint


class Detector:
    """A checkpoint's averaged weights, ready for images of any size and camera.

    Boxes are in the camera frame (x right, y down, z forward, metres; centres are geometric
    centres; yaw is rotation_y), best score first.
    """

    def __init__(self, config: RunConfig, network: nn.Module) -> None:
        """Take a network whose weights are loaded; `load` is the usual way."""
        self.config = config
        self._network = network.eval()
        self._codec = build_codec(config)
        self._preparation = build_preparation(config, self._codec, training=False)
        self._device = next(network.parameters()).device

    @classmethod
    def load(cls, source: str | Path, *, device: str | None = None) -> "Detector":
        """Load a checkpoint.

        Args:
            source: Folder or s3:// URI of a checkpoint or of a run, or an MLflow run id.
            device: Such as `cuda:1`; a GPU if there is one, unless given.

        Raises:
            Mono3dError: If there is no whole checkpoint of a known architecture there.
        """
        location = resolve_checkpoint(str(source))
        config = parse(read_metadata(location).config, source=location)
        network = build_model(config)
        load_student(location, network)
        network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(config, network)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class of each label."""
        return self.config.data.class_names

    def predict(
        self,
        image: str | DataPath | Shaped[np.ndarray, "..."],
        camera: Float[np.ndarray, "rows columns"] | Float[Tensor, "rows columns"],
        *,
        bev_from_cam: Float[np.ndarray, "4 4"] | Float[Tensor, "4 4"] | None = None,
        min_score: float | None = None,
        flip: bool | None = None,
    ) -> Detections:
        """Detect in one image.

        Args:
            image: A PNG or JPEG file, an s3:// URI of one, or uint8 RGB pixels [h, w, 3].
            camera: Camera matrix K [3, 3] or projection [3, 4] to the pixels of this image.
            bev_from_cam: Pose of the camera in the bev frame (x forward, y left, z up, metres). A
                detector that was trained with the ground plane (`model.ground`) needs it.
            min_score: Detections below it are left out; the run's own limit unless given.
            flip: Whether to average with the mirror image; as in the run unless given.

        Raises:
            DataError: If the image or the camera cannot be used.
            ConfigError: If the camera's pose is needed and not given.
        """
        frame = self.frame(image, camera, bev_from_cam=bev_from_cam)
        return self.detect(frame, min_score=min_score, flip=flip)

    def detect(
        self, frame: Frame, *, min_score: float | None = None, flip: bool | None = None
    ) -> Detections:
        """Detect in a frame of one camera, such as `frame` makes; see `predict`."""
        changes = {"min_score": min_score, "flip": flip}
        settings = self.config.evaluation.model_copy(
            update={name: value for name, value in changes.items() if value is not None}
        )
        prepared = prepare(frame, self._preparation, torch.Generator())
        batch = to_device(collate([prepared], self._preparation.max_objects), self._device)
        responses = respond(settings, self._codec, self._network, None, batch)
        (found,) = detect(settings, self._codec, responses, batch)
        return found

    def frame(
        self,
        image: str | DataPath | Shaped[np.ndarray, "..."],
        camera: Float[np.ndarray, "rows columns"] | Float[Tensor, "rows columns"],
        *,
        bev_from_cam: Float[np.ndarray, "4 4"] | Float[Tensor, "4 4"] | None = None,
    ) -> Frame:
        """The unlabelled frame that `predict` makes of its arguments."""
        if isinstance(image, np.ndarray):
            name, pixels = "image", image
        else:
            path = data_path(image) if isinstance(image, str) else image
            name, pixels = path.stem, read_image(path)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise DataError(
                f"{name}: {pixels.dtype} of shape {pixels.shape}; an image is uint8 [h, w, 3]"
            )
        if bev_from_cam is None and getattr(self.config.model, "ground", None) is not None:
            raise ConfigError(
                "bev_from_cam is missing: this detector was trained with model.ground, so it reads "
                "where the ground is from the camera's pose"
            )
        pose = torch.tensor(BEV_FROM_LEVEL_CAM) if bev_from_cam is None else bev_from_cam
        return Frame(
            frame_id=name,
            camera_names=("camera",),
            images=torch.from_numpy(pixels).permute(2, 0, 1)[None],
            projection=_projection(camera)[None],
            bev_from_cam=torch.as_tensor(pose, dtype=torch.float32)[None],
            boxes_cam=None,
            boxes_bev=None,
        )


def _projection(
    camera: Float[np.ndarray, "rows columns"] | Float[Tensor, "rows columns"],
) -> Float[Tensor, "3 4"]:
    matrix = torch.as_tensor(camera, dtype=torch.float32)
    if tuple(matrix.shape) == (3, 3):
        matrix = torch.nn.functional.pad(matrix, (0, 1))
    if tuple(matrix.shape) != (3, 4) or not matrix.isfinite().all():
        raise DataError(f"camera {matrix.tolist()}: must be a finite 3x3 or 3x4 matrix")
    if min(matrix[0, 0], matrix[1, 1]) <= 0 or matrix[2, :3].tolist() != [0, 0, 1]:
        raise DataError(
            f"camera {matrix.tolist()}: focal lengths must be above 0 and the last row 0 0 1"
        )
    return matrix
