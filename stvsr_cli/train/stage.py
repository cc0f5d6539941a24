"""What a training stage is, whatever the model."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from stvsr_cli.errors import UsageError
from stvsr_cli.train.config import StageConfig
from stvsr_cli.train.losses import Perceptual
from stvsr_cli.train.samples import Batch

logger = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)
Losses = dict[str, Tensor]


class Teaching(Protocol):
    """A published network that shows what it would make of a batch."""

    def to(self, device: torch.device) -> "Teaching":
        """Move its weights to a device."""

    def taught(self, batch: Batch) -> Batch:
        """Return the batch with what this makes of it."""


@dataclass(frozen=True, slots=True)
class Stage(Generic[Network]):
    """What a stage trains, and towards what."""

    trains: Callable[[str], bool]
    """Whether the parameter of a name is trained; the rest is frozen."""
    losses: Callable[[Network, Batch, "nn.Module | None"], Losses]
    """Losses of one batch by name."""
    adds: tuple[str, ...] = ()
    """Prefixes of parameters that the weights to start from may lack, or hold without need."""
    relies_on: Mapping[str, str] = field(default_factory=dict)
    """By loss: prefix of the parameters that give its reference, and that an earlier stage has to have trained."""
    teacher: Callable[[Path], Teaching] | None = None
    """Loads the teacher that may see its batches, from the teacher's weights; None: it learns from none."""
    export: Callable[[Network, dict[str, Tensor], Path], None] | None = None
    """Writes a folder that the model's `load` reads, from the network's state; `build` sets it."""


def begins_with(*prefixes: str) -> Callable[[str], bool]:
    """Return whether a name begins with one of the prefixes, as a function of the name."""
    return lambda name: name.startswith(prefixes)


def train_only(network: nn.Module, trains: Callable[[str], bool]) -> None:
    """Let only the parameters be trained that `trains` says, by name."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(trains(name))


def features_in(data: Path, config: StageConfig) -> Path | None:
    """The weights of the perceptual features: None where they are not asked for, or are not there and no loss needs them.

    Raises UsageError if a loss does.
    """
    if not config.perceptual_weights:
        return None
    path = data / config.perceptual_weights
    if path.is_file():
        return path
    if config.losses.get("perceptual") or config.losses_before.get("perceptual"):
        raise UsageError(f"the perceptual loss needs {path}.", hint="Put SqueezeNet 1.1 there, as safetensors.")
    logger.warning("there is no %s: no perceptual distance is measured", path)
    return None


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
