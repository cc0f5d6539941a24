"""The one-step denoiser: a U-shaped network over latents with temporal mixing at every level."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.compact.blocks import SelfAttention, TimedBlock, silence
from stvsr_cli.models.compact.config import CompactConfig


def timestep_embedding(timestep: Tensor, size: int) -> Tensor:
    """Sinusoids of the timestep (Ho et al., arXiv 2006.11239). timestep: [N]. Returns [N, size], float32."""
    half = size // 2
    rates = torch.exp(-math.log(10000.0) * torch.arange(half, device=timestep.device) / half)
    angles = timestep.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], 1)


def alpha_bar(timestep: Tensor, num_timesteps: int) -> Tensor:
    """Share of signal variance left at a timestep, cosine schedule (Nichol & Dhariwal, arXiv 2102.09672, eq. 17)."""
    offset = 0.008
    position = (timestep.float() / num_timesteps + offset) / (1 + offset)
    start = math.cos(offset / (1 + offset) * math.pi / 2) ** 2
    return torch.cos(position * math.pi / 2).square() / start


def clean_from_velocity(noisy: Tensor, velocity: Tensor, signal: Tensor) -> Tensor:
    """Clean latent from a v-prediction (Salimans & Ho, arXiv 2202.00512): sqrt(a) z - sqrt(1 - a) v.

    noisy, velocity: [N, C, H, W]; signal: alpha-bar, broadcastable to them.
    """
    return signal.sqrt() * noisy - (1 - signal).sqrt() * velocity


class Denoiser(nn.Module):
    """Predicts the velocity from a noisy latent, the residual of motion and the timestep."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        width, middle, coarse = config.width, config.middle_width, config.coarse_width
        self.embedding_size = width
        self.embed = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * width))
        embedding = 2 * width
        self.enter = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        self.motion = nn.Conv2d(3 * config.latent_stride**2, width, 3, padding=1)
        before = (config.denoiser_blocks + 1) // 2
        self.fine_in = nn.ModuleList(TimedBlock(width, embedding) for _ in range(before))
        self.fine_out = nn.ModuleList(TimedBlock(width, embedding) for _ in range(config.denoiser_blocks - before))
        self.down_middle = nn.Conv2d(width, middle, 3, stride=2, padding=1)
        self.middle_in = TimedBlock(middle, embedding)
        self.down_coarse = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.coarse_in = TimedBlock(coarse, embedding)
        self.attention = SelfAttention(coarse, config.num_heads)
        self.coarse_out = TimedBlock(coarse, embedding)
        self.up_middle = nn.Conv2d(coarse, middle, 1)
        self.middle_out = TimedBlock(middle, embedding)
        self.up_fine = nn.Conv2d(middle, width, 1)
        self.leave = nn.Conv2d(width, config.latent_channels, 3, padding=1)
        silence(self.leave)

    def forward(self, latent: Tensor, residual: Tensor, timestep: Tensor, num_frames: int) -> Tensor:
        """Return the velocity, [B*T, C, H, W].

        latent: [B*T, C, H, W], sides multiples of 4; residual: [B*T, 3 * stride^2, H, W], the motion residual on the
        latent grid; timestep: [1] or [B*T].
        """
        embedding = self.embed(timestep_embedding(timestep, self.embedding_size).to(latent.dtype))
        fine = self.enter(latent) + self.motion(residual)
        for block in self.fine_in:
            fine = block(fine, embedding, num_frames)
        middle = self.middle_in(self.down_middle(fine), embedding, num_frames)
        coarse = self.coarse_in(self.down_coarse(middle), embedding, num_frames)
        coarse = self.coarse_out(self.attention(coarse), embedding, num_frames)
        middle = middle + functional.interpolate(self.up_middle(coarse), scale_factor=2, mode="nearest")
        middle = self.middle_out(middle, embedding, num_frames)
        fine = fine + functional.interpolate(self.up_fine(middle), scale_factor=2, mode="nearest")
        for block in self.fine_out:
            fine = block(fine, embedding, num_frames)
        return self.leave(fine)
