"""Monocular 3D detection: `mono3d.Detector.load(uri).predict(image, camera)`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mono3d.data.undistort import Distortion
    from mono3d.training.predict import Detector

__all__ = ["Detector", "Distortion"]

_MODULES = {"Detector": "mono3d.training.predict", "Distortion": "mono3d.data.undistort"}


def __getattr__(name: str) -> Any:
    """Importing mono3d itself takes no time: torch comes with the first use."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'mono3d' has no attribute {name!r}")
