"""Which kernel computes attention: PyTorch's own, or one of two packages where they are installed."""

import functools
import logging
from collections.abc import Callable
from importlib import import_module, util
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from stvsr_cli.models.fit.asked import check_kind

logger = logging.getLogger(__name__)

PACKAGES = {"flash": ("flash_attn", "flash-attn"), "sage": ("sageattention", "sageattention")}
"""Name to import, and name to install."""
LARGEST_HEAD = {"flash": 256, "sage": 128}
"""Largest size of a head that each takes."""
HALVES = (torch.float16, torch.bfloat16)

Kernel = Callable[[Tensor, Tensor, Tensor, bool, float | None], Tensor]
"""(query, key, value, causal, scale) -> attended, all [B, heads, L, D]."""


class Redirect(TorchFunctionMode):
    """While it is active, attention that a kernel can do goes to that kernel, and all else where it would have gone."""

    def __init__(self, kernel: Kernel, largest_head: int) -> None:
        super().__init__()
        self._kernel, self._largest_head = kernel, largest_head

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            call = _Call(*args, **kwargs)
            if call.is_plain and call.query.dtype in HALVES and call.query.shape[-1] <= self._largest_head:
                return self._kernel(call.query, call.key, call.value, call.is_causal, call.scale)
        return func(*args, **kwargs)


class _Call:
    """The arguments of one call, as PyTorch names them."""

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        self.query, self.key, self.value, self.is_causal, self.scale = query, key, value, is_causal, scale
        self.is_plain = attn_mask is None and not dropout_p and not enable_gqa and query.ndim == 4


def pick_attention(name: str, device: torch.device) -> str:
    """Return the kind that will be used, and say so in one line where it is not what was asked for.

    auto is flash, whose result is the same but for rounding, where it is installed, and else sdpa; sage rounds to 8 bits
    and is taken only by name. Raises UsageError for an unknown name.
    """
    check_kind("attention", name)
    if name == "sdpa":
        return name
    wanted = "flash" if name == "auto" else name
    module, package = PACKAGES[wanted]
    missing = util.find_spec(module) is None
    if not missing and device.type == "cuda":
        return wanted
    if name != "auto":
        why = f"is not installed (pip install {package})" if missing else "needs a GPU"
        logger.warning("--attention %s %s: PyTorch's own attention is used", name, why)
    return "sdpa"


def use_attention(part: nn.Module, kind: str) -> None:
    """Let a network compute its attention by a kind that `pick_attention` returned."""
    if kind == "sdpa":
        return
    redirect = functools.partial(Redirect, _kernel(kind), LARGEST_HEAD[kind])
    plain = part.forward

    @functools.wraps(plain)
    def forward(*args: Any, **kwargs: Any) -> Any:
        with redirect():
            return plain(*args, **kwargs)

    part.forward = forward  # type: ignore[method-assign]


def _kernel(kind: str) -> Kernel:
    package = import_module(PACKAGES[kind][0])

    def flash(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float | None) -> Tensor:
        moved = (part.transpose(1, 2) for part in (query, key, value))  # [B, L, heads, D], as it wants them
        attended: Tensor = package.flash_attn_func(*moved, softmax_scale=scale, causal=causal)
        return attended.transpose(1, 2)

    def sage(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float | None) -> Tensor:
        attended: Tensor = package.sageattn(query, key, value, tensor_layout="HND", is_causal=causal, sm_scale=scale)
        return attended

    return flash if kind == "flash" else sage
