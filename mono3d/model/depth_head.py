"""The depth part of a head: which outputs it has, and depth in metres from them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mono3d.codec.depth import MAX_DEPTH_M, MIN_DEPTH_M, LogDepthCodec, uniform_bin_centers


class DepthHead(nn.Module):
    """Regressed log depth, PGD's bins beside it and a Laplace scale if wanted.

    Source: PGD (arXiv:2107.14160), section 3.2, for the bins and their fusion.
    """

    bin_centers_m: Tensor

    def __init__(
        self,
        depth: LogDepthCodec,
        *,
        num_bins: int = 0,
        bin_width_m: float = 10.0,
        has_uncertainty: bool = False,
    ) -> None:
        """Choose the outputs.

        Args:
            depth: The depth code; must be the codec's.
            num_bins: Of PGD's classifier on top of the regression; 0 is none.
            bin_width_m: Distance of the bins at the reference focal length.
            has_uncertainty: Predict the log scale of a Laplace law around the depth.
        """
        super().__init__()
        self.codec = depth
        optional = {"depth_bins": num_bins, "log_sigma": int(has_uncertainty)}
        self.channels = {"log_depth": 1, **{name: n for name, n in optional.items() if n}}
        """Name → channels of the branches that it reads."""
        # PGD starts with the two depths in equal parts: sigmoid(1e-4) = 0.5.
        self.fusion_logit = nn.Parameter(torch.tensor(1e-4)) if num_bins else None
        self.register_buffer(
            "bin_centers_m", uniform_bin_centers(num_bins, bin_width_m), persistent=False
        )

    def forward(self, said: dict[str, Tensor], focal_px: Float[Tensor, " n"]) -> dict[str, Tensor]:
        """Single channels squeezed, and the depth in metres and in the codec's coordinate.

        `depth_slope` is the derivative of `log_depth` by the regression branch's output, which
        mining needs: 1 unless PGD's bins share the answer.

        Args:
            said: Branches [n, points, channels].
            focal_px: Focal length of each image's camera.
        """
        focal = focal_px[:, None]
        single = {name: said[name][..., 0] for name in ("log_depth", "log_sigma") if name in said}
        said = said | single
        regressed_m = self.codec.decode(said["log_depth"], focal)
        if self.fusion_logit is None:
            slope = torch.ones_like(regressed_m)
            return said | {"depth_m": regressed_m, "depth_slope": slope}
        expected_m = said["depth_bins"].float().softmax(-1) @ self.bin_centers_m
        expected_m = expected_m * focal / self.codec.reference_focal_px
        share = self.fusion_logit.sigmoid()
        depth_m = (share * regressed_m + (1 - share) * expected_m).clamp(MIN_DEPTH_M, MAX_DEPTH_M)
        slope = (share * regressed_m / depth_m).detach()
        log_depth = self.codec.encode(depth_m, focal)
        return said | {"depth_m": depth_m, "log_depth": log_depth, "depth_slope": slope}
