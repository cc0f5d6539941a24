"""Low-rank adapters as PEFT writes them: put on layers to be trained, and merged into plain weights."""

import math
import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from stvsr_cli.errors import ModelError

BASE_LAYER = ".base_layer."
FACTOR = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])\.(?P<adapter>.+)\.weight")


def factor_name(layer: str, side: str, adapter: str) -> str:
    """Return the name of a factor, side "A" or "B", of an adapter on a layer."""
    return f"{layer}.lora_{side}.{adapter}.weight"


def is_factor(name: str, adapter: str = "") -> bool:
    """Return whether a parameter's name is that of a factor, of one adapter or of any."""
    match = FACTOR.fullmatch(name)
    return match is not None and adapter in ("", match["adapter"])


def attach(module: nn.Module, targets: Iterable[str], rank: int, adapter: str, strength: float = 1.0) -> None:
    """Put a trainable adapter on the target layers, see `adapted_layers`; it starts by changing nothing.

    A layer's output gets strength * B(A(input)); B A is what `merge` adds to its weight. A layer may have several.
    """
    layers = dict(module.named_modules())
    for name in adapted_layers(module, targets):
        layer = layers[name]
        down, up = _factors(layer, rank)
        for side, factor in (("lora_A", down), ("lora_B", up)):
            if not hasattr(layer, side):
                layer.add_module(side, nn.ModuleDict())
            layer.get_submodule(side).update({adapter: factor})  # type: ignore[operator]
        layer.register_forward_hook(_adding(down, up, strength))


def _factors(layer: nn.Module, rank: int) -> tuple[nn.Module, nn.Module]:
    down: nn.Linear | nn.Conv2d
    up: nn.Linear | nn.Conv2d
    if isinstance(layer, nn.Conv2d):
        down = nn.Conv2d(
            layer.in_channels, rank, layer.kernel_size, layer.stride, layer.padding, bias=False  # type: ignore[arg-type]
        )  # fmt: skip
        up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
    elif isinstance(layer, nn.Linear):
        down, up = nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=False)
    else:
        raise ValueError(f"a {type(layer).__name__} takes no adapter")
    nn.init.normal_(down.weight, std=1 / math.sqrt(down.weight[0].numel()))
    nn.init.zeros_(up.weight)
    return down, up


def _adding(
    down: nn.Module, up: nn.Module, strength: float
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        added: Tensor = output + strength * up(down(inputs[0]))
        return added

    return add


def adapted_layers(module: nn.Module, targets: Iterable[str]) -> list[str]:
    """Return the names of the linear and convolutional layers that a PEFT list of target modules means.

    A target is a layer's whole name, or the end of it after a dot.
    """
    targets = set(targets)
    names = [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and ".lora_" not in name
    ]
    return [name for name in names if any(name == target or name.endswith(f".{target}") for target in targets)]


def expected_names(module: nn.Module, layers_by_adapter: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names of a module's state dict once PEFT has put these adapters on these layers."""
    layers_by_adapter = {adapter: list(layers) for adapter, layers in layers_by_adapter.items()}
    adapted = {layer for layers in layers_by_adapter.values() for layer in layers}
    names = []
    for name in module.state_dict():
        layer, _, leaf = name.rpartition(".")
        names.append(f"{layer}{BASE_LAYER}{leaf}" if layer in adapted else name)
    for adapter, layers in layers_by_adapter.items():
        names += [factor_name(layer, side, adapter) for layer in layers for side in "AB"]
    return names


def merge(tensors: Mapping[str, Tensor], strengths: Mapping[str, float], *, what: str) -> dict[str, Tensor]:
    """Return plain weights, W + sum over the adapters of strength * B A, under their plain names.

    tensors: a state dict with adapters; those absent from `strengths` raise. strengths: by adapter, what multiplies
    B A: PEFT's alpha / rank, times the weight wanted; 0 leaves the adapter out. The sum is taken in float32.
    Raises ModelError if an adapter is unknown or incomplete, or its factors do not fit the layer.
    """
    factors: dict[str, dict[str, dict[str, Tensor]]] = {}
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if match := FACTOR.fullmatch(name):
            layer, side, adapter = match["layer"], match["side"], match["adapter"]
            factors.setdefault(layer, {}).setdefault(adapter, {})[side] = tensor
        else:
            plain[name.replace(BASE_LAYER, ".")] = tensor
    for layer, adapters in factors.items():
        name = f"{layer}.weight"
        if name not in plain:
            raise ModelError(f"{what} has adapters on {layer}, but not the layer.", hint="It is damaged.")
        plain[name] = _merged(layer, plain[name], adapters, strengths, what)
    return plain


def _merged(
    layer: str, weight: Tensor, adapters: dict[str, dict[str, Tensor]], strengths: Mapping[str, float], what: str
) -> Tensor:
    merged = weight.float()
    for adapter, sides in adapters.items():
        if adapter not in strengths:
            raise ModelError(f"{what} has the unknown adapter {adapter} on {layer}.", hint=f"Known: {[*strengths]}.")
        if sides.keys() != {"A", "B"}:
            raise ModelError(f"{what} has half of the adapter {adapter} on {layer}.", hint="It is damaged.")
        down, up = sides["A"].float().flatten(1), sides["B"].float().flatten(1)  # [rank, in * k * k], [out, rank]
        if up.shape[1] != down.shape[0] or (up.shape[0], down.shape[1]) != weight.flatten(1).shape:
            raise ModelError(f"{what}: the adapter {adapter} does not fit {layer} {list(weight.shape)}.")
        if strengths[adapter] != 0:
            merged = torch.add(merged, (up @ down).view(weight.shape), alpha=strengths[adapter])
    return merged
