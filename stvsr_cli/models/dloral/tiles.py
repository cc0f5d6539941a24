"""Tiles of a latent that is too large for the networks, and their blending back."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

GAUSSIAN_VARIANCE = 0.01
"""Variance of the weights, in squared tile sides."""


@dataclass(frozen=True, slots=True)
class Tile:
    top: int
    left: int
    height: int
    width: int

    def crop(self, x: Tensor, stride: int = 1) -> Tensor:
        """Return this tile of x [..., H * stride, W * stride]."""
        rows = slice(self.top * stride, (self.top + self.height) * stride)
        return x[..., rows, self.left * stride : (self.left + self.width) * stride]


def grid(height: int, width: int, side: int, overlap: int) -> list[Tile]:
    """Return equal square tiles that cover height x width, in reading order, the last of each row at the edge.

    side: of a tile; shorter if the frame is, and then `overlap`, which neighbours share at least, gives way too.
    """
    side = min(side, height, width)
    overlap = min(overlap, side - 1)
    return [
        Tile(top, left, side, side)
        for top in _offsets(height, side, side - overlap)
        for left in _offsets(width, side, side - overlap)
    ]


def gaussian_weights(height: int, width: int, device: torch.device) -> Tensor:
    """Return the authors' weights of a tile, [height, width] in float64: their rows centre half a pixel late."""

    def bell(length: int, centre: float) -> Tensor:
        distance = (torch.arange(length, device=device, dtype=torch.float64) - centre) / length
        return torch.exp(-distance.square() / (2 * GAUSSIAN_VARIANCE))

    return torch.outer(bell(height, height / 2), bell(width, (width - 1) / 2))


def ramp_weights(height: int, width: int, overlap: int, device: torch.device) -> Tensor:
    """Return weights that rise over `overlap` from each edge, [height, width]."""

    def ramp(length: int) -> Tensor:
        inside = torch.arange(1, length + 1, device=device, dtype=torch.float32)
        return torch.minimum(inside, inside.flip(0)).clamp(max=max(overlap, 1)) / max(overlap, 1)

    return torch.outer(ramp(height), ramp(width))


def blend(parts: Iterable[tuple[Tile, Tensor]], weights: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """Return the weighted mean of the tiles, float32 [..., H * stride, W * stride].

    parts: tiles and their contents [..., h * stride, w * stride]. weights: [h * stride, w * stride]. size: H and W.
    Raises ValueError without parts.
    """
    total: Tensor | None = None
    share = torch.zeros((size[0] * stride, size[1] * stride), device=weights.device, dtype=torch.float32)
    for tile, content in parts:
        if total is None:
            total = torch.zeros((*content.shape[:-2], *share.shape), device=content.device, dtype=torch.float32)
        tile.crop(total, stride).add_(content * weights)
        tile.crop(share, stride).add_(weights)
    if total is None:
        raise ValueError("no tiles to blend")
    return total.div_(share)


def _offsets(length: int, side: int, step: int) -> list[int]:
    last = length - side
    return [*range(0, last, step), last]
