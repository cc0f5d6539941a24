"""Low-rank adapters on the transformer while it is trained; in files they are named as PEFT names them."""

from torch import nn

from stvsr_cli.models.layers import lora
from stvsr_cli.models.layers.lora import adapted_layers, factor_name, is_factor

__all__ = ["ADAPTER", "attach", "factor_shapes", "is_factor"]

ADAPTER = "diffst"
"""Name of the adapter in the file."""
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
"""Layers of every block that have an adapter: both attentions and the feed-forward network."""


def attach(transformer: nn.Module, rank: int) -> None:
    """Put adapters of a rank on a transformer; they start by changing nothing."""
    lora.attach(transformer, TARGETS, rank, ADAPTER)


def factor_shapes(transformer: nn.Module, rank: int) -> dict[str, tuple[int, int]]:
    """Return the names and shapes that the adapters of a plain transformer have in a file."""
    shapes: dict[str, tuple[int, int]] = {}
    layers = dict(transformer.named_modules())
    for name in adapted_layers(transformer, TARGETS):
        out_features, in_features = layers[name].weight.shape  # type: ignore[union-attr, misc]
        shapes[factor_name(name, "A", ADAPTER)] = (rank, int(in_features))
        shapes[factor_name(name, "B", ADAPTER)] = (int(out_features), rank)
    return shapes
