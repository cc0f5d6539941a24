"""Bytes of the tensors that are alive while something runs, on any device, the meta device too.

It counts what a caching allocator would hand out, without rounding and without the workspace of single kernels.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stvsr_cli.models.contract import Request


class LiveMemory(TorchDispatchMode):
    """Counts storages that operations make while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._known: set[int] = set()

    @property
    def now(self) -> int:
        """Bytes alive now."""
        for key in [key for key, (ref, _) in self._alive.items() if ref.expired()]:
            del self._alive[key]
        return sum(size for _, size in self._alive.values())

    def ignore(self, tensors: Iterable[Tensor]) -> None:
        """Leave tensors, such as weights, out of the count."""
        self._known |= {StorageWeakRef(tensor.untyped_storage()).cdata for tensor in tensors}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                ref = StorageWeakRef(storage)
                if ref.cdata not in self._known and ref.cdata not in self._alive:
                    self._alive[ref.cdata] = (ref, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return output


class FusedAttention(TorchFunctionMode):
    """Attention as a fused kernel's memory goes: its output alone. For the meta device, where none is computed."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention and args and args[0].is_meta:
            return torch.empty_like(args[0])
        if func is functional.scaled_dot_product_attention and kwargs and kwargs.get("query", args and args[0]).is_meta:
            return torch.empty_like(kwargs["query"])
        return func(*args, **(kwargs or {}))


def peak_bytes(run: Callable[[], object], weights: Iterable[Tensor] = ()) -> int:
    """Most bytes alive while `run` runs, beyond those of `weights`."""
    live = LiveMemory()
    live.ignore(weights)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(FusedAttention())
        stack.enter_context(live)
        run()
    return live.peak


def stage_peaks(model: Any, frames: Tensor, request: Request) -> Mapping[str, int]:
    """Most bytes alive in each of the five verbs, what the verbs before left included; `frames` counted."""
    live = LiveMemory()
    live.ignore(tensor for part in model.parts.values() for tensor in [*part.parameters(), *part.buffers()])
    peaks = {}
    autocast = patch("torch.autocast", lambda *_, **__: nullcontext()) if frames.is_meta else nullcontext()
    with torch.inference_mode(), FusedAttention(), live, autocast:
        frames = frames.clone()

        def timed(name: str, call: Callable[[], Any]) -> Any:
            live.peak = 0
            result = call()
            peaks[name] = live.peak
            return result

        init = timed("initialise", lambda: model.initialise(frames, request))
        latent = timed("encode", lambda: model.encode(init, request))
        condition = timed("condition", lambda: model.condition(init, latent, request))
        clean = timed("denoise", lambda: model.denoise(latent, condition, request))
        timed("decode", lambda: model.decode(clean, init, request))
    return peaks
