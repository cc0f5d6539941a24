"""The stages in which DLoRAL is trained: what stands in for its base, then consistency and detail in turn.

The order and the losses of the last two are the paper's (arXiv 2506.15591); `losses_before` and `blend_steps` of a
configuration blend the losses over the switch from one to the other.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.errors import UsageError
from stvsr_cli.models.dloral.published import DETAIL_EXPERT, EXPERTS
from stvsr_cli.models.layers.lora import is_factor
from stvsr_cli.train.config import StageConfig
from stvsr_cli.train.dloral_network import DLoRALNetwork, export, new_network
from stvsr_cli.train.losses import Perceptual, flow_error, log_error
from stvsr_cli.train.motion import warped_change
from stvsr_cli.train.samples import Batch
from stvsr_cli.train.stage import Losses, Stage, begins_with, perceptual_of, train_only
from stvsr_cli.train.starts.flow import level_error, share_level

(CONSISTENCY_EXPERT,) = (expert for expert in EXPERTS if expert != DETAIL_EXPERT)


def flow_losses(network: DLoRALNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Error of one level of the retrieval's flow, which stands for all: in the place of SPyNet's published weights."""
    return {"flow": level_error(network.retrieval.flow, batch.high[:, :: batch.fps_factor].flatten(0, 1))}


def base_losses(network: DLoRALNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Clean latent against the target's, frame by frame: the plain UNet learns to restore in one step."""
    target = batch.high[:, :: batch.fps_factor]
    step = network.restore(network.enlarge(batch.low), paired=False)
    with torch.no_grad():
        wanted = network.encode(target).flatten(0, 1)
    return {"latent": functional.mse_loss(step.clean, wanted), "fidelity": log_error(step.clean - wanted)}


def pair_losses(network: DLoRALNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Frames restored in pairs: pixels, features, change along the motion, and the flow itself where it is known."""
    target = batch.high[:, :: batch.fps_factor]
    step = network.restore(network.enlarge(batch.low))
    output = network.decode(step.clean).unflatten(0, target.shape[:2])
    keys = replace(batch, high=target, fps_factor=1)
    losses = {
        "pixel": functional.mse_loss(output, target),
        "fidelity": log_error((output - target).flatten(0, 1)),
        "warp": warped_change(output, keys, network.config.scale),
        "flow": _flow_error(batch, step.flow),
    }
    if perceptual is not None:
        losses["perceptual"] = perceptual(output.flatten(0, 1), target.flatten(0, 1)).mean()
    return losses


def _flow_error(batch: Batch, flow: Tensor) -> Tensor:
    """Error, in low pixels, of a flow [B, K - 1, 2, h, w] in positions of the latent; zero where the true one is not known."""
    if not batch.flow.shape[1]:
        return 0 * flow.sum()
    return flow_error([flow], batch.flow[:, :, 1])


def is_expert(name: str, expert: str) -> bool:
    """Whether a parameter is a factor of an expert's adapters."""
    return is_factor(name) and name.endswith(f"_{expert}.weight")


FLOW = "retrieval.flow."
STAGES: dict[str, Stage[DLoRALNetwork]] = {
    "flow": Stage(begins_with(FLOW), flow_losses),
    "base": Stage(lambda name: name.startswith("unet.") and not is_factor(name), base_losses),
    "consistency": Stage(
        lambda name: name.startswith("retrieval.") or is_expert(name, CONSISTENCY_EXPERT), pair_losses
    ),
    "detail": Stage(lambda name: is_expert(name, DETAIL_EXPERT), pair_losses),
}
"""The flow is trained only where its loss counts. The last two share their losses, and weigh them differently."""


def build(
    config: StageConfig, perceptual_weights: Path | None
) -> tuple[DLoRALNetwork, Stage[DLoRALNetwork], Perceptual | None]:
    """Return the small network, the stage and the perceptual features a configuration asks for.

    Raises UsageError for an unknown stage or setting.
    """
    if config.stage not in STAGES:
        raise UsageError(f"unknown stage {config.stage!r}.", hint=f"Stages of dloral: {', '.join(STAGES)}.")
    if config.network:
        raise UsageError(f"dloral has no network settings, got {', '.join(config.network)}.")
    network = new_network()
    if config.stage == "flow":
        share_level(network.retrieval.flow)
    stage = STAGES[config.stage]
    # without its own loss the flow would learn anything that lowers the others
    moves = config.stage == "flow" or bool(config.losses.get("flow"))
    train_only(network, lambda name: stage.trains(name) and (moves or not name.startswith(FLOW)))
    return network, replace(stage, export=export), perceptual_of(config, perceptual_weights)
