"""What a device could do at best: operations and bytes that a call needs, over the rates that are measured here."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

MATRIX_SIDE = {"cuda": 8192, "cpu": 1024}
COPY_BYTES = {"cuda": 2**30, "cpu": 2**27}
REPEATS = {"cuda": 20, "cpu": 3}


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device does in a second."""

    operations: float
    """Of the product of two large square matrices, a multiplication and an addition counted as two."""
    bytes: float
    """Read and written by a large copy."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a call needs."""

    operations: int
    """Of matrix products, convolutions and attention (`torch.utils.flop_counter`)."""
    bytes: int
    """Read and written by all its operations, one by one: fused ones need fewer."""

    def floor_s(self, rates: Rates) -> float:
        """Least seconds for the operations."""
        return self.operations / rates.operations

    def traffic_s(self, rates: Rates) -> float:
        """Seconds for the bytes of operations that are not fused."""
        return self.bytes / rates.bytes


def synchronise(device: torch.device) -> None:
    """Wait until a device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds_of(run: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """Seconds that a call takes on a device, the best of a few goes of `repeats` calls each, once it is warm."""
    run()
    best = float("inf")
    for _ in range(2):
        synchronise(device)
        begin = time.perf_counter()
        for _ in range(repeats):
            run()
        synchronise(device)
        best = min(best, (time.perf_counter() - begin) / repeats)
    return best


@torch.inference_mode()
def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """What a device does in a second with matrices of a precision, and with copies."""
    kind = "cpu" if device.type == "cpu" else "cuda"
    side, repeats = MATRIX_SIDE[kind], REPEATS[kind]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product_s = seconds_of(lambda: a @ b, device, repeats)
    source = torch.ones(COPY_BYTES[kind], device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    copy_s = seconds_of(lambda: target.copy_(source), device, repeats)
    return Rates(2 * side**3 / product_s, 2 * source.nbytes / copy_s)


class _Traffic(TorchDispatchMode):
    """Adds up the bytes that operations read and write; those that only look at memory otherwise move none."""

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        given, made = ([t for t in tree_leaves(tree) if isinstance(t, Tensor)] for tree in ((args, kwargs), output))
        known = {tensor.untyped_storage()._cdata for tensor in given}
        is_view = not func._schema.is_mutable and all(t.untyped_storage()._cdata in known for t in made)
        if not is_view:
            self.num_bytes += sum(tensor.numel() * tensor.element_size() for tensor in [*given, *made])
        return output


def count_work(run: Callable[[], object]) -> Work:
    """What a call needs, counted while it runs."""
    with torch.inference_mode(), FlopCounterMode(display=False) as operations, _Traffic() as traffic:
        run()
    return Work(operations.get_total_flops(), traffic.num_bytes)
