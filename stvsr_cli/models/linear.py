"""The linear model: bicubic in space, linear blend in time. No network, no weights; an honest baseline."""

import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli.models.contract import Request, Traits
from stvsr_cli.models.layers.insertion import insert_mixtures, mixtures_at

BYTES_PER_OUTPUT_VALUE = 16
"""Float32 output, its clamped copy, and the input of both."""


class LinearModel:
    """The initialisation alone; see `contract.OneStepModel`.

    scale: by how much it enlarges the frames itself, bicubically; 1 leaves that to whoever brings them to the size that
    is asked for (`color.resize`), one by one and with the same bits.
    """

    def __init__(self, device: torch.device, *, scale: int = 1) -> None:
        self.traits = Traits(
            name="linear", scale=scale, window=8, overlap=1, join="discard", tile_overlap_px=8, any_moment=True
        )
        self.device = device

    def initialise(self, frames: Tensor, request: Request) -> Tensor:
        """Blend intermediate frames linearly in time. [B, T, 3, h, w] -> [B, T', 3, h, w]."""
        frames = frames.to(self.device)
        if request.moments is not None:
            return mixtures_at(frames, request.moments)
        return insert_mixtures(frames, request.fps_factor)

    def encode(self, init: Tensor, request: Request) -> Tensor:
        """The video itself."""
        return init

    def condition(self, init: Tensor, latent: Tensor, request: Request) -> None:
        """Nothing."""

    def denoise(self, latent: Tensor, condition: None, request: Request) -> Tensor:
        """The video as it is."""
        return latent

    def decode(self, latent: Tensor, init: Tensor, request: Request) -> Tensor:
        """Enlarge bicubically. [B, T', 3, h, w] -> [B, T', 3, scale * h, scale * w], in [0, 1]."""
        if self.traits.scale == 1:
            return latent
        large = functional.interpolate(
            latent.flatten(0, 1), scale_factor=self.traits.scale, mode="bicubic", align_corners=False
        )
        return large.clamp_(0, 1).unflatten(0, latent.shape[:2])

    def window_bytes(self, num_frames: int, height_px: int, width_px: int, fps_factor: int) -> int:
        """Upper estimate of the bytes one window needs."""
        pixels = ((num_frames - 1) * fps_factor + 1) * height_px * width_px * self.traits.scale**2
        return 3 * pixels * BYTES_PER_OUTPUT_VALUE


def load(device: torch.device) -> LinearModel:
    """The model on a device; it has no weights."""
    return LinearModel(device)
