"""Factors of the terms of all objectives."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Factor of each term."""

    classification: float = 1.0
    """Of class probabilities at points, or of the heat map."""
    offset: float = 1.0
    depth: float = 1.0
    dims: float = 1.0
    velocity: float = 0.05
    attribute: float = 1.0
    depth_map: float = 1.0
    """Of the dense depth that LiDAR supervises; its mean is over cells, then images."""
    centerness: float = 1.0
    axis: float = 1.0
    direction: float = 1.0
    """These three are the dense detector's."""
    heading_bin: float = 1.0
    heading_residual: float = 1.0
    box_2d: float = 0.1
    keypoint_heatmap: float = 1.0
    keypoint_offset: float = 1.0
    keypoint_rest: float = 1.0
    """These six are the center detector's."""
    box: float = 2.0
    """Of anchors' residuals."""
    height: float = 1.0
    """Of a centre in bird's-eye view."""
