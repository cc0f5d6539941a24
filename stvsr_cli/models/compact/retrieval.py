"""Cross-frame retrieval: attention to the aligned frame before, which keeps only what is similar enough.

After DLoRAL (arXiv 2506.15591). Its sums over all positions would grow with the frame, so here similarities are
cosines, and what is kept is a mean: a network trained on crops then suits whole frames.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.compact.blocks import silence
from stvsr_cli.models.layers.retrieval import thresholded_attention
from stvsr_cli.models.layers.warp import warp

SHARPNESS = 10.0
"""How much a similarity above the threshold counts against the one vote for adding nothing."""


class FrameRetrieval(nn.Module):
    """Adds to each frame's features what is similar in the aligned frame before it; nothing where nothing is."""

    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(width, inner_width, 1)
        self.key = nn.Conv2d(width, inner_width, 1)
        self.value = nn.Conv2d(width, inner_width, 1)
        self.threshold = nn.Linear(inner_width, 1)
        self.out = nn.Conv2d(inner_width, width, 1)
        silence(self.threshold)
        silence(self.out)

    def forward(self, x: Tensor, to_previous: Tensor) -> Tensor:
        """x: [B*T, C, H, W]; to_previous: [B, T-1, 2, H, W], flow to the frame before. Returns [B*T, C, H, W]."""
        batch, pairs = to_previous.shape[:2]
        if not pairs:
            return x
        frames = x.unflatten(0, (batch, pairs + 1))
        aligned = warp(frames[:, :-1].flatten(0, 1), to_previous.flatten(0, 1), padding="border")
        query = _positions(self.query(frames[:, 1:].flatten(0, 1)))
        key, value = _positions(self.key(aligned)), _positions(self.value(aligned)).float()
        threshold = self.threshold(query).float().sigmoid()
        counted = torch.cat([value, torch.ones_like(value[..., :1])], -1)
        with torch.autocast(x.device.type, enabled=False):
            query, key = (functional.normalize(part.float(), dim=-1) for part in (query, key))
            sums = thresholded_attention(query, key, counted, threshold) * SHARPNESS
        found = sums[..., :-1] / (sums[..., -1:] + 1)
        added = self.out(found.transpose(1, 2).unflatten(2, x.shape[-2:]).to(x.dtype))
        added = functional.pad(added.unflatten(0, (batch, pairs)), (0, 0, 0, 0, 0, 0, 1, 0))  # none at the first frame
        return x + added.flatten(0, 1)


def _positions(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H * W, C]."""
    return x.flatten(2).transpose(1, 2)
