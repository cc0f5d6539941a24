"""Frozen weights held in the type that is computed in, so that autocast has nothing to cast at each call."""

import torch
from torch import nn

HELD = (nn.Conv2d, nn.Linear)
"""Layers that autocast runs in half precision."""


def hold_weights(network: nn.Module, dtype: torch.dtype) -> int:
    """Cast the weights of a frozen network's layers to the type that autocast would cast them to; return how many.

    Results under autocast stay the same to the bit. Left alone are layers that a module names in `keeps_float32`: those
    whose weights it takes in hand by itself, before or outside autocast.
    """
    if dtype == torch.float32:
        return 0
    kept = {id(getattr(module, name)) for module in network.modules() for name in getattr(module, "keeps_float32", ())}
    layers = [layer for layer in network.modules() if isinstance(layer, HELD) and id(layer) not in kept]
    for layer in layers:
        for parameter in layer.parameters(recurse=False):
            parameter.data = parameter.data.to(dtype)
    return len(layers)
