"""Losses and the quality measures that validation shares with them."""

import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli.quality.features import Perceptual
from stvsr_cli.quality.measures import luma, psnr

__all__ = [
    "Perceptual",
    "charbonnier",
    "flow_error",
    "gradient_error",
    "grid_error",
    "log_error",
    "luma",
    "off_grid",
    "psnr",
]

PERIOD_PX = 8
"""Pixels after which a network's output grid, and the strides of what looks at it, repeat."""


def charbonnier(a: Tensor, b: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt((a - b)^2 + epsilon^2) (Charbonnier et al., 1994)."""
    return torch.sqrt((a - b).square() + epsilon * epsilon).mean()


def off_grid(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same part of both, [..., H - 8, W - 8], at a random place.

    Strided features that always lie alike on the output's grid teach a network to draw that grid.
    """
    top, left = torch.randint(PERIOD_PX, (2,)).tolist()
    height, width = (side - PERIOD_PX for side in a.shape[-2:])
    part = (..., slice(top, top + height), slice(left, left + width))
    return a[part], b[part]


def log_error(error: Tensor) -> Tensor:
    """Mean over samples of the logarithm of the mean square, [B, ...]: as in psnr, easy samples count as much as hard ones."""
    return error.square().flatten(1).mean(1).clamp_min(1e-8).log().mean()


def gradient_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean difference of how strong the gradients are, in cells of 8 x 8 pixels; where they lie does not count.

    a, b: [N, C, H, W]. After the gradient variance loss (arXiv 2202.00997), with means of absolute values.
    """
    total = a.new_zeros(())
    for axis in (-1, -2):
        strengths = [functional.avg_pool2d(x.diff(dim=axis).abs(), PERIOD_PX) for x in (a, b)]
        total = total + (strengths[0] - strengths[1]).abs().mean()
    return total


def grid_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean size of the part of a - b that repeats every 8 pixels: a pattern of the output's grid. a, b: [N, C, H, W]."""
    cells = (a - b).unflatten(-2, (-1, PERIOD_PX)).unflatten(-1, (-1, PERIOD_PX))  # [N, C, H / 8, 8, W / 8, 8]
    pattern = cells.mean((2, 4))
    return (pattern - pattern.mean((-2, -1), keepdim=True)).abs().mean()


def flow_error(levels: list[Tensor], target: Tensor) -> Tensor:
    """Mean robust end-point error over the levels of a flow pyramid, in low pixels.

    levels: [B, K-1, 2, H, W] each, in positions of the level; target: [B, K-1, 2, h, w] in low pixels.
    """
    total = target.new_zeros(())
    for level in levels:
        ratio = target.shape[-1] / level.shape[-1]
        reduced = functional.adaptive_avg_pool2d(target.flatten(0, 1), (level.shape[-2], level.shape[-1]))
        difference = level.flatten(0, 1) * ratio - reduced
        total = total + (difference.square().sum(1) + 0.01).pow(0.4).mean()
    return total / len(levels)
