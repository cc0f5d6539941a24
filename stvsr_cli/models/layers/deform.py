"""Modulated deformable convolution (DCNv2, Zhu et al. 2019, equation 1) in plain torch, in bounded memory."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COLUMN_BYTES = 1 << 27
"""Bytes of sampled features held at once by the plain form."""
COMPILED_COLUMN_BYTES = 1 << 31
"""Above this, the compiled form, which samples the whole image at once, is not used."""


def deform_conv2d(
    features: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    padding: int = 1,
    column_bytes: int = COLUMN_BYTES,
) -> Tensor:
    """Convolve `features` at displaced, weighted sampling positions; stride 1, zeros outside, bilinear.

    features: [B, C, H, W]. offset: [B, 2 * G * K, H', W'], in pixels, for each of G groups of channels and each of
    the K kernel positions (row by row) first down, then right. mask: [B, G * K, H', W']. weight: [D, C / groups, k, k].
    padding: zeros around the image, which fix H' = H + 2 * padding - k + 1. Returns [B, D, H', W'].
    Output rows are made in strips, so that the sampled features stay below `column_bytes` (at least one row).
    Raises ValueError if the shapes do not fit each other.
    """
    num_taps = weight.shape[2] * weight.shape[3]
    _check_shapes(features, offset, mask, weight, padding)
    compiled = _compiled_deform_conv2d()
    bytes_per_row = features.shape[0] * features.shape[1] * num_taps * offset.shape[3] * features.element_size()
    if compiled is not None and bytes_per_row * offset.shape[2] <= COMPILED_COLUMN_BYTES:
        output: Tensor = compiled(features, offset, weight, bias, padding=padding, mask=mask)
        return output
    rows_per_strip = max(1, column_bytes // bytes_per_row)
    strips = [
        _strip(
            features,
            offset[:, :, row : row + rows_per_strip],
            mask[:, :, row : row + rows_per_strip],
            weight,
            row,
            padding,
        )
        for row in range(0, offset.shape[2], rows_per_strip)
    ]
    output = torch.cat(strips, dim=2)
    return output if bias is None else output + bias.view(1, -1, 1, 1)


def _strip(features: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, first_row: int, padding: int) -> Tensor:
    """Return the output rows that `offset` and `mask` belong to, which start at `first_row`: [B, D, rows, W']."""
    batch, channels, height, width = features.shape
    out_channels, channels_per_group, kernel_height, kernel_width = weight.shape
    num_taps, (rows, columns) = kernel_height * kernel_width, offset.shape[2:]
    num_groups = mask.shape[1] // num_taps

    grid = _positions(first_row - padding, -padding, rows, columns, kernel_height, kernel_width, offset)
    grid = grid + offset.view(batch, num_groups, num_taps, 2, rows, columns).movedim(3, -1)  # [B, G, K, rows, W', 2]
    down, across = grid.unbind(-1)
    grid = torch.stack([(2 * across + 1) / width - 1, (2 * down + 1) / height - 1], -1)  # pixel centres on [-1, 1]
    sampled = F.grid_sample(
        features.reshape(batch * num_groups, channels // num_groups, height, width),
        grid.reshape(batch * num_groups, num_taps * rows, columns, 2),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    sampled = sampled.view(batch, num_groups, -1, num_taps, rows, columns)
    sampled = sampled * mask.view(batch, num_groups, 1, num_taps, rows, columns)

    groups = channels // channels_per_group
    taps = sampled.reshape(batch, groups, channels_per_group * num_taps, rows * columns)
    kernel = weight.reshape(groups, out_channels // groups, channels_per_group * num_taps)
    return (kernel @ taps).view(batch, out_channels, rows, columns)


def _positions(
    top: int, left: int, rows: int, columns: int, kernel_height: int, kernel_width: int, like: Tensor
) -> Tensor:
    """Return where each kernel position samples with no offset: [K, rows, columns, 2], in pixels, down then right."""
    down, right, row, column = (
        torch.arange(count, dtype=like.dtype, device=like.device)
        for count in (kernel_height, kernel_width, rows, columns)
    )
    down = (top + down[:, None] + row).view(kernel_height, 1, rows, 1)
    right = (left + right[:, None] + column).view(1, kernel_width, 1, columns)
    shape = (kernel_height, kernel_width, rows, columns)
    return torch.stack([down.expand(shape), right.expand(shape)], dim=-1).flatten(0, 1)


def _check_shapes(features: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, padding: int) -> None:
    batch, channels, height, width = features.shape
    out_channels, channels_per_group, kernel_height, kernel_width = weight.shape
    num_taps = kernel_height * kernel_width
    out_size = (height + 2 * padding - kernel_height + 1, width + 2 * padding - kernel_width + 1)
    num_groups = mask.shape[1] // num_taps
    if (
        num_groups < 1
        or mask.shape != (batch, num_groups * num_taps, *out_size)
        or offset.shape != (batch, 2 * num_groups * num_taps, *out_size)
        or channels % num_groups
        or channels % channels_per_group
        or out_channels % (channels // channels_per_group)
    ):
        raise ValueError(
            f"shapes do not fit: {features.shape = }, {offset.shape = }, {mask.shape = }, {weight.shape = }, {padding = }"
        )


@cache
def _compiled_deform_conv2d() -> Callable[..., Any] | None:
    """Return torchvision's operator, or None where torchvision is not installed."""
    try:
        compiled: Callable[..., Any] = import_module("torchvision.ops").deform_conv2d
    except ImportError:
        return None
    return compiled


class DeformableConv2d(nn.Module):
    """The weights of a deformable convolution whose offsets and mask come from outside."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 3, groups: int = 1) -> None:
        super().__init__()
        self.padding = kernel_size // 2
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.kaiming_normal_(self.weight, nonlinearity="leaky_relu")

    def forward(self, features: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Return [B, D, H, W] for features [B, C, H, W]."""
        return deform_conv2d(features, offset, mask, self.weight, self.bias, padding=self.padding)


class ModulatedDeformableConv2d(nn.Module):
    """DCNv2 that predicts its offsets and its mask from a guide, in float32 whatever the features' precision."""

    def __init__(self, channels: int, *, kernel_size: int = 3, groups: int = 8) -> None:
        super().__init__()
        num_taps = kernel_size * kernel_size
        self.conv_offset = nn.Conv2d(channels, 2 * groups * num_taps, 3, padding=1)
        self.conv_mask = nn.Conv2d(channels, groups * num_taps, 3, padding=1)
        self.deform = DeformableConv2d(channels, channels, kernel_size=kernel_size, groups=groups)
        for layer in (self.conv_offset, self.conv_mask):  # starts as a plain convolution at half strength
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, features: Tensor, guide: Tensor) -> Tensor:
        """Return the features sampled where the guide says. features, guide: [B, C, H, W]. Returns [B, C, H, W]."""
        with torch.autocast(device_type=features.device.type, enabled=False):
            guide = guide.float()
            offset, mask = self.conv_offset(guide), self.conv_mask(guide).sigmoid()
            output: Tensor = self.deform(features.float(), offset, mask)
        return output.to(features.dtype)
