"""Image backbones from transformers: ResNet at any width, or any architecture it has."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_BACKBONE_MAPPING,
    AutoBackbone,
    AutoConfig,
    PretrainedConfig,
    ResNetBackbone,
    ResNetConfig,
)

from mono3d.codec.points import level_size

_RESNET_DEPTHS = {
    18: ("basic", [2, 2, 2, 2]),
    34: ("basic", [3, 4, 6, 3]),
    50: ("bottleneck", [3, 4, 6, 3]),
    101: ("bottleneck", [3, 4, 23, 3]),
}

RGB = 3
_RESNET_STEM_STRIDE = 4

PROBE_PX = 224
"""Side of the image that networks are probed with: a multiple of every usual stride and patch."""


class Backbone(nn.Module):
    """An image network that yields one feature map a stage, finest first.

    It can be told what calibration says of every pixel: channels that a 1x1 convolution adds to
    each map that it yields and, in a ResNet, to what the stem and each stage hand on. Where they
    come in, a ground's depth needs no pixels of the image's size, and weights for RGB stay as they
    are.
    """

    def __init__(self, network: nn.Module, *, frozen_norm: bool, camera_channels: int = 0) -> None:
        """Wrap a transformers backbone.

        Args:
            network: From transformers.
            frozen_norm: Keep pretrained batch statistics fixed; then camera channels start without
                influence.
            camera_channels: How many there are.
        """
        super().__init__()
        self.network = network
        self._frozen_norm = frozen_norm
        self._camera_channels = camera_channels
        self.camera_embeddings = nn.ModuleList()
        self.camera_strides: tuple[int, ...] = ()
        """Of the camera channels that it wants."""
        self.channels: tuple[int, ...] = tuple(cast("Iterable[int]", network.channels))
        self.strides = tuple(PROBE_PX // features.shape[-1] for features in self._probe())
        if camera_channels:
            stem = _resnet_stem(network)
            widths = self.channels if stem is None else (stem[0], *self.channels)
            self.camera_strides = self.strides if stem is None else (stem[1], *self.strides)
            self.camera_embeddings.extend(nn.Conv2d(camera_channels, w, 1) for w in widths)
        if frozen_norm:
            for parameter in self.camera_embeddings.parameters():
                nn.init.zeros_(parameter)

    def train(self, mode: bool = True) -> "Backbone":
        """Training mode, except for batch norms that are frozen."""
        super().train(mode)
        if self._frozen_norm:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def freeze_unused(self, head: Callable[[list[Tensor]], Iterable[Tensor]]) -> None:
        """Freeze the weights that no output of `head` depends on, and only those.

        A mask token, a norm behind the last stage or of a map that is not read never learn; DDP
        would wait for their gradients.
        """
        weights = list(self.parameters())
        total = torch.stack([output.sum() for output in head(self._probe())]).sum()
        gradients = torch.autograd.grad(total, weights, allow_unused=True)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.requires_grad_(gradient is not None)

    def _probe(self) -> list[Tensor]:
        """Maps of an empty image; leaves no trace in batch norms."""
        camera = {
            stride: torch.zeros(1, self._camera_channels, *level_size((PROBE_PX, PROBE_PX), stride))
            for stride in self.camera_strides
        }
        self.eval()
        maps: list[Tensor] = self(torch.zeros(1, RGB, PROBE_PX, PROBE_PX), camera)
        self.train()
        return maps

    def forward(
        self,
        images: Float[Tensor, "n 3 h w"],
        camera: Mapping[int, Float[Tensor, "n count _ _"]] | None = None,
    ) -> list[Float[Tensor, "n _ _ _"]]:
        """Feature maps.

        Args:
            images: Normalised.
            camera: Camera channels by stride, for a backbone that was built for them.
        """
        if not self.camera_embeddings:
            return list(self.network(images).feature_maps)
        assert camera is not None
        told = [
            embed(camera[stride])
            for embed, stride in zip(self.camera_embeddings, self.camera_strides, strict=True)
        ]
        if len(told) == len(self.channels):
            maps = self.network(images).feature_maps
            # Patches that the image does not fill have no place in some networks' maps.
            return [
                m + t[..., : m.shape[-2], : m.shape[-1]] for m, t in zip(maps, told, strict=True)
            ]
        network: Any = self.network
        features, maps = network.embedder(images) + told[0], []
        for stage, said in zip(network.encoder.stages, told[1:], strict=True):
            features = stage(features) + said
            maps.append(features)
        return maps


def _resnet_stem(network: nn.Module) -> tuple[int, int] | None:
    """Channels and stride of a ResNet's stem; None if it is no ResNet that yields all stages."""
    if not isinstance(network, ResNetBackbone) or len(network.channels) != len(
        network.config.depths
    ):
        return None
    return network.config.embedding_size, _RESNET_STEM_STRIDE


def build_resnet(depth: int, width: int, *, stages: int = 4, camera_channels: int = 0) -> Backbone:
    """A ResNet from scratch; width 64 is the usual one, 32 the half-width of the demo.

    `stages` counts from the finest on: the fourth, at stride 32, holds three quarters of the
    weights, which levels up to stride 16 can do without.
    """
    layer_type, depths = _RESNET_DEPTHS[depth]
    expansion = 4 if layer_type == "bottleneck" else 1
    config = ResNetConfig(
        embedding_size=width,
        hidden_sizes=[width * expansion * 2**i for i in range(stages)],
        depths=depths[:stages],
        layer_type=layer_type,
        out_features=[f"stage{i + 1}" for i in range(stages)],
    )
    network = AutoBackbone.from_config(config)
    return Backbone(network, frozen_norm=False, camera_channels=camera_channels)


def build_from_config(
    model_type: str, options: Mapping[str, Any], *, camera_channels: int = 0
) -> Backbone:
    """Any transformers backbone from scratch, by its model type and its config's options.

    Raises:
        ValueError: If transformers has no backbone of this type, or the type no such option.
    """
    known = AutoConfig.for_model(model_type)
    unknown = [name for name in options if not hasattr(known, name)]
    if unknown:
        raise ValueError(f"{type(known).__name__} has no option {unknown[0]!r}")
    config = _with_stages(AutoConfig.for_model(model_type, **options))
    network = AutoBackbone.from_config(config)
    return Backbone(network, frozen_norm=False, camera_channels=camera_channels)


def build_pretrained(source: str, *, camera_channels: int = 0) -> Backbone:
    """A pretrained backbone from a local folder or a hub name; batch norms stay frozen.

    Raises:
        OSError: If neither a folder nor a hub model of this name can be read.
        ValueError: If it holds no backbone, or not all of its weights.
    """
    local = Path(source).exists()
    # A model that comes with code of its own is refused: else transformers asks the terminal.
    config = _with_stages(
        AutoConfig.from_pretrained(source, local_files_only=local, trust_remote_code=False)
    )
    # Not by AutoBackbone: it asks the hub whether a folder's path is a model of its own.
    network, found = MODEL_FOR_BACKBONE_MAPPING[type(config)].from_pretrained(
        source,
        config=config,
        local_files_only=local,
        use_safetensors=True,
        output_loading_info=True,
    )
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise ValueError(f"no weights for {missing[0]} ({len(missing)} tensors are missing)")
    return Backbone(network, frozen_norm=True, camera_channels=camera_channels)


def _with_stages(config: PretrainedConfig) -> PretrainedConfig:
    """Ask a pyramid for its last four stages; a plain transformer keeps its last layer only."""
    if type(config) not in MODEL_FOR_BACKBONE_MAPPING:
        raise ValueError(f"{type(config).__name__} is not a backbone's config")
    for name, value in vars(config).items():
        if isinstance(value, tuple):  # some networks want lists and refuse their own defaults
            setattr(config, name, list(value))
    is_pyramid = hasattr(config, "depths")
    stages = [name for name in config.stage_names if name != "stem"]
    config.out_features = stages[-4:] if is_pyramid else stages[-1:]
    return config


class ImageNormalisation(nn.Module):
    """uint8 RGB to the zero-mean, unit-deviation floats that ImageNet weights expect."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        """Constants as buffers that stay out of checkpoints."""
        super().__init__()
        mean = torch.tensor([0.485, 0.456, 0.406]) * 255
        std = torch.tensor([0.229, 0.224, 0.225]) * 255
        self.register_buffer("mean", mean.view(3, 1, 1), persistent=False)
        self.register_buffer("scale", (1 / std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float32 images of the same shape."""
        return (images.float() - self.mean) * self.scale
