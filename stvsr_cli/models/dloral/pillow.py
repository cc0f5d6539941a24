"""Resampling of 8-bit images as Pillow does it, bit for bit: two passes in fixed-point arithmetic.

The networks were trained on frames enlarged by Pillow, whose arithmetic this is (`Resample.c`): filters stretched when
reducing, coefficients of 22 fractional bits, and a result rounded to 8 bits after each pass.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

PRECISION_BITS = 32 - 8 - 2
"""Fractional bits of a coefficient: 32-bit sums, less 8 bits of pixel and 2 of headroom."""


def bicubic(x: float) -> float:
    """Return Keys' cubic at x, with a = -1/2."""
    a, x = -0.5, abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    if x < 2:
        return (((x - 5) * x + 8) * x - 4) * a
    return 0.0


def lanczos(x: float) -> float:
    """Return Lanczos' windowed sinc at x, with three lobes."""
    return _sinc(x) * _sinc(x / 3) if -3 <= x < 3 else 0.0


SUPPORT: dict[Callable[[float], float], float] = {bicubic: 2.0, lanczos: 3.0}


def resize(images: Tensor, size: tuple[int, int], kernel: Callable[[float], float]) -> Tensor:
    """Return the images at another size.

    images: uint8 [..., H, W]. size: height and width. kernel: `bicubic` or `lanczos`. Returns uint8 [..., *size].
    Rows are resampled first, then columns; where the height shrinks and the width grows, new versions of Pillow begin
    with the columns. Raises ValueError for another dtype.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"{images.dtype = }, expected torch.uint8")
    height, width = size
    if width != images.shape[-1]:
        images = _pass(images, width, kernel)
    if height != images.shape[-2]:
        images = _pass(images.transpose(-1, -2), height, kernel).transpose(-1, -2).contiguous()
    return images


def coefficients(before: int, after: int, kernel: Callable[[float], float]) -> tuple[list[int], list[list[int]]]:
    """Return, for each output pixel, the first input pixel it reads and its fixed-point weights, padded by zeros."""
    scale = before / after
    stretch = max(scale, 1.0)
    support = SUPPORT[kernel] * stretch
    num_taps = math.ceil(support) * 2 + 1
    starts, rows = [], []
    for position in range(after):
        centre = (position + 0.5) * scale
        start = max(int(centre - support + 0.5), 0)
        stop = min(int(centre + support + 0.5), before)
        weights = [kernel((tap - centre + 0.5) * (1 / stretch)) for tap in range(start, stop)]
        total = sum(weights)
        fixed = [_fixed_point(weight * (1 / total)) if total != 0 else 0 for weight in weights]
        starts.append(start)
        rows.append(fixed + [0] * (num_taps - len(fixed)))
    return starts, rows


def _pass(images: Tensor, after: int, kernel: Callable[[float], float]) -> Tensor:
    """Resample the last axis."""
    before = images.shape[-1]
    first, weights = _coefficients_on(images.device, before, after, kernel)
    total = torch.full((*images.shape[:-1], after), 1 << (PRECISION_BITS - 1), device=images.device, dtype=torch.int32)
    for tap in range(weights.shape[1]):
        read = images.index_select(-1, (first + tap).clamp_(max=before - 1))
        total += read.to(torch.int32) * weights[:, tap]
    return (total >> PRECISION_BITS).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=64)
def _coefficients_on(
    device: torch.device, before: int, after: int, kernel: Callable[[float], float]
) -> tuple[Tensor, Tensor]:
    """`coefficients` on a device, [after] and [after, taps]: made and copied there once, not for each frame."""
    starts, rows = coefficients(before, after, kernel)
    with torch.inference_mode(False):
        return torch.tensor(starts, device=device), torch.tensor(rows, device=device, dtype=torch.int32)


def _sinc(x: float) -> float:
    if x == 0:
        return 1.0
    x = x * math.pi
    return math.sin(x) / x


def _fixed_point(weight: float) -> int:
    """Round half away from zero."""
    return int(weight * (1 << PRECISION_BITS) + (0.5 if weight >= 0 else -0.5))
