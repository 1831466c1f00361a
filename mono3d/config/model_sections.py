"""Detectors: their backbones, codes and heads."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mono3d.config.section import Section


class ResNetBackbone(Section):
    """A ResNet from scratch."""

    kind: Literal["resnet"] = "resnet"
    depth: Literal[18, 34, 50, 101] = 18
    # Below 16, oneDNN's gradient of a 1x1 convolution with stride 2 writes past its buffer (oneDNN
    # issue 6035, on AVX-512): memory is corrupted, sooner or later the process dies.
    width: int = Field(64, ge=16)
    """Channels of the first stage of a basic ResNet; 64 is the usual one."""
    stages: int = Field(4, ge=1, le=4)
    """How many of its four stages, finest first; the last holds three quarters of the weights."""


class ConfiguredBackbone(Section):
    """Any transformers backbone from scratch."""

    kind: Literal["config"] = "config"
    model_type: str
    """The architecture's name in transformers: convnextv2, dinov2, swin, ..."""
    options: dict[str, Any] = {}
    """Options of its transformers config."""


class PretrainedBackbone(Section):
    """A transformers backbone with weights; its batch norms stay frozen."""

    kind: Literal["pretrained"] = "pretrained"
    source: str
    """A local folder or a hub name with safetensors weights."""


BackboneConfig = Annotated[
    ResNetBackbone | ConfiguredBackbone | PretrainedBackbone, Field(discriminator="kind")
]


class DepthCodeConfig(Section):
    """The affine law between the network's output and log depth."""

    reference_focal_px: float = Field(630.0, gt=0)
    """Focal length at which mean and deviation hold; others scale depth in proportion."""
    mean_log_m: float = 3.1
    """Mean of ln(depth in metres) over objects at the reference focal length."""
    std_log: float = Field(0.6, gt=0)
    """Standard deviation of the same."""


class GroundConfig(Section):
    """The ground plane as the network is told it."""

    height_m: float = 0.0
    """Of the ground in the bev frame: 0 in nuScenes and in merged data, -1.73 in KITTI."""


class ImageModel(Section):
    """What all detectors have in common that read images."""

    backbone: BackboneConfig = ResNetBackbone()
    depth_code: DepthCodeConfig = DepthCodeConfig()
    ground: GroundConfig | None = None
    """Tell backbone and heads the ground's depth under every pixel; null tells heads the rays."""
    depth_input: Literal["none", "lidar", "objects"] = "none"
    """Read true depth beside the image: of LiDAR points, or of labels, painted into their 2D boxes.
    For teachers: evaluation needs it too, and prediction is refused."""

    @property
    def reads_images_alone(self) -> bool:
        """Whether images and cameras make it answer."""
        return self.depth_input == "none"


class PointModel(ImageModel):
    """What detectors have in common that answer at points of an image."""

    channels: int = Field(128, ge=8, multiple_of=8)
    """Of neck and towers."""
    tower_depth: int = Field(2, ge=0)
    """Convolutions in each tower."""
    num_depth_bins: int = Field(0, ge=0)
    """PGD's depth classifier beside the regression; 0 is none."""
    depth_bin_width_m: float = Field(10.0, gt=0)
    has_uncertainty: bool = False
    """Predict the scale of a Laplace law around the depth."""
    has_depth_map: bool = False
    """Learn the depth of every LiDAR point too. Training needs LiDAR then, evaluation too unless
    evaluation.depth_map=false, prediction never."""

    @property
    def learns_lidar_depth(self) -> bool:
        """Whether training reads LiDAR for the depth of what images show."""
        return self.has_depth_map


class DenseModel(PointModel):
    """FCOS3D/PGD family: several points an object."""

    kind: Literal["dense"] = "dense"
    strides_px: tuple[int, ...] = (8, 16, 32, 64, 128)
    """Strides of the prediction levels, finest first."""
    first_limit_px: float = Field(48.0, gt=0)
    """Largest distance from a point to a side of the 2D box that the finest level learns."""
    center_radius_strides: float = Field(1.5, gt=0.5)
    """Points within so many strides of the projected 3D centre, right or down, learn the object."""
    max_positives: int = Field(256, ge=1)
    """Points learnt in one image, the most central first."""


class CenterModel(PointModel):
    """MonoDLE/MonoCon family: one peak of a heat map an object."""

    kind: Literal["center"] = "center"
    stride_px: int = Field(4, ge=1)
    """Of the heat map."""
    has_keypoints: bool = False
    """Learn the projected corners too, by heads that only training has (MonoCon)."""


class BevGridConfig(Section):
    """The grid on the ground, in the bev frame: x forward, y to the left, z up."""

    x_range_m: tuple[float, float] = (2.0, 46.8)
    """Both ranges must be whole numbers of cells."""
    y_range_m: tuple[float, float] = (-30.08, 30.08)
    z_range_m: tuple[float, float] = (-3.0, 1.0)
    cell_m: float = Field(0.32, gt=0)
    num_heights: int = Field(10, ge=1)
    """Layers of voxels between the two heights."""
    ground_height_m: float = -1.73
    """Where boxes stand, from which heights are counted: 0 in nuScenes, -1.73 in KITTI."""


class DepthBinsConfig(Section):
    """Bins of the distribution over depth; their widths grow linearly with depth (LID)."""

    count: int = Field(120, ge=2)
    min_m: float = Field(2.0, gt=0)
    max_m: float = Field(46.8, gt=0)


class AnchorHeadConfig(Section):
    """Boxes as differences to anchors of each class (SECOND, CaDDN)."""

    kind: Literal["anchors"] = "anchors"
    positive_iou: float = Field(0.6, gt=0, le=1)
    """Anchors that overlap an object of their class as much learn it; its best one does anyway."""
    negative_iou: float = Field(0.45, gt=0, le=1)
    """Anchors that overlap none as much learn that nothing is there."""

    has_quality: bool = False
    """Class scores learn the overlap in space of the box that each anchor says with an object
    (quality focal loss), in place of whether there is one: soft labels for who is taught."""

    @model_validator(mode="after")
    def _leaves_a_gap(self) -> "AnchorHeadConfig":
        if self.negative_iou > self.positive_iou:
            raise ValueError(
                f"negative_iou={self.negative_iou:g}: must not exceed "
                f"positive_iou={self.positive_iou:g}"
            )
        return self


class CenterHeadConfig(Section):
    """Boxes at the peaks of a heat map (CenterPoint)."""

    kind: Literal["centers"] = "centers"


BevHeadConfig = Annotated[AnchorHeadConfig | CenterHeadConfig, Field(discriminator="kind")]


class GridModel(Section):
    """What detectors have in common that answer on a grid on the ground."""

    grid: BevGridConfig = BevGridConfig()
    lifted_channels: int = Field(128, ge=8, multiple_of=8)
    """Of the map on the grid that comes into the network there."""
    bev_channels: tuple[Annotated[int, Field(ge=8, multiple_of=8)], ...] = Field(
        (128, 256), min_length=1
    )
    """Of each block of the network on the grid; each after the first halves the resolution."""
    bev_layers: int = Field(5, ge=1)
    """Convolutions in each block."""
    head: BevHeadConfig = AnchorHeadConfig()
    max_positives: int = Field(512, ge=1)
    """Places learnt in one frame."""


class BevModel(GridModel, ImageModel):
    """CaDDN/BEVDepth family: images lifted to a grid on the ground, one camera or several."""

    kind: Literal["bev"] = "bev"
    channels: int = Field(64, ge=8, multiple_of=8)
    """Of the image features that are lifted."""
    stride_px: int = Field(8, ge=1)
    """Of their map."""
    tower_depth: int = Field(1, ge=0)
    """Convolutions between them and the distribution over depth."""
    depth_bins: DepthBinsConfig = DepthBinsConfig()
    depth_targets: Literal["lidar", "objects", "none"] = "lidar"
    """What teaches the distribution over depth: LiDAR points, the depth of labelled objects in
    their 2D boxes, or nothing but the boxes."""

    adaptation_blocks: int = Field(0, ge=0)
    """Self-calibrated blocks between lift and network (CMKD)."""
    residual_stream: bool = False
    """A second stream between lift and network, aligned and fused (MonoTAKD's SAM and FFM)."""

    @model_validator(mode="after")
    def _can_adapt(self) -> "BevModel":
        for key, is_on in (
            ("adaptation_blocks", self.adaptation_blocks > 0),
            ("residual_stream", self.residual_stream),
        ):
            if is_on and self.lifted_channels % 16:
                raise ValueError(
                    f"lifted_channels={self.lifted_channels}: must be a multiple of 16 with {key}"
                )
        if self.adaptation_blocks and self.residual_stream:
            raise ValueError(
                f"adaptation_blocks={self.adaptation_blocks}: not together with "
                "residual_stream=true"
            )
        return self

    @property
    def learns_lidar_depth(self) -> bool:
        """Whether training reads LiDAR for the depth of what images show."""
        return self.depth_targets == "lidar"


class LidarModel(GridModel):
    """PointPillars: boxes from LiDAR points, on the grid of the detectors that it teaches."""

    kind: Literal["lidar"] = "lidar"
    pillar_channels: int = Field(64, ge=8, multiple_of=8)
    """Of a pillar's features."""
    stem_layers: int = Field(2, ge=1)
    """Convolutions from pillars to the map that is distilled."""

    @property
    def depth_input(self) -> Literal["none"]:
        """It reads no map of depth."""
        return "none"

    @property
    def learns_lidar_depth(self) -> bool:
        """It learns no depth of images."""
        return False

    @property
    def reads_images_alone(self) -> bool:
        """It reads LiDAR points."""
        return False


ModelConfig = Annotated[
    DenseModel | CenterModel | BevModel | LidarModel, Field(discriminator="kind")
]
