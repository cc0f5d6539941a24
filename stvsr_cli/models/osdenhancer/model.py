"""OSDEnhancer (arXiv 2601.20308) behind the five verbs: space by four and time by any factor, in one step."""

import logging
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from stvsr_cli.errors import UsageError
from stvsr_cli.models.contract import Request, Traits
from stvsr_cli.models.osdenhancer.decoder import BidirectionalAutoencoder
from stvsr_cli.models.osdenhancer.initial import Initial, Padding, initialise
from stvsr_cli.models.osdenhancer.transformer import ResidualGatedTransformer, rotary_embedding

Posterior = Literal["mode", "sample"]

TIMESTEP = 399
"""The one noise level at which the transformer is asked."""
PADDED_MULTIPLE_PX = 16
"""Output sides are padded to multiples of this: the VAE's stride times the transformer's patch."""

VAE_COPIES, VAE_COPIES_AND_CACHES = 8.8, 11.5
"""Most activations alive at once in the decoder, in copies of a batch of its last level: 8.5 and 11.1 as counted."""
TOKEN_WIDTHS = 20
"""Most activations alive at once in the transformer, in its widths a token: 19 as counted."""
TILE_OVERLAP = 4
"""Tiles of the VAE that a user chooses overlap by their side divided by this."""

TRAITS = Traits(
    name="osdenhancer",
    scale=4,
    multiple_px=1,  # the model pads by itself, as it was trained: by reflection, after the initialisation
    minimum_px=2,
    window=17,  # 17, 33 and 65 output frames at the factors 1, 2 and 4: each 8n + 1, so nothing is padded in time
    overlap=3,
    minimum_window=1,
    # a fade between two generated details shows both: on random weights, shared frames are nearer to the whole clip's
    # without (25.1 code values against 30.3, `tests.benchmark.seams`); one frame of overlap keeps the first copy
    join="discard",
    tile_px=0,
    tile_overlap_px=32,
    denoiser="transformer",
)


logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    residual: Tensor
    """[B, T, C, H, W]: the motion residual's latent."""
    prompt: Tensor
    """[B, L, D]: the fixed prompt's embedding."""


class OSDEnhancer:
    """The published system: linear initialisation, gated transformer, bidirectional deformable VAE decoder."""

    def __init__(
        self,
        transformer: ResidualGatedTransformer,
        vae: BidirectionalAutoencoder,
        scheduler: Any,
        prompt: Tensor,
        *,
        posterior: Posterior = "mode",
        vae_tile_px: int | None = None,
    ) -> None:
        """Wire the parts, which lie on one device. Raises UsageError for an unknown `posterior` or an impossible tile.

        prompt: [1, L, D]. vae_tile_px: frames above this side are encoded and decoded in square tiles of it, in output
        pixels; 0: whole; None: in the VAE's own tiles, as the authors do.
        """
        if posterior not in get_args(Posterior):
            raise UsageError(f"posterior={posterior!r} is unknown.", hint=f"Choose one of {get_args(Posterior)}.")
        self.traits = TRAITS
        self.transformer, self.vae, self.scheduler, self.prompt = transformer, vae, scheduler, prompt
        self.posterior = posterior
        self._multiple_px = max(PADDED_MULTIPLE_PX, self._stride_px * transformer.config["patch_size"])
        self._vae_dtype = next(vae.encoder.parameters()).dtype  # the decoder keeps parts in float32
        vae.enable_slicing()
        self._tile(vae_tile_px)

    def _tile(self, side_px: int | None) -> None:
        multiple = TILE_OVERLAP * self._stride_px
        if side_px is not None and (side_px < 0 or side_px % multiple):
            raise UsageError(f"--vae-tile {side_px} must be a multiple of {multiple} for osdenhancer.")
        if side_px:
            share = 1 / TILE_OVERLAP
            self.vae.enable_tiling(side_px, side_px, share, share)
        elif side_px is None and tiles_fit(self.vae):
            self.vae.enable_tiling()
        else:
            self.vae.disable_tiling()

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The networks; see `contract.PartedModel`."""
        return {"vae": self.vae, "transformer": self.transformer}

    @property
    def _stride_px(self) -> int:
        return int(2 ** (len(self.vae.config["block_out_channels"]) - 1))

    def initialise(self, frames: Tensor, request: Request) -> Initial:
        """Return the blended and enlarged video, and the motion residual. Raises UsageError if detail is not 1."""
        if request.detail != 1:
            raise UsageError(
                f"osdenhancer cannot run at detail={request.detail}.",
                hint="Its detail expert is merged into the published weights; leave --detail at 1.",
            )
        return initialise(frames.float(), fps_factor=request.fps_factor, scale=self.traits.scale)

    def encode(self, init: Initial, request: Request) -> Tensor:
        """Return the initial video's latent, [B, T, C, H, W]."""
        return self._encode((init.video * 2).sub_(1), request.seed)

    def condition(self, init: Initial, latent: Tensor, request: Request) -> Condition:
        """Return the motion residual's latent and the prompt."""
        return Condition(
            residual=self._encode(init.residual, request.seed + 1),
            prompt=self.prompt.to(latent.device).expand(latent.shape[0], -1, -1),
        )

    def denoise(self, latent: Tensor, condition: Condition, request: Request) -> Tensor:
        """Return the clean latent, [B, T, C, H, W], from one velocity prediction."""
        config = self.transformer.config
        num_copies = -latent.shape[1] % (config["patch_size_t"] or 1)
        noisy, residual = (
            torch.cat([part[:, :1].expand(-1, num_copies, -1, -1, -1), part], dim=1)
            for part in (latent, condition.residual)
        )
        num_frames, _, height, width = noisy.shape[1:]
        timestep = torch.full((noisy.shape[0],), TIMESTEP, device=noisy.device, dtype=torch.long)
        rotary = rotary_embedding(config, num_frames, height, width, noisy.device)
        prediction = self.transformer(noisy, residual, condition.prompt, timestep, rotary)
        clean: Tensor = self.scheduler.get_velocity(prediction, noisy, timestep)
        return clean[:, num_copies:]

    def decode(self, latent: Tensor, init: Initial, request: Request) -> Tensor:
        """Return the output frames, [B, T, 3, H, W] in [0, 1]."""
        latent = latent.to(self._vae_dtype).transpose(1, 2) / self.vae.config["scaling_factor"]
        video = self._padding(init.video).remove(self.vae.decode(latent, return_dict=False)[0])
        return video.transpose(1, 2).float().mul(0.5).add_(0.5).clamp_(0, 1)

    def _encode(self, video: Tensor, seed: int) -> Tensor:
        """Return the scaled latent [B, T', C, H', W'] of a video [B, T, 3, H, W], padded for the networks."""
        padded = self._padding(video).add(video.to(self._vae_dtype).transpose(1, 2))
        posterior = self.vae.encode(padded, return_dict=False)[0]
        if self.posterior == "mode":
            latent = posterior.mode()
        else:
            latent = posterior.sample(torch.Generator().manual_seed(seed))
        scaled: Tensor = latent * self.vae.config["scaling_factor"]
        return scaled.to(self.transformer.dtype).transpose(1, 2)

    def _padding(self, video: Tensor) -> Padding:
        num_frames, _, height, width = video.shape[1:]
        return Padding.fit(
            num_frames,
            height,
            width,
            multiple_frames=self.vae.num_sample_frames_batch_size,
            multiple_px=self._multiple_px,
        )

    def window_bytes(self, num_frames: int, height_px: int, width_px: int, fps_factor: int) -> int:
        """Return an estimate of the bytes one window of this input size needs beyond the weights."""
        return max(self.stage_bytes(num_frames, height_px, width_px, fps_factor).values())

    def stage_bytes(self, num_frames: int, height_px: int, width_px: int, fps_factor: int) -> dict[str, int]:
        """Return the bytes in use while each part runs; see `contract.PartedModel`."""
        frames = (num_frames - 1) * fps_factor + 1
        frames += -(frames - 1) % int(self.vae.num_sample_frames_batch_size)
        height, width = (
            math.ceil(side * self.traits.scale / self._multiple_px) * self._multiple_px
            for side in (height_px, width_px)
        )
        values, size = 3 * frames * height * width, self._vae_dtype.itemsize
        held = 2 * 4 * values  # the initial video and the residual
        decoder = self._vae_bytes(frames, height, width)
        decoding = 2 * values * size + decoder  # what is decoded so far, and its tiles
        encoding = values * (4 + 2 * size) + decoder // 2  # the scaled video, padded; the encoder needs half
        return {
            "frames": held + 4 * values,
            "vae": held + max(decoding, encoding, values * (4 + 2 * size)),
            "transformer": held + self._transformer_bytes(frames, height, width),
        }

    def _transformer_bytes(self, frames: int, height: int, width: int) -> int:
        """Return the bytes of a block's activations, most of them its feed-forward network's."""
        config = self.transformer.config
        latent_frames = math.ceil((frames - 1) / config["temporal_compression_ratio"]) + 1
        patch_px = self._stride_px * config["patch_size"]
        tokens = math.ceil(latent_frames / (config["patch_size_t"] or 1)) * (height // patch_px) * (width // patch_px)
        tokens += self.prompt.shape[1]
        dim = config["num_attention_heads"] * config["attention_head_dim"]
        return int(TOKEN_WIDTHS * tokens * dim * self.transformer.dtype.itemsize)

    def _vae_bytes(self, frames: int, height: int, width: int) -> int:
        """Return the bytes of the decoder's last level, which holds the most, in copies of a batch of its frames.

        From the second batch on, the convolutions' caches of the one before add to them. Counted over live tensors.
        """
        if self.vae.use_tiling:
            height, width = min(height, self.vae.tile_sample_min_height), min(width, self.vae.tile_sample_min_width)
        channels = self.vae.decoder.up_blocks[-1].resnets[0].in_channels
        frames_per_batch = self.vae.num_sample_frames_batch_size + 1
        copies = VAE_COPIES if frames <= frames_per_batch else VAE_COPIES_AND_CACHES
        return int(copies * channels * frames_per_batch * height * width * self._vae_dtype.itemsize)


def tiles_fit(vae: BidirectionalAutoencoder) -> bool:
    """Return whether the VAE's own tiling gives frames of the right size; if not, say so in a warning.

    It steps in latent positions and joins in pixels, which agree for the published tile of 240 x 360 but not for any.
    """
    stride_px = vae.tile_sample_min_height // max(1, vae.tile_latent_min_height)
    for side, latent_side, factor in (
        (vae.tile_sample_min_height, vae.tile_latent_min_height, vae.tile_overlap_factor_height),
        (vae.tile_sample_min_width, vae.tile_latent_min_width, vae.tile_overlap_factor_width),
    ):
        step = int(latent_side * (1 - factor))
        if step < 1 or step != latent_side - int(latent_side * factor) or step * stride_px != side - int(side * factor):
            logger.warning("The VAE's tile side of %d px cannot be joined without a gap: it runs untiled.", side)
            return False
    return True
