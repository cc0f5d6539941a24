"""What a training stage is, whatever the model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from stvsr_cli.errors import UsageError
from stvsr_cli.train.config import StageConfig
from stvsr_cli.train.losses import Perceptual
from stvsr_cli.train.samples import Batch

Network = TypeVar("Network", bound=nn.Module)
Losses = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Stage(Generic[Network]):
    """What a stage trains, and towards what."""

    trains: Callable[[str], bool]
    """Whether the parameter of a name is trained; the rest is frozen."""
    losses: Callable[[Network, Batch, "nn.Module | None"], Losses]
    """Losses of one batch by name."""
    adds: tuple[str, ...] = ()
    """Prefixes of parameters that the weights to start from may lack, or hold without need."""
    export: Callable[[Network, dict[str, Tensor], Path], None] | None = None
    """Writes a folder that the model's `load` reads, from the network's state; None: the weights file is enough."""


def begins_with(*prefixes: str) -> Callable[[str], bool]:
    """Return whether a name begins with one of the prefixes, as a function of the name."""
    return lambda name: name.startswith(prefixes)


def train_only(network: nn.Module, trains: Callable[[str], bool]) -> None:
    """Let only the parameters be trained that `trains` says, by name."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(trains(name))


def perceptual_of(config: StageConfig, weights: Path | None) -> Perceptual | None:
    """Return the perceptual features if the stage weighs their loss. Raises UsageError if they are not named."""
    if not config.losses.get("perceptual"):
        return None
    if weights is None:
        raise UsageError("the perceptual loss needs perceptual_weights.", hint="Name SqueezeNet 1.1 weights.")
    return Perceptual(weights)


def total(losses: Losses, weights: dict[str, float]) -> Tensor:
    """Weighted sum of the losses that have a weight."""
    parts = [weights[name] * value for name, value in losses.items() if weights.get(name)]
    return torch.stack(parts).sum()
