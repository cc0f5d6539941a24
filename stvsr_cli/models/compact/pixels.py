"""The end of the decoder: from features on the input's grid to pixels on the output's."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.compact.blocks import SLOPE

COLOR_PX = 17
"""Side of the squares of input pixels over which what the network adds has no mean."""
CHANNELS = 8
"""What the number of outputs of a card's fast convolutions must be a multiple of."""
ROWS_AT_ONCE = 32
"""Input rows whose output pixels are made at once at full size, so that they stay in a processor's cache."""


def enlarged_bilinearly(frames: Tensor, scale: int) -> Tensor:
    """Bilinear enlargement (`align_corners=False`) before its pixel shuffle: [N, 3, h, w] -> [N, 3 * scale^2, h, w].

    Each output pixel is a fixed mix of 3x3 input pixels, so that on the input's grid it is one small convolution,
    several times faster than an enlargement at full size.
    """
    place = (torch.arange(scale, device=frames.device, dtype=torch.float32) + 0.5) / scale - 0.5
    taps = (1 - (place[:, None] - torch.arange(-1, 2, device=frames.device)).abs()).clamp_min(0)  # [scale, 3]
    kernel = (taps[:, None, :, None] * taps[None, :, None, :]).flatten(0, 1)[:, None]  # [scale^2, 1, 3, 3]
    with torch.autocast(frames.device.type, enabled=False):
        padded = functional.pad(frames.float(), (1, 1, 1, 1), mode="replicate")
        padded = padded.contiguous(memory_format=torch.channels_last)  # twice as fast
        return functional.conv2d(padded, kernel.repeat(3, 1, 1, 1), groups=3)


def local_mean(added: Tensor, scale: int) -> Tensor:
    """Local mean colour of what the network adds at full size, [N, 3, scale * h, scale * w], on the input's grid, [N, 3, h, w].

    What is added is detail, and must not change brightness or tint.
    """
    colours = functional.avg_pool2d(added, scale).contiguous()
    return _mean_along(_mean_along(colours, -2), -1)


def _mean_along(x: Tensor, axis: int) -> Tensor:
    """Mean of the COLOR_PX values around each along an axis, of those that are there; by a sum of twice as many each time.

    A pooling of the same takes three times as long on a processor.
    """
    reach, length = COLOR_PX // 2, x.shape[axis]
    margin = (reach, reach) if axis == -1 else (0, 0, reach, reach)
    padded = total = functional.pad(x, margin)
    count = 1
    while 2 * count <= COLOR_PX:
        total = total.narrow(axis, 0, total.shape[axis] - count) + total.narrow(axis, count, total.shape[axis] - count)
        count *= 2
    for place in range(count, COLOR_PX):
        total = total.narrow(axis, 0, length) + padded.narrow(axis, place, length)
    before = torch.arange(length, device=x.device).clamp_max(reach)
    there = (before + before.flip(0) + 1).to(x.dtype)
    return total / (there if axis == -1 else there[:, None])


class PixelHead(nn.Module):
    """Two narrow convolutions at full size, after the pixel shuffle.

    Pixels that are shuffled straight from the input's grid are made by separate filters that never see each other, and
    show as a weave of the input's pixels; here each is made with its neighbours in view, whichever input pixel they
    come from.
    """

    def __init__(self, inputs: int, channels: int, width: int, scale: int) -> None:
        """inputs: feature channels on the input's grid; channels: feature channels beside the three colours at full size."""
        super().__init__()
        self.scale = scale
        self.beside = nn.Conv2d(inputs, channels * scale**2, 1)
        self.across1 = nn.Conv2d(3 + channels, width, 3, padding=1)
        self.across2 = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, colours: Tensor, features: Tensor) -> Tensor:
        """Return pixels [N, 3, scale * h, scale * w]: the colours, shuffled, and what the convolutions add to them.

        colours: [N, 3 * scale^2, h, w]; features: [N, inputs, h, w].
        """
        joined = torch.cat([colours, self.beside(features)], 1)
        height = joined.shape[-2]
        rows = ROWS_AT_ONCE if joined.device.type == "cpu" else height  # a GPU is faster with few large calls
        parts = []
        for top in range(0, height, rows):
            before, after = min(top, 1), min(height - min(top + rows, height), 1)  # rows that the convolutions see
            part = joined[:, :, top - before : top + rows + after]
            made = self._full_size(functional.pixel_shuffle(part, self.scale))
            parts.append(made[:, :, before * self.scale : made.shape[-2] - after * self.scale])
        return parts[0] if len(parts) == 1 else torch.cat(parts, -2)

    def _full_size(self, pixels: Tensor) -> Tensor:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        hidden = functional.leaky_relu(self.across1(pixels), SLOPE, inplace=True)
        across = self.across2 if pixels.device.type == "cpu" else partial(in_eights, self.across2)
        return pixels[:, :3] + across(hidden)[:, :3]


def in_eights(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution with as many outputs of zero beside its own as make their number a multiple of eight.

    The fast kernels of cards take no other numbers in half precision. x: [N, C, H, W]. Returns [N, 8 * n, H, W].
    """
    missing = -layer.out_channels % CHANNELS
    weight = functional.pad(layer.weight, (0, 0, 0, 0, 0, 0, 0, missing))
    bias = None if layer.bias is None else functional.pad(layer.bias, (0, missing))
    return functional.conv2d(x, weight.contiguous(memory_format=torch.channels_last), bias, padding=layer.padding)
