"""Video representation guidance: global tokens of a whole low-quality video, in the place of text.

After DiffST (arXiv 2605.13182): a video encoder sees the whole video, and its projected tokens guide every block of
the transformer through cross-attention.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.diffst.config import DiffSTConfig


class EncoderBlock(nn.Module):
    """Self-attention and a feed-forward network, each normalised before (Xiong et al., arXiv 2002.04745)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, N, width]. Returns the same shape."""
        heads = self.to_qkv(self.norm1(x)).unflatten(-1, (3, self.num_heads, -1))  # [B, N, 3, heads, D]
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.to_out(attended.transpose(1, 2).flatten(2))
        return x + self.feed_forward(self.norm2(x))


class VideoGuidance(nn.Module):
    """The video encoder and the projection of its global tokens."""

    def __init__(self, config: DiffSTConfig, output_width: int) -> None:
        """output_width: of the tokens, the transformer's own."""
        super().__init__()
        self.num_frames, self.side_px = config.guidance_frames, config.guidance_px
        self.num_tokens = config.guidance_tokens
        frames, side = config.guidance_patch
        num_patches = (self.num_frames // frames) * (self.side_px // side) ** 2
        width = config.guidance_width
        self.patch = nn.Conv3d(3, width, (frames, side, side), stride=(frames, side, side))
        self.position = nn.Parameter(torch.randn(1, num_patches, width) * 0.02)
        self.tokens = nn.Parameter(torch.randn(1, self.num_tokens, width) * 0.02)
        self.blocks = nn.ModuleList(EncoderBlock(width, config.guidance_heads) for _ in range(config.guidance_depth))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Sequential(
            nn.Linear(width, output_width), nn.GELU(approximate="tanh"), nn.Linear(output_width, output_width)
        )

    def forward(self, video: Tensor) -> Tensor:
        """Return the global tokens, [B, tokens, output_width].

        video: [B, T, 3, h, w] in [0, 1], any length and size: the encoder sees frames spread evenly over it, resized.
        """
        chosen = torch.linspace(0, video.shape[1] - 1, self.num_frames).round().long()
        frames = video[:, chosen.to(video.device)].flatten(0, 1)  # [B * frames, 3, h, w]
        frames = functional.interpolate(
            frames, size=(self.side_px, self.side_px), mode="bilinear", align_corners=False, antialias=True
        )
        clips = frames.unflatten(0, (-1, self.num_frames)).transpose(1, 2) * 2 - 1  # [B, 3, frames, side, side]
        patches = self.patch(clips).flatten(2).transpose(1, 2) + self.position
        x = torch.cat([self.tokens.expand(patches.shape[0], -1, -1), patches], 1)
        for block in self.blocks:
            x = block(x)
        guided: Tensor = self.project(self.norm(x[:, : self.num_tokens]))
        return guided
