"""SPyNet (Ranjan and Black, arXiv 1611.00850): optical flow, refined down a pyramid of six levels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.layers.warp import warp

NUM_LEVELS = 6
WIDTHS = (8, 32, 64, 32, 16, 2)
"""Channels of a level: two frames and a flow in, a flow out."""
KERNEL = 7
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SPyNetLevel(nn.Module):
    """Corrects a flow at one scale."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, KERNEL, padding=KERNEL // 2)
            for before, after in zip(WIDTHS[:-1], WIDTHS[1:], strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, 8, H, W], the frame, the other warped, and the flow so far. Returns [N, 2, H, W], its correction."""
        for conv in self.convs[:-1]:
            x = functional.relu_(conv(x))
        correction: Tensor = self.convs[-1](x)
        return correction


class SPyNet(nn.Module):
    """Flow from one frame to another, in pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(SPyNetLevel() for _ in range(NUM_LEVELS))

    def forward(self, frames: Tensor, others: Tensor) -> Tensor:
        """Return the flow from `frames` to `others`: warping `others` by it gives `frames`.

        frames, others: [N, 3, H, W]. Returns [N, 2, H, W] in pixels, x then y.
        """
        height, width = frames.shape[-2:]
        multiple = 2 ** (NUM_LEVELS - 1)
        padded = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
        if padded != (height, width):
            frames, others = (_resize(frames, padded), _resize(others, padded))
        flow = self._coarse_to_fine(_pyramid(frames), _pyramid(others))
        if padded == (height, width):
            return flow
        factors = flow.new_tensor([width / padded[1], height / padded[0]]).view(1, 2, 1, 1)
        return _resize(flow, (height, width)) * factors

    def _coarse_to_fine(self, frames: list[Tensor], others: list[Tensor]) -> Tensor:
        batch, _, height, width = frames[0].shape
        flow = frames[0].new_zeros(batch, 2, height, width)
        for index, level in enumerate(self.levels):
            if index > 0:
                flow = functional.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True) * 2
            seen = torch.cat([frames[index], warp(others[index], flow, padding="border"), flow], dim=1)
            flow = flow + level(seen)
        return flow


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _pyramid(frames: Tensor) -> list[Tensor]:
    """Return the normalised frames at all scales, coarsest first."""
    mean, std = (frames.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    scales = [(frames - mean) / std]
    for _ in range(NUM_LEVELS - 1):
        scales.append(functional.avg_pool2d(scales[-1], 2))
    return scales[::-1]
