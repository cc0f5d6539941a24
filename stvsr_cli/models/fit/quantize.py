"""Weights of a denoiser's linear layers in 8 bits, by torchao where it is installed; what is computed stays as it was."""

from importlib import import_module, util

import torch
from torch import nn

from stvsr_cli.errors import DeviceError, ModelError
from stvsr_cli.models.fit.asked import check_kind

PACKAGE = "torchao"
CONFIGS = {"int8": "Int8WeightOnlyConfig", "fp8": "Float8WeightOnlyConfig"}
SMALLEST = 2**12
"""Layers with fewer weights stay as they are: they cost nothing, and some are precise on purpose."""


def check_quantize(kind: str) -> None:
    """Raise UsageError for an unknown kind, DeviceError if the package for it is not installed."""
    check_kind("quantize", kind)
    if kind != "none" and util.find_spec(PACKAGE) is None:
        raise DeviceError(f"--quantize {kind} needs the package torchao.", hint="Run: pip install torchao")


def quantize(part: nn.Module, kind: str) -> int:
    """Replace the weights of a network's linear layers, one scale an output channel; return how many layers.

    Raises ModelError if torchao cannot do it on this machine.
    """
    check_quantize(kind)
    if kind == "none":
        return 0
    chosen = {
        id(module)
        for module in part.modules()
        if isinstance(module, nn.Linear)
        and module.weight.numel() >= SMALLEST
        and module.weight.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and bool(module.weight.any(1).all())  # a channel of zeros has no scale
    }
    try:
        torchao = import_module(f"{PACKAGE}.quantization")
        config = getattr(torchao, CONFIGS[kind])()
        torchao.quantize_(part, config, filter_fn=lambda module, _: id(module) in chosen)
    except (ImportError, AttributeError, RuntimeError, NotImplementedError, AssertionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"torchao cannot quantize to {kind}: {first}.", hint="Use --quantize none.") from error
    return len(chosen)
