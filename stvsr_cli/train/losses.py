"""Losses and the quality measures that validation shares with them."""

import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli.quality.features import Perceptual
from stvsr_cli.quality.measures import chroma, luma, psnr
from stvsr_cli.quality.weave import FINE_SIGMA, blurred

__all__ = [
    "Perceptual",
    "charbonnier",
    "chroma",
    "evenness_error",
    "flow_error",
    "grid_error",
    "log_error",
    "luma",
    "mesh_error",
    "off_grid",
    "psnr",
    "robust_length",
]

ROBUST_PX, ROBUST_POWER = 0.1, 0.4
"""Of flow errors: below how many pixels they hardly count, and to which power their squares do."""
PERIOD_PX = 8
"""Pixels after which a network's output grid, and the strides of what looks at it, repeat."""


MESH_PX, MESH_FLOOR = 32, 0.1
"""Side of the squares in which `mesh_error` looks, and the energy of fine detail, in square code values, below which it hardly counts."""


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


def grid_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean size of the part of a - b that repeats every 8 pixels: a pattern of the output's grid. a, b: [N, C, H, W]."""
    cells = (a - b).unflatten(-2, (-1, PERIOD_PX)).unflatten(-1, (-1, PERIOD_PX))  # [N, C, H / 8, 8, W / 8, 8]
    pattern = cells.mean((2, 4))
    return (pattern - pattern.mean((-2, -1), keepdim=True)).abs().mean()


def evenness_error(output: Tensor, target: Tensor) -> Tensor:
    """How unevenly fine detail lies over the places within 8 x 8 pixels: a weave of the input's grid. 0 is even.

    output, target: [B, T, 3, H, W] in [0, 1], sides multiples of 8. The standard deviation, over the 64 places, of the
    root mean square of what is finer than two pixels, in code values; where the target holds more than one code value
    of it, relative to that.
    """
    with torch.autocast(output.device.type, enabled=False):
        energy = _fine(output).square()
        around = functional.avg_pool2d(_fine(target).square(), 2 * PERIOD_PX + 1, 1, PERIOD_PX, count_include_pad=False)
        inside = (..., slice(PERIOD_PX, -PERIOD_PX), slice(PERIOD_PX, -PERIOD_PX))  # blurring reaches over the edges
        cells = (energy / (1 + around))[inside].unflatten(-2, (-1, PERIOD_PX)).unflatten(-1, (-1, PERIOD_PX))
        return (cells.mean((1, 2, 4)) + 1e-2).sqrt().flatten(1).std(1).mean()


def mesh_error(output: Tensor, scale: int) -> Tensor:
    """Share of fine detail that repeats from input pixel to input pixel within 32 x 32 pixels: lines of the input's grid.

    output: [B, T, 3, H, W] in [0, 1]. What repeats nowhere has scale^2 / 32^2.
    """
    with torch.autocast(output.device.type, enabled=False):
        fine = _fine(output)[..., scale:-scale, scale:-scale]
        windows = fine.unfold(-2, MESH_PX, MESH_PX // 2).unfold(-2, MESH_PX, MESH_PX // 2).flatten(0, 3)  # [N, 32, 32]
        repeated = windows.unflatten(-2, (-1, scale)).unflatten(-1, (-1, scale)).mean((1, 3))  # [N, scale, scale]
        energy = windows.square().mean((1, 2)).detach()  # a mesh is not to be drowned in noise
        return (repeated.square().mean((1, 2)) / (energy + MESH_FLOOR)).mean()


def _fine(frames: Tensor) -> Tensor:
    """What is finer than two pixels, in code values of luma. frames: [B, T, 3, H, W]. Returns [B, T, H, W]."""
    y = 255 * luma(frames.float().flatten(0, 1))[:, 0]  # [B*T, H, W]
    return (y - blurred(y, FINE_SIGMA)).unflatten(0, frames.shape[:2])


def flow_error(levels: list[Tensor], target: Tensor) -> Tensor:
    """Mean robust end-point error over the levels of a flow pyramid, in low pixels.

    levels: [B, K-1, 2, H, W] each, in positions of the level; target: [B, K-1, 2, h, w] in low pixels.
    """
    total = target.new_zeros(())
    for level in levels:
        ratio = target.shape[-1] / level.shape[-1]
        reduced = functional.adaptive_avg_pool2d(target.flatten(0, 1), (level.shape[-2], level.shape[-1]))
        difference = level.flatten(0, 1) * ratio - reduced
        total = total + robust_length(difference, 1).mean()
    return total / len(levels)


def robust_length(difference: Tensor, axis: int) -> Tensor:
    """Robust size of flow differences, x and y along an axis, which goes; as in PWC-Net."""
    return (difference.square().sum(axis) + ROBUST_PX**2).pow(ROBUST_POWER)
