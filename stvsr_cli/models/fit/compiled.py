"""Compiling the few calls in which a model spends its time; what cannot be compiled runs as it is."""

import functools
import importlib.util
import logging
from typing import Any

import torch
from torch import nn

from stvsr_cli.models.contract import OneStepModel, RegionModel
from stvsr_cli.models.fit.device import is_out_of_memory

logger = logging.getLogger(__name__)

WORTH_PX = 50_000_000_000
"""Output pixels from which on a run is taken to last longer than compiling does: about 24,000 frames of 1080p."""


def wants_compile(kind: str, device: torch.device, num_px: int | None) -> bool:
    """Whether a run compiles. kind: auto, on or off. num_px: output pixels of the whole run; None: nobody knows.

    auto compiles long runs on CUDA, where Triton is installed.
    """
    if kind != "auto":
        return kind == "on"
    has_compiler = importlib.util.find_spec("triton") is not None
    return device.type == "cuda" and has_compiler and num_px is not None and num_px >= WORTH_PX


def compile_regions(model: OneStepModel, *, backend: str = "inductor") -> int:
    """Compile a model's regions, each to one graph, when they are first called; return how many.

    A model that has none stays as it is, and one that is compiled already too. A region that the compiler fails on
    runs as it did before, with a warning.
    """
    if not isinstance(model, RegionModel):
        logger.warning("--compile does nothing for the model %s", model.traits.name)
        return 0
    regions = model.regions
    for module, name in regions:
        if name not in module.__dict__:
            setattr(module, name, _compiled(module, name, backend))
    return len(regions)


def plain_regions(model: OneStepModel) -> None:
    """Undo `compile_regions`."""
    for module, name in model.regions if isinstance(model, RegionModel) else []:
        module.__dict__.pop(name, None)


def _compiled(module: nn.Module, name: str, backend: str) -> Any:
    plain = getattr(module, name)
    fast = torch.compile(plain, backend=backend, fullgraph=True)
    is_broken = False

    @functools.wraps(plain)
    def region(*arguments: Any) -> Any:
        nonlocal is_broken
        if is_broken:
            return plain(*arguments)
        try:
            return fast(*arguments)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            logger.warning("%s cannot be compiled and runs as it is: %s", name, first)
            is_broken = True
            return plain(*arguments)

    return region
