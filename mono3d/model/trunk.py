"""From images to feature levels: what every image detector starts with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mono3d.errors import DataError
from mono3d.geometry.camera import focal_px
from mono3d.model.backbone import PROBE_PX, Backbone, ImageNormalisation
from mono3d.model.camera_channels import CameraChannels, GroundChannels, RayChannels
from mono3d.model.depth_input import DepthInput
from mono3d.model.neck import FeaturePyramid
from mono3d.structures import Inputs


@dataclass(frozen=True, kw_only=True)
class TrunkOutputs:
    """Levels that know their camera, and the maps that are open to others."""

    levels: Sequence[Tensor]
    """One map [n, channels, h, w] a stride, finest first; n = frames x cameras."""
    features: Mapping[str, Tensor]


class Trunk(nn.Module):
    """Backbone, pyramid and camera channels; folds frames and cameras."""

    def __init__(
        self,
        *,
        backbone: Backbone,
        strides: Sequence[int],
        channels: int,
        ground: GroundChannels | None = None,
        depth_input: DepthInput | None = None,
    ) -> None:
        """Build the neck.

        Args:
            backbone: Yields one map for each of its strides.
            strides: Of the levels, finest first, pixels.
            channels: Of the levels.
            ground: Where the ground is, for a backbone that was built for its channels; the levels
                read it too. None tells the levels their viewing rays alone.
            depth_input: Tells the levels true depth, of a teacher.
        """
        super().__init__()
        self.strides = tuple(strides)
        self.channels = channels
        self._camera_channels: CameraChannels = RayChannels() if ground is None else ground
        self.normalise = ImageNormalisation()
        self.backbone = backbone
        self.depth_input = depth_input
        self.neck = FeaturePyramid(
            backbone.channels, backbone.strides, strides=strides, channels=channels
        )
        backbone.freeze_unused(lambda maps: self.neck(maps, (PROBE_PX, PROBE_PX)))
        self.camera_embedding = nn.Conv2d(self._camera_channels.count, channels, 1)
        self.features: Mapping[str, tuple[int, int]] = {
            **{
                f"backbone_{s}": (c, s)
                for c, s in zip(backbone.channels, backbone.strides, strict=True)
            },
            **{f"neck_{s}": (channels, s) for s in strides},
        }
        """Name → (channels, stride) of the maps that it opens."""
        self.told_features = tuple(f"neck_{s}" for s in strides)
        """Those that first know true depth, where `depth_input` tells it."""

    def forward(self, inputs: Inputs) -> TrunkOutputs:
        """Levels and feature maps of all images."""
        images = inputs.images.flatten(0, 1)
        projection, pose = inputs.projection.flatten(0, 1), inputs.bev_from_cam.flatten(0, 1)
        image_size = (images.shape[-2], images.shape[-1])
        camera = {
            stride: self._camera_channels(projection, pose, image_size, stride)
            for stride in {*self.backbone.camera_strides, *self.neck.strides}
        }
        pixels = self.normalise(images).contiguous(memory_format=torch.channels_last)
        stages = self.backbone(pixels, camera)
        maps = self.neck(stages, image_size)
        if self.depth_input is not None:
            if inputs.depth_input is None:
                raise DataError("a network with model.depth_input reads true depth: none is given")
            depth = inputs.depth_input.flatten(0, 1)
            told = self.depth_input(depth, focal_px(projection), self.neck.strides)
            maps = [level + more for level, more in zip(maps, told, strict=True)]
        levels = [
            level + self.camera_embedding(camera[stride])
            for level, stride in zip(maps, self.neck.strides, strict=True)
        ]
        return TrunkOutputs(
            levels=levels, features=dict(zip(self.features, [*stages, *maps], strict=True))
        )
