"""Video representation guidance: global tokens of the whole frames of a window, and the attention to them.

After DiffST (arXiv 2605.13182), which puts tokens of the low-quality video in the place of a text prompt. In streaming
the tokens come from the window's frames alone, whole even where the denoiser sees a tile: nothing is carried from
window to window, so that a run that was interrupted goes on to the same result.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.compact.blocks import SLOPE
from stvsr_cli.models.layers.silence import silence

SIDE = 32
"""The frames are averaged to this many rows and columns first: global content, not detail."""
NUM_HEADS = 4


class VideoGuidance(nn.Module):
    """Global tokens: learned queries attend to small descriptors of all frames."""

    def __init__(self, num_tokens: int, width: int) -> None:
        super().__init__()
        self.descriptors = nn.Sequential(
            nn.Conv2d(3, width // 2, 3, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, width, 3, padding=1),
        )
        places = (SIDE // 4) ** 2
        self.place = nn.Parameter(torch.randn(places, width) * 0.02)
        self.queries = nn.Parameter(torch.randn(num_tokens, width) * 0.5)
        self.norm = nn.LayerNorm(width)
        self.key_value = nn.Linear(width, 2 * width)
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, video: Tensor) -> Tensor:
        """video: [B, T, 3, h, w] in [0, 1], any length and size. Returns the tokens, [B, tokens, width]."""
        small = functional.adaptive_avg_pool2d(video.flatten(0, 1), SIDE)
        described = self.descriptors(small - 0.5).flatten(2).transpose(1, 2) + self.place  # [B*T, places, width]
        described = self.norm(described.unflatten(0, video.shape[:2]).flatten(1, 2))
        key, value = (_heads(part) for part in self.key_value(described).chunk(2, -1))
        query = _heads(self.queries.to(key.dtype).expand(video.shape[0], -1, -1))
        gathered = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens: Tensor = gathered + self.mix(gathered)
        return tokens


class GuidedAttention(nn.Module):
    """Cross-attention of a block's features to the global tokens, on a residual branch.

    The queries are means over cells of positions, and what they gather is spread bilinearly: tokens of a whole video
    hold nothing finer.
    """

    def __init__(self, width: int, token_width: int, cell: int) -> None:
        super().__init__()
        self.cell = cell
        self.query = nn.Conv2d(width, token_width, 1)
        self.key_value = nn.Linear(token_width, 2 * token_width)
        self.out = nn.Conv2d(token_width, width, 1)
        silence(self.out)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """x: [B*T, C, H, W]; tokens: [B, K, token_width]. Returns [B*T, C, H, W]."""
        height, width = (-(-side // self.cell) for side in x.shape[-2:])
        query = self.query(functional.adaptive_avg_pool2d(x, (height, width)))  # [B*T, D, H', W']
        query = query.unflatten(0, (tokens.shape[0], -1)).transpose(1, 2).flatten(2).transpose(1, 2)  # [B, T*H'*W', D]
        key, value = self.key_value(tokens.to(query.dtype)).chunk(2, -1)
        found = functional.scaled_dot_product_attention(_heads(query), _heads(key), _heads(value))
        found = found.transpose(1, 2).flatten(2).transpose(1, 2)  # [B, D, T*H'*W']
        found = found.unflatten(2, (-1, height, width)).transpose(1, 2).flatten(0, 1)  # [B*T, D, H', W']
        return x + functional.interpolate(self.out(found), size=x.shape[-2:], mode="bilinear", align_corners=False)


def _heads(x: Tensor) -> Tensor:
    """[B, N, D] -> [B, heads, N, D / heads]."""
    return x.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2)
