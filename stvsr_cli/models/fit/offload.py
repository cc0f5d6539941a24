"""Weights in main memory that come to the device when they are used, and leave it for the next ones.

Hooks on the modules do it, so that a network does not know of it: `model` moves a whole network at a time, `sequential`
one block of it. Nothing is copied back: weights do not change while a model runs.

diffusers' group offload copies the next block while one computes, which this does not, and is not used all the same: what
lies outside its blocks waits for the network's `forward`, and autoencoders are entered by `encode` and `decode`; it keeps
pinned copies of its own, which DLoRAL's merging at another strength (`load_state_dict`) would not reach before the first
run; and the memory plan counts one block on the device, not two.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stvsr_cli.errors import UsageError


class Unit:
    """Tensors that come and go together."""

    def __init__(self, owners: Iterable[nn.Module]) -> None:
        """owners: the modules whose own parameters and buffers it takes, without those of their children."""
        self._slots: list[tuple[dict[str, Any], str, Tensor]] = [
            (table, name, tensor)
            for module in owners
            for table in _tables(module)
            for name, tensor in table.items()
            if tensor is not None
        ]

    def bring(self, device: torch.device) -> None:
        """Put copies on the device in the place of the tensors in main memory."""
        for table, name, tensor in self._slots:
            table[name] = _copy(tensor, device)

    def leave(self) -> None:
        """Put the tensors in main memory back in their places; the copies are given up."""
        for table, name, tensor in self._slots:
            table[name] = tensor

    def pin(self) -> None:
        """Lock the tensors in main memory, from where they come faster; left alone where that cannot be done."""
        pinned: list[tuple[dict[str, Any], str, Tensor]] = []
        for table, name, tensor in self._slots:
            try:
                locked = _like(tensor, tensor.detach().pin_memory())
            except (RuntimeError, NotImplementedError):
                return
            pinned.append((table, name, locked))
        self._slots = pinned
        self.leave()

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor_bytes(tensor) for _, _, tensor in self._slots)


class Offloader:
    """Keeps at most one unit of all its networks on the device."""

    def __init__(self, parts: Mapping[str, nn.Module], device: torch.device, kind: str) -> None:
        """Hook the networks, which lie in main memory. kind: model or sequential. Raises UsageError for another."""
        if kind not in ("model", "sequential"):
            raise UsageError(f"--offload {kind!r} is not known.", hint="Use model or sequential.")
        self.device = device
        self._here: Unit | None = None
        for part in parts.values():
            staying, units = split(part, kind)
            staying.bring(device)
            for unit, modules in units:
                if device.type == "cuda":
                    unit.pin()
                for module in modules:
                    module.register_forward_pre_hook(lambda *_, unit=unit: self._bring(unit))
            part.register_load_state_dict_pre_hook(lambda *_: self.leave())

    def leave(self) -> None:
        """Empty the device of all that comes and goes."""
        if self._here is not None:
            self._here.leave()
            self._here = None

    def _bring(self, unit: Unit) -> None:
        if self._here is not unit:
            self.leave()
            unit.bring(self.device)
            self._here = unit


def split(part: nn.Module, kind: str) -> tuple[Unit, list[tuple[Unit, list[nn.Module]]]]:
    """Return what stays on the device, and the units that come and go, with the modules that call for each.

    By `sequential`, a unit is one member of an outermost list of blocks, or a single layer outside them; tensors of a
    module that has such units below it stay, since it may use them at any time.
    """
    if kind == "model":
        return Unit([]), [(Unit(part.modules()), _holders(part))]
    staying: list[nn.Module] = []
    units: list[tuple[Unit, list[nn.Module]]] = []

    def visit(module: nn.Module, *, block: bool) -> None:
        children = list(module.children())
        if block or not children:
            if holders := _holders(module):
                units.append((Unit(module.modules()), holders))
            return
        staying.append(module)
        for child in children:
            visit(child, block=isinstance(module, nn.ModuleList))

    visit(part, block=False)
    return Unit(staying), units


def resident_bytes(parts: Mapping[str, nn.Module], kind: str) -> dict[str, int]:
    """Bytes of each network's weights that lie on the device while it runs."""
    found = {}
    for name, part in parts.items():
        if kind == "none":
            found[name] = Unit(part.modules()).num_bytes
        else:
            staying, units = split(part, kind)
            found[name] = staying.num_bytes + max((unit.num_bytes for unit, _ in units), default=0)
    return found


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor, of a quantized one in the form in which it is kept."""
    if hasattr(tensor, "__tensor_flatten__"):
        names = tensor.__tensor_flatten__()[0]
        return sum(tensor_bytes(getattr(tensor, name)) for name in names)
    return tensor.nbytes


def _holders(module: nn.Module) -> list[nn.Module]:
    """The modules, from this one on, that hold tensors of their own: one of them runs before any tensor is used."""
    return [
        inner
        for inner in module.modules()
        if any(tensor is not None for table in _tables(inner) for tensor in table.values())
    ]


def _tables(module: nn.Module) -> list[dict[str, Any]]:
    """Where a module keeps its own parameters and buffers."""
    return [module._parameters, module._buffers]


def _copy(tensor: Tensor, device: torch.device) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():  # quantized tensors cannot be made in inference mode
        return _like(tensor, tensor.detach().to(device, non_blocking=True, copy=True))


def _like(tensor: Tensor, copy: Tensor) -> Tensor:
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(copy, requires_grad=False)
    return copy
