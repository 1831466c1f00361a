"""The two attentions of ADD, as side branches that only training has.

Source: ADD (arXiv:2211.16779), abstract: a 3D-aware self-attention and a target-aware
cross-attention adapt the student to the teacher. Their layers were not available to us and are our
reconstruction: PyTorch's multi-head attention, keys averaged to a coarser stride so that the cost
stays affordable (PVT, arXiv:2102.12122, does so), queries made from labels.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mono3d.codec.map_layout import BOX_NUMBERS, MapLayout


def averaged(tokens: Float[Tensor, "n cells c"], size: tuple[int, int], by: int) -> Tensor:
    """Means over squares of `by` x `by` cells of a map of this height and width, as tokens."""
    if by == 1:
        return tokens
    maps = tokens.transpose(1, 2).unflatten(2, size)
    pooled = F.avg_pool2d(maps, by, ceil_mode=True, count_include_pad=False)
    return pooled.flatten(2).transpose(1, 2)


class CellAttention(nn.Module):
    """3D-aware self-attention: each cell sees all of its map, averaged to a coarser stride."""

    def __init__(self, channels: int, heads: int, *, averaging: int) -> None:
        """Build the layers.

        Args:
            channels: Of the features.
            heads: Divides them.
            averaging: Cells to a side of what is averaged to one key.
        """
        super().__init__()
        self._averaging = averaging
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)
        self.mixing = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, channels)
        )
        self.last_norm = nn.LayerNorm(channels)

    def forward(
        self,
        tokens: Float[Tensor, "n cells c"],
        encoding: Float[Tensor, "n cells c"],
        size: tuple[int, int],
    ) -> Float[Tensor, "n cells c"]:
        """Cells that know of each other; values do not carry the encoding, queries and keys do."""
        located = tokens + encoding
        keys = averaged(located, size, self._averaging)
        values = averaged(tokens, size, self._averaging)
        seen, _ = self.attention(located, keys, values, need_weights=False)
        found = self.norm(tokens + seen)
        answer: Tensor = self.last_norm(found + self.mixing(found))
        return answer


class ObjectAttention(nn.Module):
    """Target-aware cross-attention: each labelled object asks the cells of its map."""

    def __init__(self, channels: int, heads: int, *, num_classes: int, averaging: int) -> None:
        """As `CellAttention`; `num_classes` is the run's number of classes."""
        super().__init__()
        self._averaging = averaging
        self.class_embedding = nn.Embedding(num_classes, channels)
        self.box_embedding = nn.Linear(BOX_NUMBERS, channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)

    def forward(
        self,
        tokens: Float[Tensor, "n cells c"],
        encoding: Float[Tensor, "n cells c"],
        layout: MapLayout,
    ) -> Float[Tensor, "n k c"]:
        """What each object learns of the cells; of slots that are not valid, something finite.

        Args:
            tokens: Of the map.
            encoding: Of its cells.
            layout: Of the map and the objects.
        """
        queries = (
            _at_centers(tokens, layout)
            + self.class_embedding(layout.labels)
            + self.box_embedding(layout.box)
        )
        located = averaged(tokens + encoding, layout.size, self._averaging)
        seen, _ = self.attention(queries, located, located, need_weights=False)
        answer: Tensor = self.norm(queries + seen)
        return answer


def _at_centers(tokens: Float[Tensor, "n cells c"], layout: MapLayout) -> Float[Tensor, "n k c"]:
    """Features at the objects' centres, between cells; at the border for those outside."""
    maps = tokens.transpose(1, 2).unflatten(2, layout.size)
    where = layout.where.clamp(-1, 1)[:, None].to(maps.dtype)
    found = F.grid_sample(maps, where, padding_mode="border", align_corners=False)
    return found[:, :, 0].transpose(1, 2)
