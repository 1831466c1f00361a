"""A distribution over depth at every cell of an image's feature map.

Source: CaDDN (arXiv:2103.01100), section 3.1, for the bins; BEVDepth (arXiv:2206.10092), section
3.2, for a branch that knows its camera: squeeze-and-excitation gates from intrinsics and
extrinsics. Ours gives it fewer numbers (15 in place of 27): what turns and shifts images in
augmentation is in the projection already.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mono3d.codec.depth import DepthBins
from mono3d.geometry.camera import focal_px
from mono3d.model.heads import conv_tower

_CAMERA_NUMBERS = 15
_LENGTH_SCALE_M = 2.0
"""Brings places of cameras on a vehicle to unit size."""
_HIDDEN = 64


class DepthDistribution(nn.Module):
    """Features → logits of depth bins, and of one more for what is beyond them."""

    centers_m: Tensor

    def __init__(
        self, bins: DepthBins, *, channels: int, depth: int, reference_focal_px: float
    ) -> None:
        """Build the branch.

        Args:
            bins: Of depth.
            channels: Of the features, and of the tower.
            depth: Convolutions in the tower.
            reference_focal_px: Usual focal length, for which the branch starts balanced.
        """
        super().__init__()
        self.bins = bins
        self._reference_focal_px = reference_focal_px
        self.camera_gate = nn.Sequential(
            nn.Linear(_CAMERA_NUMBERS, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, channels)
        )
        self.tower = conv_tower(channels, channels, depth)
        self.logits = nn.Conv2d(channels, bins.count + 1, 1)
        nn.init.normal_(self.logits.weight, std=0.01)
        self.register_buffer("centers_m", bins.centers_m, persistent=False)

    def forward(
        self,
        level: Float[Tensor, "n c h w"],
        projection: Float[Tensor, "n 3 4"],
        bev_from_cam: Float[Tensor, "n 4 4"],
        image_size: tuple[int, int],
    ) -> Float[Tensor, "n bins_plus_1 h w"]:
        """Logits of the images of some cameras."""
        camera = self._camera_numbers(projection, bev_from_cam, image_size)
        gate = self.camera_gate(camera).sigmoid()[..., None, None]
        found: Tensor = self.logits(self.tower(level * gate))
        return found

    def expected_m(self, logits: Float[Tensor, "n bins_plus_1 h w"]) -> Float[Tensor, "n cells"]:
        """Mean depth within the range of the bins, metres."""
        within = logits[:, :-1].float().flatten(2).softmax(1)
        # Not a product: autocast would take that to bfloat16.
        return (within * self.centers_m[:, None]).sum(1)

    def told(
        self, depth_m: Float[Tensor, "n 1 h w"], stride: int
    ) -> tuple[Float[Tensor, "n bins hf wf"], Bool[Tensor, "n 1 hf wf"]]:
        """True depth as a distribution: of each cell's known pixels the share in each bin.

        Returns:
            The distribution, which has nothing where no bin holds the depth; and which cells have
            a known pixel.
        """
        images, (rows, columns) = len(depth_m), depth_m.shape[-2:]
        height, width, count = -(-rows // stride), -(-columns // stride), self.bins.count + 1
        known = (depth_m[:, 0] > 0).float()
        image = torch.arange(images, device=depth_m.device)[:, None, None]
        row = torch.arange(rows, device=depth_m.device)[:, None] // stride
        column = torch.arange(columns, device=depth_m.device) // stride
        # Unknown pixels vote with weight 0: to leave them out, the host would have to wait.
        cell = ((image * count + self.bins.index(depth_m[:, 0])) * height + row) * width + column
        counts = depth_m.new_zeros(images * count * height * width)
        counts = counts.index_add(0, cell.flatten(), known.flatten())
        votes = counts.view(-1, count, height, width)
        of_cell = votes.sum(1, keepdim=True)
        return (votes / of_cell.clamp(min=1.0))[:, :-1], of_cell > 0

    def _camera_numbers(
        self,
        projection: Float[Tensor, "n 3 4"],
        bev_from_cam: Float[Tensor, "n 4 4"],
        image_size: tuple[int, int],
    ) -> Float[Tensor, "n 15"]:
        height, width = image_size
        focal = (focal_px(projection) / self._reference_focal_px).log()
        middle = [projection[:, 0, 2] / width - 0.5, projection[:, 1, 2] / height - 0.5]
        turned = bev_from_cam[:, :3, :3].flatten(1)
        place = bev_from_cam[:, :3, 3] / _LENGTH_SCALE_M
        return torch.cat([torch.stack([focal, *middle], dim=1), turned, place], dim=1)
