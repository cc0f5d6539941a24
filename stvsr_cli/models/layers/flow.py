"""Optical flow between two keyframes: a feature pyramid with warping and correlation.

After PWC-Net (Sun et al., arXiv 1709.02371), at a size that costs little beside the rest.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.layers.parts import frames_at_once
from stvsr_cli.models.layers.warp import warp


def correlation(a: Tensor, b: Tensor, radius: int) -> Tensor:
    """Similarity of each position of `a` to the (2r + 1)^2 positions of `b` around it.

    a, b: [N, C, H, W]. Returns [N, (2r + 1)^2, H, W], the mean over channels of the products.
    """
    side = 2 * radius + 1
    height, width = a.shape[-2:]
    padded = functional.pad(b, (radius,) * 4)
    rows = []
    for dy in range(side):
        for dx in range(side):
            rows.append((a * padded[..., dy : dy + height, dx : dx + width]).mean(1))
    return torch.stack(rows, dim=1)


def resize_flow(flow: Tensor, scale: int) -> Tensor:
    """Enlarge a flow field by an integer factor, its vectors with it. flow: [N, 2, H, W] in positions."""
    return functional.interpolate(flow * scale, scale_factor=scale, mode="bilinear", align_corners=False)


class FlowPyramid(nn.Module):
    """Features of one frame at 1/2, 1/4, 1/8 and 1/16 of its size."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(12, widths[0], 3, padding=1), nn.LeakyReLU(0.1))
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.LeakyReLU(0.1),
                nn.Conv2d(after, after, 3, padding=1),
                nn.LeakyReLU(0.1),
            )
            for before, after in zip(widths[:-1], widths[1:], strict=True)
        )

    def forward(self, frames: Tensor) -> list[Tensor]:
        """frames: [N, 3, h, w]. Returns the levels, finest first."""
        features = [self.first(functional.pixel_unshuffle(frames - 0.5, 2))]
        for level in self.levels:
            features.append(level(features[-1]))
        return features


class FlowNetwork(nn.Module):
    """Flow from every frame to its partner, coarse to fine, with correlation at all levels but the finest."""

    def __init__(self, widths: Sequence[int], radius: int) -> None:
        super().__init__()
        self.radius = radius
        self.pyramid = FlowPyramid(widths)
        self.estimators = nn.ModuleList(self._estimator(width, radius) for width in widths[1:])
        self.finest = nn.Sequential(
            nn.Conv2d(2 * widths[0] + 2, 32, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(32, 2, 3, padding=1),
        )

    @staticmethod
    def _estimator(width: int, radius: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d((2 * radius + 1) ** 2 + width + 2, 64, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(32, 2, 3, padding=1),
        )

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Cosine similarities in [-1, 1] of each position of `a` to those of `b` around it; see `correlation`."""
        cost = correlation(functional.normalize(a.float(), dim=1), functional.normalize(b, dim=1), self.radius)
        return cost * a.shape[1]

    def forward(self, frames: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return flows forward and backward between neighbouring frames, coarsest level first.

        frames: [B, T, 3, h, w] in [0, 1], sides multiples of 16. Each list holds, per level (1/16, 1/8, 1/4, 1/2),
        [B, T-1, 2, H, W] in positions of that level: forward[t] leads from frame t to t + 1, backward[t] back.
        """
        pyramid = [f.unflatten(0, frames.shape[:2]) for f in self.pyramid(frames.flatten(0, 1))]
        finest, pairs = pyramid[0], frames.shape[1] - 1
        at_once = frames_at_once(finest, 2 * len(finest))
        if at_once >= pairs:
            return self._between(pyramid)
        starts = range(0, pairs, at_once)
        parts = [self._between([level[:, start : start + at_once + 1] for level in pyramid]) for start in starts]
        forward, backward = (
            [torch.cat(level, 1) for level in zip(*way, strict=True)] for way in zip(*parts, strict=True)
        )
        return forward, backward

    def _between(self, pyramid: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """As `forward`, from the features [B, T, ., ., .] of the frames, finest level first."""
        pairs = (len(pyramid[0]), pyramid[0].shape[1] - 1)
        flow: Tensor | None = None
        forward: list[Tensor] = []
        backward: list[Tensor] = []
        for level in reversed(range(len(pyramid))):
            f = pyramid[level]
            a = torch.cat([f[:, :-1].flatten(0, 1), f[:, 1:].flatten(0, 1)])  # [2*B*(T-1), C, H, W]
            b = torch.cat([f[:, 1:].flatten(0, 1), f[:, :-1].flatten(0, 1)])
            if flow is None:
                flow = a.new_zeros(a.shape[0], 2, *a.shape[-2:], dtype=torch.float32)
            else:
                flow = resize_flow(flow, 2)
            aligned = warp(b.float(), flow, padding="border")
            if level:
                cost = self.similarity(a, aligned)
                update = self.estimators[level - 1](torch.cat([cost, a.float(), flow], 1))
            else:
                update = self.finest(torch.cat([a.float(), aligned, flow], 1))
            flow = flow + update.float()
            one, other = flow.chunk(2)
            forward.append(one.unflatten(0, pairs))
            backward.append(other.unflatten(0, pairs))
        return forward, backward
