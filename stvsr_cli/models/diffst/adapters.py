"""Low-rank adapters on the transformer while it is trained; in files they are named as PEFT names them."""

import math

from torch import Tensor, nn

from stvsr_cli.models.layers.lora import adapted_layers, factor_name

ADAPTER = "diffst"
"""Name of the adapter in the file."""
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
"""Layers of every block that have an adapter: both attentions and the feed-forward network."""
FACTORS = (".lora_A.", ".lora_B.")


def attach(transformer: nn.Module, rank: int) -> None:
    """Put adapters of a rank on a transformer; they start by changing nothing."""
    layers = dict(transformer.named_modules())
    for name in adapted_layers(transformer, TARGETS):
        layer = layers[name]
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{name} is a {type(layer).__name__}, not a linear layer")
        down = nn.Linear(layer.in_features, rank, bias=False)
        up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.normal_(down.weight, std=1 / math.sqrt(layer.in_features))
        nn.init.zeros_(up.weight)
        layer.add_module("lora_A", nn.ModuleDict({ADAPTER: down}))
        layer.add_module("lora_B", nn.ModuleDict({ADAPTER: up}))
        layer.register_forward_hook(_add)


def _add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Add the adapter's output to the layer's."""
    down, up = layer.get_submodule(f"lora_A.{ADAPTER}"), layer.get_submodule(f"lora_B.{ADAPTER}")
    added: Tensor = output + up(down(inputs[0]))
    return added


def is_factor(name: str) -> bool:
    """Whether a parameter belongs to an adapter."""
    return any(part in name for part in FACTORS)


def factor_shapes(transformer: nn.Module, rank: int) -> dict[str, tuple[int, int]]:
    """Return the names and shapes that the adapters of a plain transformer have in a file."""
    shapes: dict[str, tuple[int, int]] = {}
    layers = dict(transformer.named_modules())
    for name in adapted_layers(transformer, TARGETS):
        out_features, in_features = layers[name].weight.shape  # type: ignore[union-attr, misc]
        shapes[factor_name(name, "A", ADAPTER)] = (rank, int(in_features))
        shapes[factor_name(name, "B", ADAPTER)] = (int(out_features), rank)
    return shapes
