"""Where a frame of one nuScenes camera was taken: what turns its detections into a submission."""

from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class FramePose:
    """Sample and poses of one frame; global coordinates need double precision."""

    sample_token: str
    global_from_cam: Float64[Tensor, "v 4 4"]
    """Of each camera of the frame, at the camera's own time stamp."""
    global_from_bev: Float64[Tensor, "4 4"]
    """Of the ego vehicle at the time of the sample's LiDAR sweep; the benchmark's origin."""
