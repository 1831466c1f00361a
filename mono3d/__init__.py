"""Monocular 3D detection: `mono3d.Detector.load(uri).predict(image, camera)`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mono3d.training.predict import Detector

__all__ = ["Detector"]


def __getattr__(name: str) -> Any:
    """Importing mono3d itself takes no time: torch comes with the first use."""
    if name == "Detector":
        from mono3d.training.predict import Detector

        return Detector
    raise AttributeError(f"module 'mono3d' has no attribute {name!r}")
