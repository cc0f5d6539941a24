"""The stages in which OSDEnhancer is trained: one step, temporal expert, spatial expert, deformable decoder.

Their order and losses are the paper's (arXiv 2601.20308), at a small size from scratch, or on a published folder.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import CogVideoXDPMScheduler
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.errors import UsageError
from stvsr_cli.models.contract import Request
from stvsr_cli.models.layers import lora
from stvsr_cli.models.layers.settings import refuse_unknown
from stvsr_cli.models.osdenhancer.adapters import ADAPTER_RANK
from stvsr_cli.models.osdenhancer.decoder import BidirectionalAutoencoder
from stvsr_cli.models.osdenhancer.model import OSDEnhancer
from stvsr_cli.models.osdenhancer.published import (
    load_prompt,
    load_scheduler,
    load_transformer,
    load_vae,
    save_published,
)
from stvsr_cli.models.osdenhancer.transformer import ResidualGatedTransformer
from stvsr_cli.train.config import StageConfig
from stvsr_cli.train.losses import Perceptual, charbonnier, log_error
from stvsr_cli.train.motion import warped_change
from stvsr_cli.train.samples import Batch
from stvsr_cli.train.stage import Losses, Stage, begins_with, perceptual_of, train_only
from stvsr_cli.train.starts.plain import start_as_identity

SPATIAL = "TE_lora"
SPATIAL_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_out")
"""Layers that the spatial expert is on."""
TEMPORAL_PARTS = ("_TC_lora.", ".res_patch.")
"""What the names of the temporal expert and of its gates contain."""

SMALL_TRANSFORMER: dict[str, Any] = {
    "num_attention_heads": 5,
    "attention_head_dim": 32,
    "num_layers": 4,
    "in_channels": 3,
    "out_channels": 3,
    "text_embed_dim": 32,
    "time_embed_dim": 64,
    "max_text_seq_length": 4,
    "patch_size": 8,
    "patch_size_t": 1,
    "patch_bias": False,
    "temporal_compression_ratio": 1,
    "sample_height": 64,
    "sample_width": 64,
    "sample_frames": 9,
    "use_rotary_positional_embeddings": True,
}
SMALL_RANK = 16
"""Rank of both experts."""
SMALL_VAE: dict[str, Any] = {
    "block_out_channels": (16,),
    "down_block_types": ("CogVideoXDownBlock3D",),
    "up_block_types": ("CogVideoXUpBlock3D",),
    "latent_channels": 3,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "temporal_compression_ratio": 1,
    "scaling_factor": 1.0,
}
"""A VAE of one level, whose latent is as large as the frames: the transformer's patches of 8 stand for its stride."""
SMALL_SCHEDULER: dict[str, Any] = {
    "beta_start": 2.5e-5,
    "beta_end": 2.5e-5,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": False,
    "snr_shift_scale": 1.0,
    "timestep_spacing": "trailing",
}
"""Little noise, 0.99 of the signal's power at the one timestep: an untrained prediction of zero hardly changes the input."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSettings:
    base: str = ""
    """Published folder to fine-tune; empty: the small networks, from scratch."""
    spatial_rank: int = SMALL_RANK
    """Rank of the spatial expert that is trained, and merged on export."""
    gradient_checkpointing: bool = False
    """Whether the blocks are computed again in the backward pass instead of kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    scale: int = 4
    """Spatial factor."""
    multiple_px: int = 2
    """Input sides in validation are multiples of this."""


class OSDEnhancerNetwork(nn.Module):
    """The networks of OSDEnhancer with the spatial expert still apart, and the system that they make up."""

    prompt: Tensor
    """[1, L, D]"""

    def __init__(
        self,
        transformer: ResidualGatedTransformer,
        vae: BidirectionalAutoencoder,
        scheduler: CogVideoXDPMScheduler,
        prompt: Tensor,
        spatial_rank: int,
    ) -> None:
        super().__init__()
        self.config = Shape()
        lora.attach(transformer, SPATIAL_TARGETS, spatial_rank, SPATIAL)
        self.transformer, self.vae, self.scheduler = transformer, vae, scheduler
        self.register_buffer("prompt", prompt)
        self.system = OSDEnhancer(transformer, vae, scheduler, prompt, vae_tile_px=0)

    def clean(self, frames: Tensor, fps_factor: int) -> tuple[Tensor, Any]:
        """Return the clean latent [B, T, C, H, W] of frames [B, K, 3, h, w], and the initial video."""
        system, request = self.system, Request(fps_factor=fps_factor)
        system.prompt = self.prompt
        with torch.no_grad():
            init = system.initialise(frames, request)
            latent = system.encode(init, request)
            condition = system.condition(init, latent, request)
        return system.denoise(latent, condition, request), init

    def encode(self, video: Tensor) -> Tensor:
        """Return the latent of a video [B, T, 3, H, W] in [0, 1]; without gradient."""
        with torch.no_grad():
            return self.system._encode(video * 2 - 1, 0)

    def decode(self, latent: Tensor, init: Any) -> Tensor:
        """Return the frames of a latent, [B, T, 3, H, W] in [0, 1]."""
        return self.system.decode(latent, init, Request())

    def forward(self, frames: Tensor, fps_factor: int) -> tuple[Tensor, Any]:
        """Return the output frames and the initial video they were made from."""
        clean, init = self.clean(frames, fps_factor)
        return self.decode(clean, init), init


def one_step_losses(network: OSDEnhancerNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Clean latent against the target's at the input's own rate: nothing moves between, the gates are closed."""
    clean, _ = network.clean(batch.low, 1)
    return {"latent": functional.mse_loss(clean, network.encode(batch.high[:, :: batch.fps_factor]))}


def temporal_losses(network: OSDEnhancerNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Clean latent of the half-rate input against the target's, and its change from frame to frame."""
    clean, _ = network.clean(batch.low, batch.fps_factor)
    target = network.encode(batch.high)
    return {
        "latent": functional.mse_loss(clean, target),
        "residual": functional.mse_loss(clean.diff(dim=1), target.diff(dim=1)),
        "fidelity": log_error(clean - target),
        "change": log_error(clean.diff(dim=1) - target.diff(dim=1)),
    }


def spatial_losses(network: OSDEnhancerNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Output against target in pixels and in features, and its change along the motion."""
    output, _ = network(batch.low, batch.fps_factor)
    return _pixel_losses(network, output, batch, perceptual)


def decoder_losses(network: OSDEnhancerNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """As `spatial_losses`, on what the decoder makes of the fixed clean latent."""
    with torch.no_grad():
        clean, init = network.clean(batch.low, batch.fps_factor)
    return _pixel_losses(network, network.decode(clean, init), batch, perceptual)


def _pixel_losses(network: OSDEnhancerNetwork, output: Tensor, batch: Batch, perceptual: nn.Module | None) -> Losses:
    losses = {
        "pixel": charbonnier(output, batch.high),
        "fidelity": log_error(output - batch.high),
        "warp": warped_change(output, batch, network.config.scale),
        "temporal": charbonnier(output.diff(dim=1), batch.high.diff(dim=1)),
    }
    if perceptual is not None:
        losses["perceptual"] = perceptual(output.flatten(0, 1), batch.high.flatten(0, 1)).mean()
    return losses


def is_temporal(name: str) -> bool:
    """Whether a parameter belongs to the temporal expert or its gates."""
    return any(part in f".{name}" for part in TEMPORAL_PARTS)


def is_spatial(name: str) -> bool:
    """Whether a parameter belongs to the spatial expert."""
    return lora.is_factor(name, SPATIAL)


def _is_base(name: str) -> bool:
    return name.startswith("transformer.") and not is_temporal(name) and not is_spatial(name)


STAGES: dict[str, Stage[OSDEnhancerNetwork]] = {
    "one_step": Stage(_is_base, one_step_losses),
    "tc": Stage(is_temporal, temporal_losses),
    "te": Stage(is_spatial, spatial_losses),
    "decoder": Stage(begins_with("vae.decoder."), decoder_losses),
}


def build(
    config: StageConfig, perceptual_weights: Path | None
) -> tuple[OSDEnhancerNetwork, Stage[OSDEnhancerNetwork], Perceptual | None]:
    """Return the network, the stage and the perceptual features a configuration asks for.

    Raises UsageError for an unknown stage or setting, ModelError for an unfit base.
    """
    if config.stage not in STAGES:
        raise UsageError(f"unknown stage {config.stage!r}.", hint=f"Stages of osdenhancer: {', '.join(STAGES)}.")
    refuse_unknown(config.network, NetworkSettings, "unknown network settings", UsageError)
    settings = NetworkSettings(**config.network)
    network = _published(Path(settings.base), settings) if settings.base else new_network(settings.spatial_rank)
    if settings.gradient_checkpointing:
        network.transformer.enable_gradient_checkpointing()
        network.vae.enable_gradient_checkpointing()
    stage = STAGES[config.stage]
    train_only(network, stage.trains)
    return network, replace(stage, export=export), perceptual_of(config, perceptual_weights)


def new_network(spatial_rank: int = SMALL_RANK) -> OSDEnhancerNetwork:
    """Return the small network, untrained: it gives the initial video back."""
    transformer = ResidualGatedTransformer(adapter_rank=SMALL_RANK, **SMALL_TRANSFORMER)
    nn.init.zeros_(transformer.proj_out.weight)
    nn.init.zeros_(transformer.proj_out.bias)
    vae = BidirectionalAutoencoder(**SMALL_VAE)
    start_as_identity(vae)
    length, width = SMALL_TRANSFORMER["max_text_seq_length"], SMALL_TRANSFORMER["text_embed_dim"]
    prompt = torch.zeros(1, length, width)
    return OSDEnhancerNetwork(transformer, vae, CogVideoXDPMScheduler(**SMALL_SCHEDULER), prompt, spatial_rank)


def _published(folder: Path, settings: NetworkSettings) -> OSDEnhancerNetwork:
    device, dtype = torch.device("cpu"), torch.float32
    transformer = load_transformer(folder / "transformer", device, dtype)
    vae = load_vae(folder / "vae", device, dtype)
    prompt = load_prompt(folder / "prompt_embeddings", transformer.config, device, dtype)
    return OSDEnhancerNetwork(transformer, vae, load_scheduler(folder / "scheduler"), prompt, settings.spatial_rank)


def export(network: OSDEnhancerNetwork, state: dict[str, Tensor], folder: Path) -> None:
    """Write the published folder of a state of the network: the spatial expert merged, its factors beside it."""
    tensors = {n.removeprefix("transformer."): t for n, t in state.items() if n.startswith("transformer.")}
    tensors = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    config = {name: value for name, value in network.transformer.config.items() if not name.startswith("_")}
    rank = next((t.shape[0] for n, t in tensors.items() if n.endswith("to_q_TC_lora.lora_A.weight")), ADAPTER_RANK)
    with torch.device("meta"):
        transformer = ResidualGatedTransformer(**{**config, "adapter_rank": rank})
        vae = BidirectionalAutoencoder(**{n: v for n, v in network.vae.config.items() if not n.startswith("_")})
    transformer.load_state_dict(lora.merge(tensors, {SPATIAL: 1.0}, what=str(folder)), assign=True)
    decoded = {n.removeprefix("vae."): t.detach().cpu() for n, t in state.items() if n.startswith("vae.")}
    vae.load_state_dict(decoded, assign=True)
    save_published(
        folder,
        transformer=transformer,
        vae=vae,
        scheduler=network.scheduler,
        prompt=network.prompt,
        spatial={name: tensor for name, tensor in tensors.items() if is_spatial(name)},
        dtype=torch.float16,
    )
