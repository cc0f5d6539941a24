"""Losses of motion: of what makes intermediate frames, and of change along it."""

import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli.models.layers.aggregation import ContextAggregation
from stvsr_cli.models.layers.flow import FlowNetwork
from stvsr_cli.models.layers.warp import warp
from stvsr_cli.train.losses import charbonnier, flow_error, log_error
from stvsr_cli.train.samples import Batch


def motion_losses(flow: FlowNetwork, aggregation: ContextAggregation, batch: Batch, scale: int) -> dict[str, Tensor]:
    """Flow against the given flow, and intermediate frames against the reduced target, on the input's grid."""
    forward, backward = flow(batch.low)
    target = functional.avg_pool2d(batch.high.flatten(0, 1), scale).unflatten(0, batch.high.shape[:2])
    between, fidelity = [], []
    for step in range(1, batch.fps_factor):
        frame, _, _ = aggregation(batch.low, forward[-1], backward[-1], step / batch.fps_factor)
        wanted = target[:, step :: batch.fps_factor]
        between.append(charbonnier(frame, wanted))
        fidelity.append(log_error((frame - wanted).flatten(0, 1)))
    return {
        "flow": flow_error(forward, batch.flow[:, :, 0]) + flow_error(backward, batch.flow[:, :, 1]),
        "between": torch.stack(between).mean(),
        "fidelity": torch.stack(fidelity).mean(),
    }


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
