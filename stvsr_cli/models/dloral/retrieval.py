"""CFR, the cross-frame retrieval of DLoRAL (arXiv 2506.15591, section 3.2): what a latent takes from the one before."""

import torch
from torch import Tensor, nn

from stvsr_cli.models.layers.retrieval import BLOCK_BYTES, FrameRetrieval
from stvsr_cli.models.layers.spynet import SPyNet
from stvsr_cli.models.layers.warp import warp

HEADS, DIM = 9, 64
TEMPERATURE = 3000.0
"""Divides the similarities: a constant of the published code, not a parameter."""


class CrossFrameRetrieval(nn.Module):
    """Aligns the previous frame's latent by optical flow, and retrieves from it by thresholded attention."""

    def __init__(self, latent_channels: int = 4, *, heads: int = HEADS, dim: int = DIM) -> None:
        super().__init__()
        self.flow = SPyNet()
        self.attention = FrameRetrieval(latent_channels, heads=heads, dim=dim, temperature=TEMPERATURE)

    def forward(
        self, frames: Tensor, previous_frames: Tensor, latent: Tensor, previous_latent: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the previous latent, aligned, and the current one with what was retrieved added.

        frames, previous_frames: [N, 3, H, W] in [-1, 1], at the latents' size; the published code gives them to the
        flow network in that range. latent, previous_latent: [N, C, H, W]. Returns two of [N, C, H, W].
        """
        with torch.autocast(latent.device.type, enabled=False):  # positions need more than half precision
            flow = self.flow(frames.float(), previous_frames.float())
        aligned = warp(previous_latent, flow)
        fused: Tensor = self.attention(latent, aligned, block_bytes=BLOCK_BYTES)
        return aligned, fused
