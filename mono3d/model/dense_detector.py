"""The dense detector: every point near an object's centre predicts the whole box.

Source: FCOS3D (arXiv:2104.10956) for head, targets and scores; PGD (arXiv:2107.14160) for the
optional depth bins. Ours departs in four ways: plain convolutions (no deformable ones), depth as
focal-normalised logarithm, the axis of the heading as (sin 2a, cos 2a), and channels that tell each
point its viewing ray, so that one network serves cameras of any focal length and pitch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mono3d.codec.depth import MAX_DEPTH_M, MIN_DEPTH_M, LogDepthCodec, uniform_bin_centers
from mono3d.geometry.camera import focal_px
from mono3d.model.backbone import PROBE_PX, Backbone, ImageNormalisation
from mono3d.model.camera_channels import CameraChannels, GroundChannels, RayChannels
from mono3d.model.heads import FOCAL_PRIOR, Branches, conv_tower, join_levels
from mono3d.model.neck import FeaturePyramid
from mono3d.structures import Inputs, Predictions

_SCALED = ("offset", "log_depth", "log_dims")


@dataclass(frozen=True, kw_only=True)
class DenseOutputs:
    """What each point of a dense detector predicts."""

    num_classes: int
    num_attributes: int
    num_depth_bins: int = 0
    """PGD's classifier on top of the regression; 0 is none."""
    depth_bin_width_m: float = 10.0
    """Distance of the bins at the reference focal length."""
    has_uncertainty: bool = False
    """Predict the log scale of a Laplace law around the depth."""
    has_depth_map: bool = False
    """Predict log depth at every cell of the finest level, for supervision by LiDAR in training."""

    def box_channels(self) -> dict[str, int]:
        """Name → channels of the branches on the box tower."""
        optional = {"depth_bins": self.num_depth_bins, "log_sigma": int(self.has_uncertainty)}
        return {
            "centerness_logits": 1,
            "offset": 2,
            "log_depth": 1,
            "log_dims": 3,
            "axis": 2,
            "direction": 2,
            "velocity": 2,
            **{name: count for name, count in optional.items() if count},
        }


class DenseDetector(nn.Module):
    """Images and cameras → per-point responses and named feature maps; folds frames and cameras."""

    bin_centers_m: Tensor

    def __init__(
        self,
        *,
        backbone: Backbone,
        strides: Sequence[int],
        channels: int,
        tower_depth: int,
        outputs: DenseOutputs,
        depth: LogDepthCodec,
        ground: GroundChannels | None = None,
    ) -> None:
        """Build neck, towers and branches.

        Args:
            backbone: Yields one map for each of its strides.
            strides: Of the prediction levels, finest first, pixels.
            channels: Of neck and towers.
            tower_depth: Convolutions in each of the two towers.
            outputs: What each point predicts.
            depth: The depth code; must be the codec's.
            ground: Where the ground is, for a backbone that was built for its channels; the levels
                read it too. None tells the levels their viewing rays alone.
        """
        super().__init__()
        self._camera_channels: CameraChannels = RayChannels() if ground is None else ground
        self.normalise = ImageNormalisation()
        self.backbone = backbone
        self.neck = FeaturePyramid(
            backbone.channels, backbone.strides, strides=strides, channels=channels
        )
        backbone.freeze_unused(lambda maps: self.neck(maps, (PROBE_PX, PROBE_PX)))
        self.camera_embedding = nn.Conv2d(self._camera_channels.count, channels, 1)
        self.class_tower = conv_tower(channels, channels, tower_depth)
        self.box_tower = conv_tower(channels, channels, tower_depth)
        self.class_branches = Branches(
            channels, {"class_logits": outputs.num_classes, "attribute": outputs.num_attributes}
        )
        self.class_branches.set_bias("class_logits", -math.log(1 / FOCAL_PRIOR - 1))
        self.box_branches = Branches(channels, outputs.box_channels())
        self.depth_map_branch = nn.Conv2d(channels, 1, 1) if outputs.has_depth_map else None
        # PGD starts with the two depths in equal parts: sigmoid(1e-4) = 0.5.
        self.fusion_logit = nn.Parameter(torch.tensor(1e-4)) if outputs.num_depth_bins else None
        self.depth_offsets = nn.Parameter(level_depth_offsets(strides, depth.std_log))
        self.scales = nn.ParameterDict(
            {name: nn.Parameter(torch.ones(len(strides))) for name in _SCALED}
        )
        self.register_buffer(
            "bin_centers_m",
            uniform_bin_centers(outputs.num_depth_bins, outputs.depth_bin_width_m),
            persistent=False,
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._depth = depth
        self.features: Mapping[str, tuple[int, int]] = {
            **{
                f"backbone_{s}": (c, s)
                for c, s in zip(backbone.channels, backbone.strides, strict=True)
            },
            **{f"neck_{s}": (channels, s) for s in strides},
        }
        """Name → (channels, stride) of the feature maps that `Predictions.features` holds."""

    def forward(self, inputs: Inputs) -> Predictions:
        """Responses [n, points, channels] (n = frames x cameras) and feature maps [n, c, h, w]."""
        images = inputs.images.flatten(0, 1)
        projection, pose = inputs.projection.flatten(0, 1), inputs.bev_from_cam.flatten(0, 1)
        image_size = (images.shape[-2], images.shape[-1])
        camera = {
            stride: self._camera_channels(projection, pose, image_size, stride)
            for stride in {*self.backbone.camera_strides, *self.neck.strides}
        }
        pixels = self.normalise(images).contiguous(memory_format=torch.channels_last)
        stages = self.backbone(pixels, camera)
        levels = self.neck(stages, image_size)
        strides = zip(levels, self.neck.strides, strict=True)
        said = [self._level(i, level, camera[stride]) for i, (level, stride) in enumerate(strides)]
        depth_map = said[0].pop("depth_map", None)
        responses = self._with_depth(join_levels(said), focal_px(projection)[:, None])
        if depth_map is not None:
            responses["depth_map"] = depth_map
        names = [*self.features]
        return Predictions(
            responses=responses, features=dict(zip(names, [*stages, *levels], strict=True))
        )

    def depth_gradient_norm(self) -> Float[Tensor, ""]:
        """Norm of the gradient of the depth branch, for the record."""
        return self.box_branches.gradient_norm("log_depth")

    def _level(self, number: int, level: Tensor, camera: Tensor) -> dict[str, Tensor]:
        level = level + self.camera_embedding(camera)
        said: dict[str, Tensor] = self.class_branches(self.class_tower(level))
        box_features = self.box_tower(level)
        said = said | self.box_branches(box_features)
        if number == 0 and self.depth_map_branch is not None:
            said["depth_map"] = self.depth_map_branch(box_features)[:, 0]
        said |= {name: said[name] * self.scales[name][number] for name in _SCALED}
        said["log_depth"] = said["log_depth"] + self.depth_offsets[number]
        return said

    def _with_depth(self, said: dict[str, Tensor], focal: Tensor) -> dict[str, Tensor]:
        """Single channels squeezed, and the depth in metres and in the codec's coordinate.

        `depth_slope` is the derivative of `log_depth` by the regression branch's output, which
        mining needs: 1 unless PGD's bins share the answer.
        """
        for name in ("centerness_logits", "log_depth", "log_sigma"):
            if name in said:
                said[name] = said[name][..., 0]
        regressed_m = self._depth.decode(said["log_depth"], focal)
        if self.fusion_logit is None:
            slope = torch.ones_like(regressed_m)
            return said | {"depth_m": regressed_m, "depth_slope": slope}
        expected_m = said["depth_bins"].float().softmax(-1) @ self.bin_centers_m
        expected_m = expected_m * focal / self._depth.reference_focal_px
        share = self.fusion_logit.sigmoid()
        depth_m = (share * regressed_m + (1 - share) * expected_m).clamp(MIN_DEPTH_M, MAX_DEPTH_M)
        slope = (share * regressed_m / depth_m).detach()
        log_depth = self._depth.encode(depth_m, focal)
        return said | {"depth_m": depth_m, "log_depth": log_depth, "depth_slope": slope}


def level_depth_offsets(strides: Sequence[int], std_log: float) -> Float[Tensor, " levels"]:
    """Where each level's log depth starts, in the codec's coordinate.

    Levels share their towers and split objects by their size in pixels, so what looks alike on a
    level of twice the stride is half as far away. DD3D (arXiv:2108.06417) has learnt means too.
    """
    log_strides = torch.tensor(strides, dtype=torch.float32).log()
    return (log_strides.mean() - log_strides) / std_log
