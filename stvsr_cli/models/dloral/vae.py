"""The image VAE, frame by frame, in tiles where a frame is large."""

import logging
from typing import Literal

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from stvsr_cli.models.dloral.tiles import Tile, blend, grid, ramp_weights

logger = logging.getLogger(__name__)

Posterior = Literal["mode", "sample"]

TILE_PX = 1024
"""Side of the tiles of frames that are too large for the memory."""
COPIES, CARD_COPIES = 3.05, 4.8
"""Most activations alive at once, in copies of the decoder's widest at full size: 2.9 as counted over the live tensors of
Stable Diffusion 2.1; on a card, where cuDNN takes room of its own, as measured on an H200. The encoder holds less."""
OVERLAP_SHARE = 4
"""Tiles overlap by their side divided by this."""


class FrameCodec:
    """Frames to scaled latents and back."""

    def __init__(
        self,
        vae: AutoencoderKL,
        *,
        tile_px: int | None,
        posterior: Posterior,
        room_bytes: int | None = None,
        on_card: bool = False,
    ) -> None:
        """tile_px: frames longer than this are taken in tiles of this side; 0: none, as the authors encode them.

        Unset: frames are whole where they fit into `room_bytes`, of which None is any number. on_card: whether the
        network works on a CUDA device, wherever its weights wait.
        """
        self.vae, self.posterior = vae, posterior
        self.stride = int(2 ** (len(vae.config["block_out_channels"]) - 1))
        self.scaling_factor = float(vae.config["scaling_factor"])
        self._given_px, self._tile_px = tile_px, TILE_PX if tile_px is None else tile_px
        self._room_bytes, self._told = room_bytes, False
        self._copies = CARD_COPIES if on_card else COPIES

    def encode(self, frames: Tensor, seed: int) -> Tensor:
        """Return the latents of frames [N, 3, H, W] in [0, 1]: float32 [N, C, H / stride, W / stride]."""
        generator = torch.Generator().manual_seed(seed)
        latents = []
        for frame in frames.split(1):
            posterior = DiagonalGaussianDistribution(self._moments((frame * 2 - 1).to(self.vae.dtype)).float())
            if self.posterior == "mode":
                latents.append(posterior.mode())
            else:
                noise = torch.randn(posterior.mean.shape, generator=generator).to(frame.device)
                latents.append(posterior.mean + posterior.std * noise)
        return torch.cat(latents) * self.scaling_factor

    def decode(self, latent: Tensor) -> Tensor:
        """Return the frame of one latent [1, C, h, w]: float32 [1, 3, h * stride, w * stride] in [0, 1]."""
        latent = (latent / self.scaling_factor).to(self.vae.dtype)
        height, width = latent.shape[-2:]
        if self._in_tiles(height, width):
            self._tell(height, width)
            frame = self._decode_in_tiles(latent)
        else:
            frame = self.vae.decode(latent, return_dict=False)[0].float()
        return frame.clamp_(-1, 1).mul_(0.5).add_(0.5)

    def decoded_px(self, height: int, width: int) -> int:
        """Return how many pixels one call of the decoder makes for frames of height x width."""
        if not self._in_tiles(height // self.stride, width // self.stride):
            return height * width
        return min(height, width, self._tile_px) ** 2

    def _decode_in_tiles(self, latent: Tensor) -> Tensor:
        height, width = latent.shape[-2:]
        tiles, overlap = self._grid(height, width)
        height_px, width_px = tiles[0].height * self.stride, tiles[0].width * self.stride
        weights = ramp_weights(height_px, width_px, overlap * self.stride, latent.device)
        parts = ((tile, self.vae.decode(tile.crop(latent), return_dict=False)[0]) for tile in tiles)
        return blend(parts, weights, (height, width), self.stride)

    def _moments(self, frame: Tensor) -> Tensor:
        height, width = (side // self.stride for side in frame.shape[-2:])
        if not self._in_tiles(height, width):
            return self._moments_of(frame)
        tiles, overlap = self._grid(height, width)
        weights = ramp_weights(tiles[0].height, tiles[0].width, overlap, frame.device)
        parts = ((tile, self._moments_of(tile.crop(frame, self.stride))) for tile in tiles)
        return blend(parts, weights, (height, width))

    def _moments_of(self, frame: Tensor) -> Tensor:
        moments: Tensor = self.vae.encode(frame, return_dict=False)[0].parameters
        return moments

    def bytes_for(self, pixels: int) -> int:
        """Return the bytes of the decoder's last level, which holds the most, for so many pixels at once."""
        channels = self.vae.config["block_out_channels"]
        return int(self._copies * channels[min(1, len(channels) - 1)] * pixels * self.vae.dtype.itemsize)

    def _in_tiles(self, height: int, width: int) -> bool:
        if self._given_px is not None:
            return 0 < self._given_px < max(height, width) * self.stride
        if self._room_bytes is None or max(height, width) * self.stride <= self._tile_px:
            return False
        return self.bytes_for(height * width * self.stride**2) > self._room_bytes

    def _tell(self, height: int, width: int) -> None:
        """Say once that frames go in tiles where nobody asked for it: their colours differ a little from whole ones'."""
        if self._given_px is None and not self._told:
            pixels = height * width * self.stride**2
            logger.warning(
                "a frame of %d x %d would take %.1f GB in the autoencoder, and goes in tiles of %d pixels; "
                "the authors encode it whole, as --vae-tile off does",
                width * self.stride, height * self.stride, self.bytes_for(pixels) / 1e9, self._tile_px,
            )  # fmt: skip
            self._told = True

    def _grid(self, height: int, width: int) -> tuple[list[Tile], int]:
        side = max(1, self._tile_px // self.stride)
        return grid(height, width, side, side // OVERLAP_SHARE), side // OVERLAP_SHARE
