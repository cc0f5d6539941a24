"""The autoencoder of high-resolution frames, whose latents the denoiser learns to make; only training needs it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.errors import ModelError
from stvsr_cli.models.compact.blocks import SLOPE, ResidualBlock
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.denoiser import alpha_bar
from stvsr_cli.models.compact.network import CompactNetwork, Initialised


class TargetAutoencoder(nn.Module):
    """Latents on 1/8 of the output grid from high-resolution frames, and frames from those latents alone."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.stride = config.scale * config.latent_stride
        width, pixels = 2 * config.width, 3 * self.stride**2
        self.encoder = nn.Sequential(
            nn.Conv2d(pixels, width, 1),
            nn.LeakyReLU(SLOPE),
            ResidualBlock(width),
            ResidualBlock(width),
            nn.Conv2d(width, config.latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(config.latent_channels, width, 3, padding=1),
            ResidualBlock(width),
            ResidualBlock(width),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, pixels, 3, padding=1),
        )

    def encode(self, frames: Tensor) -> Tensor:
        """frames: [N, 3, H, W] in [0, 1], sides multiples of the stride. Returns [N, C, H / stride, W / stride]."""
        latent: Tensor = self.encoder(functional.pixel_unshuffle(frames - 0.5, self.stride))
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """Return the frames [N, 3, H, W] of latents, unclamped."""
        return functional.pixel_shuffle(self.decoder(latent), self.stride) + 0.5


class TargetedNetwork(CompactNetwork):
    """A compact network with the autoencoder that says what its latents should be."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__(config)
        self.target = TargetAutoencoder(config)

    def velocity_error(self, high: Tensor, init: Initialised, video: Tensor, timestep: Tensor) -> Tensor:
        """Mean squared error of the velocity predicted from noised high-resolution latents.

        high: [B, T', 3, H, W]; video: [B, T, 3, ., .], the whole keyframes; timestep: [B], one a clip. Latent, noise and
        velocity as in Salimans & Ho (arXiv 2202.00512), v = sqrt(a) e - sqrt(1 - a) x.
        Raises ModelError without a denoiser.
        """
        if self.denoiser is None:
            raise ModelError("uses_denoiser leaves out what predicts a velocity.")
        num_frames = high.shape[1]
        with torch.no_grad():
            clean = self.target.encode(high.flatten(0, 1)).float()
        each = timestep.repeat_interleave(num_frames)  # [B*T']
        signal = alpha_bar(each, self.config.num_timesteps).view(-1, 1, 1, 1)
        noise = torch.randn_like(clean)
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        wanted = signal.sqrt() * noise - (1 - signal).sqrt() * clean
        velocity, _ = self.denoiser(noisy, self.condition(init, video), each, num_frames)
        return functional.mse_loss(velocity.float(), wanted)
