"""The latent codec: the encoder of the initialised video, and the decoder that propagates over time both ways."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.compact.blocks import SLOPE, ResidualBlock, silence
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.motion import Motion
from stvsr_cli.models.layers.warp import warp


def enlarged_bilinearly(frames: Tensor, scale: int) -> Tensor:
    """Bilinear enlargement (`align_corners=False`) before its pixel shuffle: [N, 3, h, w] -> [N, 3 * scale^2, h, w].

    Each output pixel is a fixed mix of 3x3 input pixels, so that on the input's grid it is one small convolution,
    several times faster than an enlargement at full size.
    """
    place = (torch.arange(scale, device=frames.device, dtype=torch.float32) + 0.5) / scale - 0.5
    taps = (1 - (place[:, None] - torch.arange(-1, 2, device=frames.device)).abs()).clamp_min(0)  # [scale, 3]
    kernel = (taps[:, None, :, None] * taps[None, :, None, :]).flatten(0, 1)[:, None]  # [scale^2, 1, 3, 3]
    with torch.autocast(frames.device.type, enabled=False):
        padded = functional.pad(frames.float(), (1, 1, 1, 1), mode="replicate")
        return functional.conv2d(padded, kernel.repeat(3, 1, 1, 1), groups=3)


class Encoder(nn.Module):
    """Latents and features of frames.

    Bilinear enlargement is linear and adds nothing, so the enlarged frame is read on the input's own grid: its latent
    on 1/8 of the output is a convolution of the input after a space-to-depth step.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.stride = config.latent_stride
        self.enter = nn.Conv2d(3 * config.latent_stride**2, config.width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(config.width) for _ in range(config.encoder_blocks)))
        self.leave = nn.Conv2d(config.width, config.latent_channels, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """frames: [N, 3, h, w] in [0, 1]. Returns the latent [N, C, H, W] and the features [N, width, H, W]."""
        features = self.blocks(self.enter(functional.pixel_unshuffle(frames - 0.5, self.stride)))
        return self.leave(features), features


class Propagation(nn.Module):
    """One direction of a recurrent pass over the frames, aligned by flow."""

    def __init__(self, inputs: int, width: int, num_blocks: int) -> None:
        super().__init__()
        self.width = width
        self.merge = nn.Conv2d(inputs + width, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(num_blocks)))

    def forward(self, features: list[Tensor], flows: list[Tensor]) -> list[Tensor]:
        """Return a state per frame, in the order given.

        features: T tensors [B, inputs, H, W] in order of travel; flows: T-1 tensors [B, 2, H, W], flows[i] from frame
        i + 1 (the one to fill) to frame i (the one before it in travel).
        """
        first = features[0]
        state = first.new_zeros(first.shape[0], self.width, *first.shape[-2:])
        states = []
        for i, feature in enumerate(features):
            if i:
                state = warp(state.float(), flows[i - 1], padding="border").to(feature.dtype)
            state = self.blocks(functional.leaky_relu(self.merge(torch.cat([feature, state], 1)), SLOPE, inplace=True))
            states.append(state)
        return states


class Decoder(nn.Module):
    """Output pixels from clean latents, with features carried backward and then forward in time."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        width, out = config.width, config.output_width
        self.scale = config.scale
        self.enter = nn.Conv2d(config.latent_channels + width, width, 3, padding=1)
        self.backward_pass = Propagation(width, width, config.propagation_blocks)
        self.forward_pass = Propagation(2 * width, width, config.propagation_blocks)
        self.fuse = nn.Conv2d(2 * width, width, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(config.decoder_blocks)))
        self.enlarge = nn.Conv2d(width, out * config.latent_stride**2, 3, padding=1)
        self.stride = config.latent_stride
        self.detail = nn.Conv2d(out, out, 3, padding=1)
        self.leave = nn.Conv2d(out, 3 * config.scale**2, 3, padding=1)
        silence(self.leave)

    def forward(self, latent: Tensor, features: Tensor, frames: Tensor, motion: Motion) -> Tensor:
        """Return the output frames, [B, T, 3, scale * h, scale * w], unclamped.

        latent: [B*T, C, H, W], clean; features: [B*T, width, H, W] of the encoder; frames: [B, T, 3, h, w], the
        initialised video, whose bilinear enlargement the decoder adds its pixels to.
        """
        batch, num_frames = frames.shape[:2]
        x = self.enter(torch.cat([latent, features], 1))
        x = self._propagate(x.unflatten(0, (batch, num_frames)), motion)
        x = functional.leaky_relu(
            functional.pixel_shuffle(self.enlarge(self.blocks(x)), self.stride), SLOPE, inplace=True
        )
        x = functional.leaky_relu(self.detail(x), SLOPE, inplace=True)
        pixels = self.leave(x) + enlarged_bilinearly(frames.flatten(0, 1), self.scale)
        return functional.pixel_shuffle(pixels, self.scale).unflatten(0, (batch, num_frames))

    def _propagate(self, features: Tensor, motion: Motion) -> Tensor:
        """features: [B, T, width, H, W]. Returns [B*T, width, H, W]."""
        steps = list(features.unbind(1))
        back = self.backward_pass(steps[::-1], list(motion.to_next.unbind(1))[::-1])[::-1]
        both = [torch.cat(pair, 1) for pair in zip(steps, back, strict=True)]
        ahead = self.forward_pass(both, list(motion.to_previous.unbind(1)))
        joined = torch.stack([torch.cat(pair, 1) for pair in zip(back, ahead, strict=True)], 1).flatten(0, 1)
        return self.fuse(joined) + features.flatten(0, 1)
