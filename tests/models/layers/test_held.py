"""Weights held in the type that is computed in change no bit, and are cast no more."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stvsr_cli.models.compact import CompactModel
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.network import CompactNetwork
from stvsr_cli.models.contract import Request
from stvsr_cli.models.layers.held import hold_weights
from stvsr_cli.models.step import run_window

CPU = torch.device("cpu")
SMALL = {"width": 16, "middle_width": 16, "coarse_width": 16, "output_width": 16, "output_blocks": 1}


def network(**changes):
    torch.manual_seed(0)
    made = CompactNetwork(CompactConfig(**SMALL, **changes)).eval().requires_grad_(False)
    for parameter in made.parameters():  # silenced layers too
        parameter.add_(torch.randn_like(parameter) * 0.02)
    return made


CASTS = {torch.ops.aten._to_copy.default, torch.ops.aten.to.dtype}
"""The second is how a cast shows in inference mode."""


class Casts(TorchDispatchMode):
    """Counts how often one of some tensors is cast."""

    def __init__(self, tensors):
        super().__init__()
        self._known, self.count = {tensor.data_ptr() for tensor in tensors}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in CASTS and args[0].data_ptr() in self._known and args[0].dtype == torch.float32:
            self.count += 1
        return func(*args, **(kwargs or {}))


def made(model):
    frames = torch.rand(1, 3, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    layers = [layer.weight for layer in model.network.modules() if isinstance(layer, torch.nn.Conv2d)]
    with Casts(layers) as casts:
        output = run_window(model, frames, Request())
    return output, casts.count


@pytest.mark.parametrize("changes", [{}, {"uses_alignment": False, "uses_guidance": False, "uses_retrieval": False}])
def test_no_bit_changes_and_hardly_anything_is_cast(monkeypatch, changes):
    held, few = made(CompactModel(network(**changes), (), CPU, torch.bfloat16))
    monkeypatch.setattr("stvsr_cli.models.compact.model.hold_weights", lambda *_: 0)
    plain, many = made(CompactModel(network(**changes), (), CPU, torch.bfloat16))
    assert torch.equal(held, plain)
    assert few <= 6 < 60 < many, (few, many)  # those that are modulated first are cast as before


def test_in_float32_nothing_is_held():
    whole = network()
    before = {name: parameter.clone() for name, parameter in whole.named_parameters()}
    assert hold_weights(whole, torch.float32) == 0
    assert all(torch.equal(before[name], parameter) for name, parameter in whole.named_parameters())
