"""The experts for detail and for restoration: low-rank adapters on the denoiser and the decoder, each with its strength.

The one for detail works on any input; what input that was strongly degraded asks for beyond it, the one for restoration
adds. After the D-LoRA of DLoRAL (arXiv 2506.15591) and LoRA (arXiv 2106.09685): W + s B A, here W + s (B A + r D C).
Merged before inference, so that it costs nothing there.
"""

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.network import CompactNetwork, Initialised

Result = TypeVar("Result")

PARTS = ("denoiser.", "decoder.")
"""Prefixes of the parts the expert adapts."""
SPARED = ("motion", "temporal", "guides", "retrieval", "backward_pass", "forward_pass")
"""Modules within them that it leaves alone: the other expert and what can be left out, so that the same expert fits, and
what is carried from frame to frame, where a change would build up over a window."""
SMALLEST_KERNEL = 3


def adapted_names(network: CompactNetwork) -> list[str]:
    """Names of the weights the expert adapts: all 3x3 convolutions of its parts."""
    return [
        f"{name}.weight"
        for name, module in network.named_modules()
        if name.startswith(PARTS)
        and not set(SPARED) & set(name.split("."))
        and isinstance(module, nn.Conv2d)
        and module.kernel_size[0] >= SMALLEST_KERNEL
    ]


class Expert(nn.Module):
    """Low-rank changes to the weights of a compact network; they start at zero."""

    def __init__(self, network: CompactNetwork, rank: int) -> None:
        super().__init__()
        self.names = adapted_names(network)
        weights = dict(network.named_parameters())
        self.down = nn.ParameterList()
        self.up = nn.ParameterList()
        for name in self.names:
            outputs, inputs = weights[name].flatten(1).shape
            self.down.append(nn.Parameter(torch.randn(rank, inputs) / math.sqrt(inputs)))
            self.up.append(nn.Parameter(torch.zeros(outputs, rank)))

    def changes(self) -> dict[str, Tensor]:
        """What is added to the adapted weights at full strength, by name, each [outputs, inputs * rows * columns]."""
        return {name: up @ down for name, down, up in zip(self.names, self.down, self.up, strict=True)}

    def merged(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The adapted weights by name, at full strength. weights: the plain ones by name."""
        return {name: weights[name] + change.view_as(weights[name]) for name, change in self.changes().items()}


class DetailedNetwork(CompactNetwork):
    """A compact network that runs with its detail expert at full strength; what the detail stage trains."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__(config)
        self.expert = Expert(self, config.detail_rank)

    def forward(
        self, frames: Tensor, fps_factor: int, video: Tensor | None = None, *, plain: bool = False
    ) -> tuple[Tensor, Initialised]:
        """See `CompactNetwork.forward`; `plain` leaves the expert out."""
        if plain:
            return super().forward(frames, fps_factor, video)
        return self.with_expert(lambda network: network(frames, fps_factor, video, plain=True))

    def with_expert(self, work: Callable[["DetailedNetwork"], Result]) -> Result:
        """Return what `work` makes of this network with the expert merged; of the weights, only the expert's get a gradient."""
        plain = {n: w.detach() for n, w in self.named_parameters() if not n.startswith("expert.")}
        merged = {f"network.{name}": weight for name, weight in (plain | self.adapted(plain)).items()}
        result: Result = functional_call(_At(self), merged, (work,))
        return result

    def adapted(self, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights that the experts change, as they do at full strength, by name; plain: all without them."""
        return self.expert.merged(plain)


class RestoringNetwork(DetailedNetwork):
    """A compact network that runs with both experts at full strength; what the restoration stage trains."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__(config)
        self.restorer = Expert(self, config.detail_rank)
        self.decoder.temporal_filter = config.restored_temporal_filter

    def adapted(self, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `DetailedNetwork.adapted`."""
        detailed = {name: weight.detach() for name, weight in super().adapted(plain).items()}
        return self.restorer.merged(detailed)


class _At(nn.Module):
    """A network handed to a function, so that weights can be exchanged for the call."""

    def __init__(self, network: DetailedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, work: Callable[[DetailedNetwork], Result]) -> Result:
        return work(self.network)
