"""Cross-frame retrieval: attention to the aligned frame before, which keeps only what is similar enough.

After DLoRAL (arXiv 2506.15591), whose sums run over all positions. Here the alignment has brought what belongs together
near: each block of positions looks at the same block of the aligned frame and a margin around it, which costs the same
for each position in any frame. Similarities are cosines, and what is kept is a mean.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.layers.parts import in_parts
from stvsr_cli.models.layers.retrieval import thresholded_attention
from stvsr_cli.models.layers.silence import silence
from stvsr_cli.models.layers.warp import warp

SHARPNESS = 10.0
"""How much a similarity above the threshold counts against the one vote for adding nothing."""
BLOCK = 8
"""Side of a block of queries, in positions."""
MARGIN = 4
"""Positions around the block that it looks at, too."""
POSITIONS_AT_ONCE = 2**16
"""Positions of which the blocks are held at a time: with their margins they take four times the features' memory."""


class FrameRetrieval(nn.Module):
    """Adds to each frame's features what is similar in the aligned frame before it; nothing where nothing is."""

    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(width, inner_width, 1)
        self.key = nn.Conv2d(width, inner_width, 1)
        self.value = nn.Conv2d(width, inner_width, 1)
        self.threshold = nn.Linear(inner_width, 1)
        self.out = nn.Conv2d(inner_width, width, 1)
        self.key.load_state_dict(self.query.state_dict())  # alike from the start: else no cosine is above the threshold
        silence(self.threshold)
        silence(self.out)

    def forward(self, x: Tensor, to_previous: Tensor) -> Tensor:
        """Return features with what was found added, [B*T, C, H, W].

        x: [B*T, C, H, W], sides multiples of 8; to_previous: [B, T-1, 2, H, W], flow to the frame before.
        """
        batch, pairs = to_previous.shape[:2]
        if not pairs:
            return x
        frames = x.unflatten(0, (batch, pairs + 1))
        aligned = warp(frames[:, :-1].flatten(0, 1), to_previous.flatten(0, 1), padding="border")
        added = in_parts(self._added, POSITIONS_AT_ONCE, frames[:, 1:].flatten(0, 1), aligned)
        added = functional.pad(added.unflatten(0, (batch, pairs)), (0, 0, 0, 0, 0, 0, 1, 0))  # none at the first frame
        return x + added.flatten(0, 1)

    def _added(self, now: Tensor, before: Tensor) -> Tensor:
        """What to add to features [N, C, H, W] from the aligned ones of the frame before."""
        query, key, value = _blocks(self.query(now), 0), _blocks(self.key(before), MARGIN), self.value(before)
        threshold = self.threshold(query).float().sigmoid()
        counted = functional.pad(_blocks(value, MARGIN).float(), (0, 1), value=1.0)
        with torch.autocast(now.device.type, enabled=False):
            query, key = (functional.normalize(part.float(), dim=-1) for part in (query, key))
            sums = thresholded_attention(query, key, counted, threshold) * SHARPNESS
        found = sums[..., :-1] / (sums[..., -1:] + 1)
        added: Tensor = self.out(_frames(found, *now.shape[-2:]).to(now.dtype))
        return added


def _blocks(x: Tensor, margin: int) -> Tensor:
    """[N, C, H, W] -> [N * H/8 * W/8, positions of a block and the margin around it, C]; edges are repeated outwards."""
    side = BLOCK + 2 * margin
    if margin:
        x = functional.pad(x, (margin,) * 4, mode="replicate")
    windows = x.unfold(2, side, BLOCK).unfold(3, side, BLOCK)  # [N, C, H/8, W/8, side, side]
    return windows.permute(0, 2, 3, 4, 5, 1).flatten(3, 4).flatten(0, 2)


def _frames(x: Tensor, height: int, width: int) -> Tensor:
    """[N * H/8 * W/8, 64, C] -> [N, C, H, W]."""
    x = x.unflatten(1, (BLOCK, BLOCK)).unflatten(0, (-1, height // BLOCK, width // BLOCK))  # [N, H/8, W/8, 8, 8, C]
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
