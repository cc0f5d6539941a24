"""The stages in which the compact network is trained."""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from stvsr_cli.errors import UsageError
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.expert import DetailedNetwork
from stvsr_cli.models.compact.network import CompactNetwork
from stvsr_cli.train.config import StageConfig
from stvsr_cli.train.losses import Perceptual, charbonnier
from stvsr_cli.train.motion import motion_losses
from stvsr_cli.train.samples import Batch
from stvsr_cli.train.stage import Losses, Stage, freeze_but, perceptual_of


def flow_losses(network: CompactNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Flow against the given flow, and intermediate frames against the reduced target, on the input's grid."""
    return motion_losses(network.flow, network.aggregation, batch, network.config.scale)


def one_step_losses(network: CompactNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Output against target, intermediate frames before the diffusion step against the reduced target."""
    output, init = network(batch.low, batch.fps_factor)
    losses = {"pixel": charbonnier(output, batch.high)}
    target = functional.avg_pool2d(batch.high.flatten(0, 1), network.config.scale)
    losses["between"] = charbonnier(init.frames.flatten(0, 1), target)
    losses["temporal"] = charbonnier(output[:, 1:] - output[:, :-1], batch.high[:, 1:] - batch.high[:, :-1])
    if perceptual is not None:
        losses["perceptual"] = perceptual(output.flatten(0, 1), batch.high.flatten(0, 1)).mean()
    return losses


def detail_losses(network: CompactNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Output against target, in pixels and in features; the intermediate frames are not the expert's business."""
    losses = one_step_losses(network, batch, perceptual)
    del losses["between"]
    return losses


STAGES: dict[str, Stage[CompactNetwork]] = {
    "flow": Stage(("flow.", "aggregation."), flow_losses),
    "one_step": Stage(("aggregation.", "encoder.", "denoiser.", "decoder."), one_step_losses),
    "detail": Stage(("expert.",), detail_losses),
}


def build(
    config: StageConfig, perceptual_weights: Path | None
) -> tuple[CompactNetwork, Stage[CompactNetwork], Perceptual | None]:
    """Return the network, the stage and the perceptual features a configuration asks for."""
    if config.stage not in STAGES:
        raise UsageError(f"unknown stage {config.stage!r}.", hint=f"Stages of compact: {', '.join(STAGES)}.")
    if config.network:
        raise UsageError(f"compact has no network settings, got {', '.join(config.network)}.")
    stage = STAGES[config.stage]
    network = (DetailedNetwork if config.stage == "detail" else CompactNetwork)(CompactConfig())
    freeze_but(network, stage.parts)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network, stage, perceptual_of(config, perceptual_weights)
