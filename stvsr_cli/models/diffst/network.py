"""The DiffST network: context aggregation, video guidance, and Wan's autoencoder and transformer."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.models.diffst.adapters import attach
from stvsr_cli.models.diffst.config import DiffSTConfig, Size
from stvsr_cli.models.diffst.guidance import VideoGuidance
from stvsr_cli.models.layers.aggregation import ContextAggregation
from stvsr_cli.models.layers.flow import FlowNetwork
from stvsr_cli.models.layers.insertion import insert_mixtures, interleave

FRAMES_PER_CHUNK = 4
"""Frames that the autoencoder reads at a time after the first one, whatever its stride in time."""


class DiffSTNetwork(nn.Module):
    """All parts of DiffST with their parameters. Frames are [B, T, 3, h, w] in [0, 1], latents [B, T, C, H, W]."""

    latents_mean: Tensor
    """[C]: mean of the latents, which are normalised by it."""
    latents_std: Tensor
    """[C]: standard deviation of the latents."""

    def __init__(
        self, config: DiffSTConfig, transformer: WanTransformer3DModel, vae: AutoencoderKLWan, *, adapted: bool = False
    ) -> None:
        """Wire the parts. adapted: whether to put trainable adapters on the transformer.

        Raises ModelError if the transformer and the autoencoder do not fit each other or the input's multiple.
        """
        super().__init__()
        _check_fit(config, transformer.config, vae.config)
        self.config = config
        self.use_aggregation, self.use_guidance = config.aggregation, config.guidance
        width = transformer.config["num_attention_heads"] * transformer.config["attention_head_dim"]
        self.width = width
        self.flow = FlowNetwork(config.flow_widths, config.flow_radius)
        self.aggregation = ContextAggregation(config.aggregation_width, sampling=config.aggregation_sampling)
        self.guidance = VideoGuidance(config, width)
        self.transformer = transformer
        self.vae = vae
        if adapted:
            attach(transformer, config.lora_rank)
        device = next(vae.parameters()).device
        self.register_buffer("latents_mean", torch.tensor(vae.config["latents_mean"], device=device))
        self.register_buffer("latents_std", torch.tensor(vae.config["latents_std"], device=device))

    def initialise(self, frames: Tensor, fps_factor: int) -> Tensor:
        """Return the initial video on the input's grid, [B, (T-1)F + 1, 3, h, w]: keyframes and frames between them.

        Sides of `frames` are multiples of `config.multiple_px`.
        """
        if frames.shape[1] == 1 or fps_factor == 1:
            return frames
        if not self.use_aggregation:
            return insert_mixtures(frames, fps_factor)
        forward, backward = (levels[-1] for levels in self.flow(frames))
        times = [step / fps_factor for step in range(1, fps_factor)]
        return interleave(frames, [self.aggregation(frames, forward, backward, time)[0] for time in times])

    def enlarge(self, frames: Tensor) -> Tensor:
        """Return frames at the output's size, by bicubic interpolation, in [0, 1]: [B, T, 3, scale * h, scale * w]."""
        large = functional.interpolate(
            frames.flatten(0, 1), scale_factor=self.config.scale, mode="bicubic", align_corners=False
        )
        return large.clamp(0, 1).unflatten(0, frames.shape[:2])

    def encode(self, video: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the normalised latent of a video, [B, T', C, H', W'], float32.

        video: [B, T, 3, H, W] in [0, 1]; its last frame is repeated until the autoencoder can read the count.
        noise: [C, T', H', W'], from which the posterior is sampled; None: its mode.
        """
        posterior = self.posterior(video)
        return self.normalise(
            posterior.mean if noise is None else posterior.mean + posterior.std * noise.to(posterior.mean)
        )

    def posterior(self, video: Tensor) -> DiagonalGaussianDistribution:
        """Return the autoencoder's posterior of a video [B, T, 3, H, W] in [0, 1]; its moments are [B, C, T', H', W']."""
        return self.vae.encode(self._padded(video).to(self._vae_dtype), return_dict=False)[0]

    def normalise(self, latent: Tensor) -> Tensor:
        """Return the normalised latent, [B, T', C, H', W'], float32, of the autoencoder's [B, C, T', H', W']."""
        mean, std = (self._channels(values.to(latent.device)) for values in (self.latents_mean, self.latents_std))
        normalised = (latent.float() - mean) / std
        return normalised.transpose(1, 2)

    def guide(self, video: Tensor) -> Tensor:
        """Return the tokens that every block attends to, [B, K, width], from the whole low-quality video."""
        if not self.use_guidance:
            return video.new_zeros(video.shape[0], 1, self.width)
        tokens: Tensor = self.guidance(video)
        return tokens

    def denoise(self, latent: Tensor, tokens: Tensor) -> Tensor:
        """Return the clean latent from one evaluation at the one timestep: z - sigma * v (flow matching).

        latent: [B, T', C, H', W'], taken for the noisy latent; tokens: [B, K, width].
        """
        dtype = self.transformer.patch_embedding.weight.dtype
        timestep = torch.full((latent.shape[0],), self.config.timestep, device=latent.device)
        velocity = self.transformer(
            hidden_states=latent.transpose(1, 2).to(dtype),
            timestep=timestep,
            encoder_hidden_states=tokens.to(dtype),
            return_dict=False,
        )[0]
        return latent - self.config.sigma * velocity.transpose(1, 2).float()

    def decode(self, latent: Tensor, num_frames: int) -> Tensor:
        """Return the first `num_frames` frames of a normalised latent, [B, num_frames, 3, H, W], float32 in [0, 1]."""
        mean, std = (self._channels(values.to(latent.device)) for values in (self.latents_mean, self.latents_std))
        scaled = latent.transpose(1, 2) * std + mean
        video = self.vae.decode(scaled.to(self._vae_dtype), return_dict=False)[0]
        frames: Tensor = video[:, :, :num_frames].transpose(1, 2).float() * 0.5 + 0.5
        return frames

    def tile(self, side_px: int) -> None:
        """Let the autoencoder handle frames above this side in blended tiles; 0: whole. Raises UsageError if it cannot."""
        if side_px == 0:
            self.vae.disable_tiling()
            return
        if side_px < 0 or side_px % (4 * self.stride_px):
            raise UsageError(f"the autoencoder's tile of {side_px} px must be a multiple of {4 * self.stride_px}.")
        stride = side_px * 3 // 4
        self.vae.enable_tiling(side_px, side_px, stride, stride)

    def forward(self, frames: Tensor, fps_factor: int) -> tuple[Tensor, Tensor]:
        """Return the output frames and the initial video they were made from."""
        init = self.initialise(frames, fps_factor)
        clean = self.denoise(self.encode(self.enlarge(init)), self.guide(frames))
        return self.decode(clean, init.shape[1]), init

    def _padded(self, video: Tensor) -> Tensor:
        """[B, T, 3, H, W] in [0, 1] -> [B, 3, T', H, W] in [-1, 1], as the autoencoder takes it."""
        missing = -(video.shape[1] - 1) % FRAMES_PER_CHUNK
        if missing:
            video = torch.cat([video, video[:, -1:].expand(-1, missing, -1, -1, -1)], 1)
        return (video * 2 - 1).transpose(1, 2)

    @staticmethod
    def _channels(values: Tensor) -> Tensor:
        return values.float().view(1, -1, 1, 1, 1)

    @property
    def _vae_dtype(self) -> torch.dtype:
        return self.vae.quant_conv.weight.dtype

    @property
    def stride_px(self) -> int:
        """Output pixels per latent position."""
        return vae_stride_px(self.vae.config)


def vae_stride_px(config: Mapping[str, Any]) -> int:
    """Pixels per latent position of an autoencoder with these settings."""
    return int(2 ** (len(config["dim_mult"]) - 1) * (config["patch_size"] or 1))


def _check_fit(config: DiffSTConfig, transformer: Mapping[str, Any], vae: Mapping[str, Any]) -> None:
    patch_frames, patch_height, patch_width = transformer["patch_size"]
    if patch_frames != 1 or patch_height != patch_width:
        raise ModelError(f"patch_size={transformer['patch_size']} of the transformer must be (1, p, p).")
    if transformer["in_channels"] != vae["z_dim"] or transformer["out_channels"] != vae["z_dim"]:
        raise ModelError(
            f"the transformer takes {transformer['in_channels']} channels and gives {transformer['out_channels']}, "
            f"the autoencoder's latent has {vae['z_dim']}."
        )
    if len(vae["latents_mean"]) != vae["z_dim"] or len(vae["latents_std"]) != vae["z_dim"]:
        raise ModelError(f"latents_mean and latents_std of the autoencoder need {vae['z_dim']} values each.")
    if config.multiple_px * config.scale % (vae_stride_px(vae) * patch_height):
        raise ModelError(
            f"{config.multiple_px} input pixels are not a whole number of patches of the transformer: "
            f"{vae_stride_px(vae)} pixels a latent position, {patch_height} positions a patch."
        )


def plain_transformer(settings: Mapping[str, Any]) -> WanTransformer3DModel:
    """Return Wan's transformer without its text embedder: guidance tokens have the blocks' own width."""
    transformer = WanTransformer3DModel(**settings)
    transformer.condition_embedder.text_embedder = nn.Identity()
    return transformer


def fill_positions(transformer: WanTransformer3DModel, device: torch.device) -> None:
    """Compute the rotary frequencies, which no file holds."""
    settings = transformer.config
    transformer.rope = WanRotaryPosEmbed(
        settings["attention_head_dim"], settings["patch_size"], settings["rope_max_seq_len"]
    ).to(device)


def new_network(size: Size) -> DiffSTNetwork:
    """Return an untrained network; its transformer starts by predicting no velocity."""
    transformer = plain_transformer(size.transformer)
    nn.init.zeros_(transformer.proj_out.weight)
    nn.init.zeros_(transformer.proj_out.bias)
    return DiffSTNetwork(size.own, transformer, AutoencoderKLWan(**size.vae), adapted=size.own.finetune == "lora")
