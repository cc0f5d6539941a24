"""The stages in which DiffST is trained: from scratch at a small size, or on Wan2.1."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.errors import UsageError
from stvsr_cli.models.diffst.adapters import is_factor
from stvsr_cli.models.diffst.config import FULL, SMALL, Finetune
from stvsr_cli.models.diffst.folder import read_base, write_folder
from stvsr_cli.models.diffst.network import DiffSTNetwork, new_network
from stvsr_cli.models.layers.settings import refuse_unknown
from stvsr_cli.train.config import StageConfig
from stvsr_cli.train.losses import Perceptual, charbonnier
from stvsr_cli.train.motion import motion_losses
from stvsr_cli.train.samples import Batch
from stvsr_cli.train.stage import Losses, Stage, begins_with, perceptual_of, train_only
from stvsr_cli.train.starts.block import fits_block_transform, start_as_block_transform

TILE_PX = 256
"""Smallest side of the autoencoder's tiles in validation; training crops are never cut."""
STATISTICS_RATE = 0.03
"""Share of a batch in the running mean and deviation of the latents."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSettings:
    base: str = ""
    """Folder of Wan2.1 in diffusers' layout to fine-tune; empty: the small network, from scratch."""
    finetune: Finetune = "full"
    """Whether the whole transformer is trained, or adapters on it."""
    lora_rank: int = 64
    """Rank of the adapters."""
    aggregation: bool = True
    """Whether intermediate frames come from context aggregation; if not, they are a linear blend."""
    train_aggregation: bool = True
    """Whether the stage `one_step` trains flow and context aggregation further; if not, they stay as they are."""
    guidance: bool = True
    """Whether the transformer is guided by the whole video; if not, by one empty token."""
    gradient_checkpointing: bool = False
    """Whether the transformer's blocks are computed again in the backward pass instead of kept."""


def vae_losses(network: DiffSTNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Reconstruction of the target through the autoencoder, and its divergence from a normal latent."""
    posterior = network.posterior(batch.high)
    _track_statistics(network, posterior.mean)
    output = network.decode(network.normalise(posterior.mean), batch.high.shape[1])
    losses = {
        "pixel": charbonnier(output, batch.high),
        "divergence": 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean(),
    }
    return losses | _perceptual(perceptual, output, batch.high)


def flow_losses(network: DiffSTNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Flow against the given flow, and intermediate frames against the reduced target, on the input's grid."""
    return motion_losses(network.flow, network.aggregation, batch, network.config.scale)


def latent_losses(network: DiffSTNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Clean latent against the target's; nothing is decoded, and the frozen encoder needs no backward pass."""
    return _latent_losses(network, batch)[0]


def one_step_losses(network: DiffSTNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """All losses of the paper: in the latent, on pixels, on features and on the change from frame to frame."""
    losses, clean = _latent_losses(network, batch)
    output = network.decode(clean, batch.high.shape[1])
    losses["pixel"] = charbonnier(output, batch.high)
    losses["temporal"] = charbonnier(output[:, 1:] - output[:, :-1], batch.high[:, 1:] - batch.high[:, :-1])
    return losses | _perceptual(perceptual, output, batch.high)


def _latent_losses(network: DiffSTNetwork, batch: Batch) -> tuple[Losses, Tensor]:
    init = network.initialise(batch.low, batch.fps_factor)
    seen = batch.low if batch.whole is None else batch.whole
    clean = network.denoise(network.encode(network.enlarge(init)), network.guide(seen))
    with torch.no_grad():
        target = network.encode(batch.high)
    reduced = functional.avg_pool2d(batch.high.flatten(0, 1), network.config.scale)
    losses = {
        "latent": functional.mse_loss(clean, target),
        "between": charbonnier(init.flatten(0, 1), reduced),
    }
    return losses, clean


def _perceptual(perceptual: nn.Module | None, output: Tensor, target: Tensor) -> Losses:
    if perceptual is None:
        return {}
    return {"perceptual": perceptual(output.flatten(0, 1), target.flatten(0, 1)).mean()}


@torch.no_grad()
def _track_statistics(network: DiffSTNetwork, latent: Tensor) -> None:
    """Move the mean and deviation that normalise the latents towards those of a batch, [B, C, T, H, W]."""
    deviation, mean = torch.std_mean(latent.float(), dim=(0, 2, 3, 4))
    network.latents_mean = network.latents_mean.lerp(mean, STATISTICS_RATE)
    network.latents_std = network.latents_std.lerp(deviation.clamp_min(1e-3), STATISTICS_RATE)


STAGES: dict[str, Stage[DiffSTNetwork]] = {
    "vae": Stage(begins_with("vae."), vae_losses),
    "flow": Stage(begins_with("flow.", "aggregation."), flow_losses),
    "latent": Stage(begins_with("guidance.", "transformer."), latent_losses),
    "one_step": Stage(begins_with("flow.", "aggregation.", "guidance.", "transformer."), one_step_losses),
}


def build(
    config: StageConfig, perceptual_weights: Path | None
) -> tuple[DiffSTNetwork, Stage[DiffSTNetwork], Perceptual | None]:
    """Return the network, the stage and the perceptual features a configuration asks for.

    Raises UsageError for an unknown stage or setting, ModelError for an unfit base.
    """
    if config.stage not in STAGES:
        raise UsageError(f"unknown stage {config.stage!r}.", hint=f"Stages of diffst: {', '.join(STAGES)}.")
    settings = _settings(config)
    if settings.base and config.stage == "vae":
        raise UsageError("the autoencoder of a base stays as it is.", hint="Begin with the stage flow.")
    network = _network(settings, config.crop_px)
    stage = STAGES[config.stage]
    moves = settings.aggregation and (settings.train_aggregation or config.stage == "flow")

    def trains(name: str) -> bool:
        if name.startswith(("flow.", "aggregation.")) and not moves:
            return False
        if name.startswith("guidance.") and not settings.guidance:
            return False
        if name.startswith("transformer.") and settings.finetune == "lora" and not is_factor(name):
            return False
        return stage.trains(name)

    train_only(network, trains)
    return network, replace(stage, export=export), perceptual_of(config, perceptual_weights)


def _settings(config: StageConfig) -> NetworkSettings:
    refuse_unknown(config.network, NetworkSettings, "unknown network settings", UsageError)
    return NetworkSettings(**config.network)


def _network(settings: NetworkSettings, crop_px: int) -> DiffSTNetwork:
    size = FULL if settings.base else SMALL
    own = replace(
        size.own,
        finetune=settings.finetune,
        lora_rank=settings.lora_rank,
        aggregation=settings.aggregation,
        guidance=settings.guidance,
    )
    network = read_base(Path(settings.base), own) if settings.base else new_network(replace(size, own=own))
    if not settings.base and fits_block_transform(network.vae):
        start_as_block_transform(network.vae)
    network.tile(max(TILE_PX, crop_px))
    if settings.gradient_checkpointing:
        network.transformer.enable_gradient_checkpointing()
    return network


def export(network: DiffSTNetwork, state: dict[str, Tensor], folder: Path) -> None:
    """Write a folder that `models.diffst.load` reads, with its base."""
    write_folder(network, folder, state=state, dtype=torch.float16)
