"""Layers that start by adding nothing."""

from torch import nn


def silence(layer: nn.Module) -> None:
    """Set a layer's weights and bias to zero, so that its branch starts by changing nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
