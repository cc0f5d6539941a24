"""The stages in which the compact network is trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.errors import UsageError
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.expert import DetailedNetwork, RestoringNetwork
from stvsr_cli.models.compact.model import write_folder
from stvsr_cli.models.compact.network import CompactNetwork
from stvsr_cli.models.compact.target import TargetedNetwork
from stvsr_cli.train.config import StageConfig
from stvsr_cli.train.critic import FRAMES, Critic, critic_losses
from stvsr_cli.train.losses import (
    Perceptual,
    charbonnier,
    chroma,
    evenness_error,
    grid_error,
    log_error,
    mesh_error,
    off_grid,
)
from stvsr_cli.train.motion import motion_losses
from stvsr_cli.train.motion_teacher import load_motion_teacher
from stvsr_cli.train.samples import Batch
from stvsr_cli.train.stage import Losses, Stage, begins_with, perceptual_of, train_only
from stvsr_cli.train.teacher import load_teacher


def autoencoder_losses(network: TargetedNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Reconstruction of the target through its latent, and the latent's distance from zero mean, unit deviation."""
    latent = network.target.encode(batch.high.flatten(0, 1))
    output = network.target.decode(latent).unflatten(0, batch.high.shape[:2])
    deviation, mean = torch.std_mean(latent.float(), dim=(0, 2, 3))
    losses = {
        "pixel": charbonnier(output, batch.high),
        "spread": mean.square().mean() + (deviation - 1).square().mean(),
    }
    return losses | _perceptual(perceptual, output, batch.high)


def diffusion_losses(network: TargetedNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Velocity on noised latents of the target, at a random timestep a clip."""
    if network.denoiser is None:
        raise UsageError("the diffusion stage trains the denoiser, which uses_denoiser leaves out.")
    with torch.no_grad():
        init = network.initialise(batch.low, batch.fps_factor)
    timestep = torch.randint(network.config.num_timesteps, batch.low.shape[:1], device=batch.low.device)
    video = batch.low if batch.whole is None else batch.whole
    return {"velocity": network.velocity_error(batch.high, init, video, timestep)}


def flow_losses(network: CompactNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Flow against the given flow, and intermediate frames against the reduced target, on the input's grid."""
    if network.aggregation is None:
        raise UsageError("the flow stage trains the context aggregation, which uses_aggregation leaves out.")
    return motion_losses(network.flow, network.aggregation, batch, network.config.scale)


def one_step_losses(network: CompactNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Output against target, intermediate frames before the diffusion step against the reduced target.

    With the target autoencoder, the clean latent against the target's too.
    """
    if isinstance(network, TargetedNetwork):
        video = batch.low if batch.whole is None else batch.whole
        init = network.initialise(batch.low, batch.fps_factor)
        clean = network.denoise(network.encode(init), network.condition(init, video))
        output = network.decode(clean, init)
        with torch.no_grad():
            wanted = network.target.encode(batch.high.flatten(0, 1))
        losses = {"latent": functional.mse_loss(clean.sample.float(), wanted.float())}
    else:
        output, init = network(batch.low, batch.fps_factor, batch.whole)
        losses = {}
    losses |= _fidelity(output, batch.high)
    target = functional.avg_pool2d(batch.high.flatten(0, 1), network.config.scale)
    losses["between"] = charbonnier(init.frames.flatten(0, 1), target)
    return losses | _over_time(output, batch.high) | _perceptual(perceptual, output, batch.high)


def decoder_losses(network: CompactNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """Output against target: in pixels, evenly over an input pixel, on the output's grid, over time and in features."""
    output, _ = network(batch.low, batch.fps_factor, batch.whole)
    losses = _fidelity(output, batch.high) | _over_time(output, batch.high)
    frames, target = output.flatten(0, 1), batch.high.flatten(0, 1)
    losses["even"] = evenness_error(output, batch.high)
    losses["mesh"] = mesh_error(output, network.config.scale)
    losses["grid"] = grid_error(frames, target)
    seen = _three(batch)
    losses |= _criticised(network, output[:, seen], batch, seen)
    return losses | _perceptual(perceptual, output, batch.high)


def pixels_losses(network: DetailedNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """The end of the decoder, which makes each frame by itself, without the detail expert (`plain_`) and with it.

    What comes before is computed once for each, without a gradient; where only the expert is trained (`trains`), the
    first is left out. Where a teacher has seen the middle keyframe, the expert also learns from its picture.
    """
    video, high, losses = batch.low if batch.whole is None else batch.whole, batch.high, {}
    with torch.no_grad():
        init = network.initialise(batch.low, batch.fps_factor)
        carried = network.with_expert(lambda whole: whole.carried(init, video))
    frames = init.frames.flatten(0, 1)
    if network.decoder.leave.weight.requires_grad:
        with torch.no_grad():
            plain = network.carried(init, video)
        output = network.decoder.pixels(frames, plain).unflatten(0, high.shape[:2])
        losses = {"plain_fidelity": log_error(output - high), "plain_even": evenness_error(output, high)}
    output = network.with_expert(lambda whole: whole.decoder.pixels(frames, carried)).unflatten(0, high.shape[:2])
    losses |= _detail_losses(network, output, batch, output[:, batch.taught_frame], perceptual)
    seen = _three(batch)
    return losses | _criticised(network, output[:, seen], batch, seen)


def joint_losses(network: DetailedNetwork, batch: Batch, perceptual: nn.Module | None) -> Losses:
    """All that comes after the initialised video, without the detail expert (`plain_`) and with it, on three frames.

    Where only the expert is trained (`trains`), the first is left out.

    The features of the whole window are made, of which the end of the decoder makes three frames that follow each
    other, the teacher's among them if there is one. The expert's losses move the expert alone.
    """
    video = batch.low if batch.whole is None else batch.whole
    with torch.no_grad():
        init = network.initialise(batch.low, batch.fps_factor)
    seen = _three(batch)
    part = replace(batch, high=batch.high[:, seen])
    frames = init.frames[:, seen].flatten(0, 1)

    def decoded(whole: DetailedNetwork) -> Tensor:
        carried = whole.carried(init, video).unflatten(0, init.frames.shape[:2])
        return whole.decoder.pixels(frames, carried[:, seen].flatten(0, 1)).unflatten(0, part.high.shape[:2])

    losses: Losses = {}
    if network.decoder.leave.weight.requires_grad:
        plain = decoded(network)
        losses = {
            "plain_fidelity": log_error(plain - part.high),
            "plain_temporal": _over_time(plain, part.high)["temporal"],
            "plain_even": evenness_error(plain, part.high),
        }
    output = network.with_expert(decoded)
    taught = output[:, batch.taught_frame - seen.start]
    return (
        losses | _detail_losses(network, output, part, taught, perceptual) | _criticised(network, output, batch, seen)
    )


def _three(batch: Batch) -> slice:
    """Draw three full-size frames that follow each other; the teacher's is among them if there is one."""
    last = batch.high.shape[1] - FRAMES
    if batch.taught is None:
        first = int(torch.randint(last + 1, ()))
    else:
        first = min(max(batch.taught_frame - int(torch.randint(FRAMES, ())), 0), last)
    return slice(first, first + FRAMES)


def _detail_losses(
    network: DetailedNetwork, output: Tensor, batch: Batch, seen: Tensor, perceptual: nn.Module | None
) -> Losses:
    """What the detail expert's output is held against: the truth, evenness, features, the teacher.

    output: as many frames as the batch's `high` has; seen: [B, 3, H, W], the frame that the teacher's is held against.
    """
    high = batch.high
    losses = _fidelity(output, high) | _over_time(output, high) | _perceptual(perceptual, output, high)
    losses["even"] = evenness_error(output, high)
    losses["mesh"] = mesh_error(output, network.config.scale)
    losses["grid"] = grid_error(output.flatten(0, 1), high.flatten(0, 1))
    if batch.taught is not None:
        seen = seen[: len(batch.taught)]
        losses["taught"] = charbonnier(seen, batch.taught)
        losses["taught_chroma"] = charbonnier(chroma(seen), chroma(batch.taught))
        if perceptual is not None:
            losses["taught_perceptual"] = perceptual(*off_grid(seen, batch.taught)).mean()
    return losses


def _criticised(network: CompactNetwork, made: Tensor, batch: Batch, seen: slice) -> Losses:
    """The critic's losses, if there is one, on three frames `made`, which are the batch's `seen`, at a random place."""
    critic = getattr(network, "critic", None)
    if critic is None:
        return {}
    keyframe = batch.low[:, (seen.start + FRAMES // 2) // batch.fps_factor]  # of the middle frame, or before it
    given = functional.interpolate(keyframe, scale_factor=float(network.config.scale), mode="bilinear")
    real = batch.high[:, seen].flatten(1, 2)
    made, both = off_grid(made.flatten(1, 2), torch.cat([real, given], 1))
    made, real = (x.unflatten(1, (FRAMES, 3)) for x in (made, both[:, : 3 * FRAMES]))
    worth = None if batch.strengths is None else batch.strengths.amax(1).clamp_min(LEAST_WORTH)
    return critic_losses(critic, made, real, both[:, 3 * FRAMES :], worth)


def _fidelity(output: Tensor, target: Tensor) -> Losses:
    difference = output - target
    return {
        "pixel": charbonnier(output, target),
        "fidelity": log_error(difference),
        "chroma": log_error(chroma(difference)),
    }


def _over_time(output: Tensor, target: Tensor) -> Losses:
    return {"temporal": charbonnier(output[:, 1:] - output[:, :-1], target[:, 1:] - target[:, :-1])}


def _perceptual(perceptual: nn.Module | None, output: Tensor, target: Tensor) -> Losses:
    if perceptual is None:
        return {}
    return {"perceptual": perceptual(*off_grid(output.flatten(0, 1), target.flatten(0, 1))).mean()}


LEAST_WORTH = 0.3
"""What the critic's word counts where the input was not degraded: what can be seen there need not be invented."""
TARGET, CRITIC = "target.", "critic."
"""What only training needs: it is not published."""
ADDED = (
    "denoiser.motion.", "denoiser.retrieval.", "denoiser.guides.", "denoiser.temporal.", "guidance.", "decoder.backward_pass.alignment.",
    "decoder.forward_pass.alignment.", "decoder.look.", "decoder.refine.", "decoder.head.", "expert.", "restorer.",
    TARGET, CRITIC,
)  # fmt: skip
"""Modules that start by changing nothing, or that only training needs: weights without them can be gone on from."""

STAGES: dict[str, Stage[Any]] = {
    "autoencoder": Stage(begins_with(TARGET), autoencoder_losses, ADDED),
    "flow": Stage(begins_with("flow.", "aggregation."), flow_losses, ADDED),
    "diffusion": Stage(begins_with("denoiser.", "guidance."), diffusion_losses, ADDED, {"velocity": TARGET}),
    "one_step": Stage(
        begins_with("aggregation.", "encoder.", "denoiser.", "decoder.", "guidance."),
        one_step_losses,
        ADDED,
        {"latent": TARGET},
    ),
    "decoder": Stage(begins_with("decoder."), decoder_losses, ADDED),
    "temporal": Stage(begins_with("denoiser.temporal."), decoder_losses, ADDED),
    "detail": Stage(begins_with("expert.", CRITIC), decoder_losses, ADDED),
    "pixels": Stage(begins_with("decoder.", "expert.", CRITIC), pixels_losses, ADDED, teacher=load_teacher),
    "joint": Stage(
        begins_with("encoder.", "denoiser.", "decoder.", "expert.", CRITIC),
        joint_losses,
        ADDED,
        teacher=load_teacher,
    ),
    "restore": Stage(begins_with("restorer.", CRITIC), joint_losses, ADDED, teacher=load_teacher),
    "motion": Stage(begins_with("flow.", "aggregation."), flow_losses, ADDED, teacher=load_motion_teacher),
}
"""In the order of training; the temporal and the detail expert may take turns. What comes before the last leaves out what that adds."""


def _network(config: StageConfig, settings: CompactConfig) -> CompactNetwork:
    weighed = {name for name, weight in config.losses.items() if weight}
    if config.stage in ("autoencoder", "diffusion") or "latent" in weighed:
        return TargetedNetwork(settings)
    if config.stage not in ("detail", "pixels", "joint", "restore", "motion"):
        return CompactNetwork(settings)
    network = (RestoringNetwork if config.stage in ("restore", "motion") else DetailedNetwork)(settings)
    if "adversarial" in weighed:
        network.critic = Critic()
    return network


def build(config: StageConfig, perceptual_weights: Path | None) -> tuple[CompactNetwork, Stage[Any], Perceptual | None]:
    """Return the network, the stage and the perceptual features a configuration asks for."""
    if config.stage not in STAGES:
        raise UsageError(f"unknown stage {config.stage!r}.", hint=f"Stages of compact: {', '.join(STAGES)}.")
    stage = STAGES[config.stage]
    try:
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in config.network.items()}
        settings = CompactConfig(**given)
    except TypeError as error:
        raise UsageError(f"network: {error}.", hint="The settings are those of CompactConfig.") from error
    network = _network(config, settings)
    train_only(network, stage.trains)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network, replace(stage, export=export), perceptual_of(config, perceptual_weights)


def export(network: CompactNetwork, state: dict[str, Tensor], folder: Path) -> None:
    """Write a folder that `models.compact.load` reads, without what only training needs."""
    shipped = {name: tensor for name, tensor in state.items() if not name.startswith((TARGET, CRITIC))}
    write_folder(network.config, shipped, folder)
