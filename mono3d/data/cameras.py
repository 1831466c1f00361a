"""Cameras from numbers and files: KITTI calibrations, and the YAML of ROS and OpenCV."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float, Float64, UInt8

from mono3d.data.files import DataPath, read_bytes
from mono3d.data.kitti_format import read_calibration
from mono3d.data.undistort import Distortion
from mono3d.errors import DataError

_ENDINGS = (".txt", ".yaml", ".yml")
_PINHOLE_MODELS = ("plumb_bob", "rational_polynomial")
_FISHEYE_MODELS = ("equidistant", "fisheye")


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera that takes images."""

    projection: Float64[np.ndarray, "3 4"]
    """Camera coordinates (homogeneous) to pixels, lens distortion apart."""
    distortion: Distortion | None = None
    """Of its lens; None is none."""
    image_size: tuple[int, int] | None = None
    """Height and width for which the calibration was made; None where it does not say."""
    source: str = "camera"
    """What errors call it."""

    def check_size(self, image: UInt8[np.ndarray, "h w 3"], name: str) -> None:
        """Make sure that an image is of the size that the calibration was made for.

        Raises:
            DataError: If it is not; the line begins with the image's name.
        """
        size = (image.shape[0], image.shape[1])
        if self.image_size is not None and self.image_size != size:
            raise DataError(
                f"{name}: {_in_words(size)} pixels, but {self.source} was made for images of "
                f"{_in_words(self.image_size)}"
            )


def _in_words(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def checked_projection(
    matrix: Float[np.ndarray, "rows columns"], source: str
) -> Float64[np.ndarray, "3 4"]:
    """A camera matrix or projection as a projection.

    Args:
        matrix: 3x3 or 3x4.
        source: What errors call it.

    Raises:
        DataError: If it has another shape, is not finite, or is no camera's.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape == (3, 3):
        matrix = np.pad(matrix, ((0, 0), (0, 1)))
    if matrix.shape != (3, 4) or not np.isfinite(matrix).all():
        raise DataError(f"{source} {matrix.tolist()}: must be a finite 3x3 or 3x4 matrix")
    if min(matrix[0, 0], matrix[1, 1]) <= 0 or matrix[2, :3].tolist() != [0, 0, 1]:
        raise DataError(
            f"{source} {matrix.tolist()}: focal lengths must be above 0 and the last row 0 0 1"
        )
    return matrix


def read_camera(path: DataPath) -> Camera:
    """Read a calibration file: KITTI's, or YAML as ROS and OpenCV write it.

    Raises:
        DataError: If it is missing, broken, or says nothing that can be used.
    """
    if path.suffix.lower() in {".yaml", ".yml"}:
        return _read_yaml(path)
    return Camera(projection=read_calibration(path).projection, source=str(path))


def camera_file(folder: DataPath, stem: str) -> DataPath:
    """The calibration file of an image in a folder with one for each, of the image's name."""
    paths = [folder / f"{stem}{ending}" for ending in _ENDINGS]
    return next((path for path in paths if path.is_file()), paths[0])


class _Loader(yaml.SafeLoader):
    """YAML with OpenCV's matrices, as mappings; without aliases: a few can stand for billions."""

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"has an alias{self.peek_event().start_mark}")
        return super().compose_node(parent, index)


def _opencv_matrix(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", _opencv_matrix)


def _read_yaml(path: DataPath) -> Camera:
    """`camera_info` of ROS, or a file of OpenCV's calibration program."""
    try:
        # OpenCV's first line, %YAML:1.0, is not YAML's own, %YAML 1.0.
        text = read_bytes(path).decode().replace("%YAML:", "%YAML ", 1)
        tree = yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    # PyYAML lets errors of Python pass, of numbers, dates and lists within lists.
    except (ValueError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise DataError(f"{path}: must be a mapping with camera_matrix")
    matrix = _numbers(path, tree, "camera_matrix")
    if len(matrix) != 9:
        raise DataError(f"{path}: camera_matrix has {len(matrix)} values; it is a 3x3 matrix")
    return Camera(
        projection=checked_projection(matrix.reshape(3, 3), f"{path}: camera_matrix"),
        distortion=_distortion(path, tree),
        image_size=_image_size(path, tree),
        source=str(path),
    )


def _image_size(path: DataPath, tree: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = tree.get("image_height"), tree.get("image_width")
    if height is None or width is None:
        return None
    if not isinstance(height, int) or not isinstance(width, int):
        raise DataError(f"{path}: image_width={width} and image_height={height} are no pixels")
    return height, width


def _distortion(path: DataPath, tree: Mapping[str, Any]) -> Distortion | None:
    """The lens; None where the file says nothing of it, or that it does not distort."""
    name = "distortion_coefficients"
    coefficients = [] if tree.get(name) is None else _numbers(path, tree, name).tolist()
    # OpenCV's program says a fisheye with a flag, ROS with the name of the model.
    default = "fisheye" if tree.get("fisheye_model") else "plumb_bob"
    model = tree.get("distortion_model") or default
    if model not in (*_PINHOLE_MODELS, *_FISHEYE_MODELS):
        known = ", ".join((*_PINHOLE_MODELS, *_FISHEYE_MODELS))
        raise DataError(f"{path}: distortion_model {model} is none of {known}")
    if not any(coefficients) and model in _PINHOLE_MODELS:
        return None
    try:
        return Distortion(tuple(coefficients), fisheye=model in _FISHEYE_MODELS)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _numbers(path: DataPath, tree: Mapping[str, Any], name: str) -> Float64[np.ndarray, " n"]:
    """Numbers of a matrix, row by row: those of its `data`, or of a plain list."""
    entry = tree.get(name)
    values = entry.get("data") if isinstance(entry, dict) else entry
    if not isinstance(values, list):
        raise DataError(f"{path}: no {name} with a list of numbers")
    try:
        return np.array(values, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {name}: {error}") from error
