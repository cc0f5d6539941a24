"""The one-step denoiser: a U-shaped network over latents with temporal mixing at every level."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.compact.blocks import BRANCH_GAIN, SelfAttention, TimedBlock, start_at_unit_scale
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.guidance import GuidedAttention
from stvsr_cli.models.compact.retrieval import FrameRetrieval
from stvsr_cli.models.compact.temporal import TemporalExpert
from stvsr_cli.models.layers.silence import silence

COARSEST_CELL = 8
"""Positions of the latent grid that one query of the guidance stands for, down and across."""


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


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the denoiser looks at beside the latent."""

    residual: Tensor
    """[B*T, 3 * stride^2, H, W]: the motion residual on the latent grid."""
    to_previous: Tensor
    """[B, T-1, 2, H, W]: flow from each frame to the one before, in latent positions."""
    tokens: Tensor | None
    """[B, K, D]: global tokens of the video; None without guidance."""


class Denoiser(nn.Module):
    """Predicts the velocity from a noisy latent, the timestep and the conditions."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        width, middle, coarse = config.width, config.middle_width, config.coarse_width
        self.embedding_size = width
        self.embed = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * width))
        embedding = 2 * width
        residual_channels = 3 * config.latent_stride**2
        self.enter = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        self.motion = nn.Conv2d(residual_channels, width, 3, padding=1) if config.uses_residual else None
        before = (config.denoiser_blocks + 1) // 2
        after = config.denoiser_blocks - before
        self.fine_in = nn.ModuleList(TimedBlock(width, embedding) for _ in range(before))
        self.fine_out = nn.ModuleList(TimedBlock(width, embedding) for _ in range(after))
        self.down_middle = nn.Conv2d(width, middle, 3, stride=2, padding=1)
        self.middle_in = TimedBlock(middle, embedding)
        self.down_coarse = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.coarse_in = TimedBlock(coarse, embedding)
        self.attention = SelfAttention(coarse, config.num_heads)
        self.coarse_out = TimedBlock(coarse, embedding)
        self.up_middle = nn.Conv2d(coarse, middle, 1)
        self.middle_out = TimedBlock(middle, embedding)
        self.up_fine = nn.Conv2d(middle, width, 1)
        self.leave = nn.Conv2d(width, config.latent_channels + width, 3, padding=1)
        start_at_unit_scale(self)
        with torch.no_grad():
            self.leave.weight.mul_(BRANCH_GAIN)
        if self.motion is not None:
            silence(self.motion)
        self.retrieval = FrameRetrieval(width, config.retrieval_width) if config.uses_retrieval else None
        levels = [(width, 0)] * before + [(middle, 1), (coarse, 2), (coarse, 2), (middle, 1)] + [(width, 0)] * after
        self.levels = [level for _, level in levels]
        self.guides = None
        if config.uses_guidance:
            self.guides = nn.ModuleList(
                GuidedAttention(w, config.guidance_width, COARSEST_CELL >> level) for w, level in levels
            )
        self.temporal = None
        if config.uses_temporal_expert:
            self.temporal = TemporalExpert([w for w, _ in levels], residual_channels, config.temporal_rank)

    def forward(
        self, latent: Tensor, conditions: Conditions, timestep: Tensor, num_frames: int
    ) -> tuple[Tensor, Tensor]:
        """Return the velocity, [B*T, C, H, W], and the change of the encoder's features, [B*T, width, H, W].

        latent: [B*T, C, H, W], sides multiples of 8; timestep: [1] or [B*T].
        """
        embedding = self.embed(timestep_embedding(timestep, self.embedding_size).to(latent.dtype))
        gates = None if self.temporal is None else self.temporal.gates(conditions.residual)
        place = iter(range(len(self.levels)))

        def run(block: nn.Module, x: Tensor) -> Tensor:
            i = next(place)
            if self.guides is not None and conditions.tokens is not None:
                x = self.guides[i](x, conditions.tokens)
            added = None
            if self.temporal is not None and gates is not None:
                added = self.temporal.adapters[i](x, gates[self.levels[i]])
            mixed: Tensor = block(x, embedding, num_frames, added)
            return mixed

        fine = self.enter(latent)
        if self.motion is not None:
            fine = fine + self.motion(conditions.residual)
        for block in self.fine_in:
            fine = run(block, fine)
        if self.retrieval is not None:
            fine = self.retrieval(fine, conditions.to_previous)
        middle = run(self.middle_in, self.down_middle(fine))
        coarse = run(self.coarse_in, self.down_coarse(middle))
        coarse = run(self.coarse_out, self.attention(coarse))
        middle = middle + functional.interpolate(self.up_middle(coarse), scale_factor=2, mode="nearest")
        middle = run(self.middle_out, middle)
        fine = fine + functional.interpolate(self.up_fine(middle), scale_factor=2, mode="nearest")
        for block in self.fine_out:
            fine = run(block, fine)
        velocity, change = self.leave(fine).tensor_split([latent.shape[1]], 1)
        return velocity, change
