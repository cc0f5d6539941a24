"""Losses of motion: of what makes intermediate frames, and of change along it."""

import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli.models.layers.aggregation import ContextAggregation
from stvsr_cli.models.layers.flow import FlowNetwork
from stvsr_cli.models.layers.warp import warp
from stvsr_cli.train.losses import charbonnier, flow_error, log_error, robust_length
from stvsr_cli.train.samples import Batch, MotionLesson

WORTH_LEARNING = 0.5 / 255
"""By how much a teacher's frame has to be nearer to the truth, in [0, 1], for its flow to be learned."""


def motion_losses(flow: FlowNetwork, aggregation: ContextAggregation, batch: Batch, scale: int) -> dict[str, Tensor]:
    """Intermediate frames against the reduced target, on the input's grid, and flow against a given flow and a teacher's, if there are any."""
    forward, backward = flow(batch.low)
    target = functional.avg_pool2d(batch.high.flatten(0, 1), scale).unflatten(0, batch.high.shape[:2])
    losses: dict[str, Tensor] = {}
    if batch.flow.shape[1]:
        losses["flow"] = flow_error(forward, batch.flow[:, :, 0]) + flow_error(backward, batch.flow[:, :, 1])
    between, fidelity = [], []
    for step in range(1, batch.fps_factor):
        frame, *flows = aggregation(batch.low, forward[-1], backward[-1], step / batch.fps_factor)
        wanted = target[:, step :: batch.fps_factor]
        if batch.moved is not None and 2 * step == batch.fps_factor:
            losses["taught_flow"] = taught_flow_error(frame, torch.cat(flows, 2), wanted, batch.moved)
        between.append(charbonnier(frame, wanted))
        fidelity.append(log_error((frame - wanted).flatten(0, 1)))
    return losses | {"between": torch.stack(between).mean(), "fidelity": torch.stack(fidelity).mean()}


def taught_flow_error(frames: Tensor, flow: Tensor, wanted: Tensor, lesson: MotionLesson) -> Tensor:
    """Robust distance to a teacher's flow, where what the teacher makes is nearer to the truth.

    frames, wanted: [B, K-1, 3, h, w]; flow: [B, K-1, 4, h/2, w/2].
    """
    own, other = (_error_around(made.detach() - wanted) for made in (frames, lesson.frames))
    distance = robust_length((flow.float() - lesson.flow).unflatten(2, (2, 2)), 3).sum(2)  # [B, K-1, h/2, w/2]
    return (distance * (other < own - WORTH_LEARNING)).mean()


def _error_around(difference: Tensor) -> Tensor:
    """Mean error around each place. difference: [B, K-1, 3, h, w]. Returns [B, K-1, h/2, w/2]."""
    error = difference.abs().mean(2)
    return functional.avg_pool2d(functional.avg_pool2d(error, 5, 1, 2), 2)


def warped_change(output: Tensor, batch: Batch, scale: int) -> Tensor:
    """Change of the output from keyframe to keyframe along the motion, against the target's change along the same.

    output: [B, (K-1)F + 1, 3, H, W]. The motion is the batch's, enlarged; where it has none, places stay. What comes
    into view or is badly matched changes in the target, too, and costs nothing.
    """
    changes = []
    for frames in (output, batch.high):
        keys = frames[:, :: batch.fps_factor]
        here, there = keys[:, :-1].flatten(0, 1), keys[:, 1:].flatten(0, 1)
        if batch.flow.shape[1]:
            flow = scale * batch.flow[:, :, 0].flatten(0, 1)
            there = warp(there, functional.interpolate(flow, scale_factor=float(scale), mode="bilinear"))
        changes.append(there - here)
    return charbonnier(changes[0], changes[1])
