"""Colours of the output taken from the input: by mean and deviation, or by low frequencies."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

ColorFix = Literal["adain", "wavelet", "none"]

VARIANCE_FLOOR = 1e-5
NUM_LEVELS = 5
"""Levels of the wavelet decomposition; the last blurs over 2^5 pixels."""
BLUR = (0.25, 0.5, 0.25)


def fix_colors(frames: Tensor, source: Tensor, method: ColorFix) -> Tensor:
    """Return `frames` with the colours of `source`. Both are [N, 3, H, W] in [0, 1]; not clamped."""
    if method == "none":
        return frames
    return adain(frames, source) if method == "adain" else exchange_low_frequencies(frames, source)


def adain(frames: Tensor, source: Tensor) -> Tensor:
    """Give each channel of each frame the mean and standard deviation of its source (arXiv 1703.06868, eq. 8)."""
    mean, deviation = _statistics(frames)
    source_mean, source_deviation = _statistics(source)
    return (frames - mean) * (source_deviation / deviation) + source_mean


def exchange_low_frequencies(frames: Tensor, source: Tensor) -> Tensor:
    """Return the high frequencies of `frames` on the low ones of `source`, split by an undecimated wavelet."""
    return frames + _low_frequencies(source - frames)


def _statistics(frames: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(frames, dim=(-2, -1), keepdim=True)
    return mean, (variance + VARIANCE_FLOOR).sqrt()


def _low_frequencies(frames: Tensor) -> Tensor:
    num_channels = frames.shape[1]
    kernel = frames.new_tensor(BLUR)
    rows, columns = (kernel.view(shape).expand(num_channels, -1, -1, -1) for shape in ((1, 1, -1, 1), (1, 1, 1, -1)))
    for level in range(NUM_LEVELS):
        radius = 2**level
        frames = functional.pad(frames, (radius,) * 4, mode="replicate")
        frames = functional.conv2d(frames, rows, groups=num_channels, dilation=(radius, 1))
        frames = functional.conv2d(frames, columns, groups=num_channels, dilation=(1, radius))
    return frames
