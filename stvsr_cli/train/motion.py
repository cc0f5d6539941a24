"""Losses of what makes intermediate frames: the flow network and context aggregation."""

import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli.models.layers.aggregation import ContextAggregation
from stvsr_cli.models.layers.flow import FlowNetwork
from stvsr_cli.train.losses import charbonnier, flow_error
from stvsr_cli.train.samples import Batch


def motion_losses(flow: FlowNetwork, aggregation: ContextAggregation, batch: Batch, scale: int) -> dict[str, Tensor]:
    """Flow against the given flow, and intermediate frames against the reduced target, on the input's grid."""
    forward, backward = flow(batch.low)
    target = functional.avg_pool2d(batch.high.flatten(0, 1), scale).unflatten(0, batch.high.shape[:2])
    between = []
    for step in range(1, batch.fps_factor):
        frame, _, _ = aggregation(batch.low, forward[-1], backward[-1], step / batch.fps_factor)
        between.append(charbonnier(frame, target[:, step :: batch.fps_factor]))
    return {
        "flow": flow_error(forward, batch.flow[:, :, 0]) + flow_error(backward, batch.flow[:, :, 1]),
        "between": torch.stack(between).mean(),
    }
