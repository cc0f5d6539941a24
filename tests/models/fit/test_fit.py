"""Weights that wait in main memory, 8-bit weights, attention kernels: on a CPU, with recorded moves and stand-ins."""

import logging
import sys
from importlib import util
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional

from stvsr_cli.bench.random_models import build
from stvsr_cli.errors import DeviceError, UsageError
from stvsr_cli.models.contract import PartedModel, Request
from stvsr_cli.models.fit.asked import Fit
from stvsr_cli.models.fit.attention import pick_attention, use_attention
from stvsr_cli.models.fit.fit import fit_model, loading_device, offload_on, waiting_bytes
from stvsr_cli.models.fit.memory import MemoryPlan, memory_lines, plan_memory
from stvsr_cli.models.fit.offload import Offloader, Unit, resident_bytes, split
from stvsr_cli.models.fit.quantize import check_quantize, quantize
from stvsr_cli.models.step import run_window

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SYSTEMS = ("osdenhancer", "dloral", "diffst")
SIZES = {"osdenhancer": (2, 8, 8), "dloral": (2, 16, 16), "diffst": (2, 16, 16)}


def clip(name, seed=0):
    count, height, width = SIZES[name]
    return torch.rand(1, count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def small(name):
    model = build(name, "tiny", CPU, torch.float32)
    if name == "dloral":
        model.options = type(model.options)(process_px=64)
    return model


@pytest.fixture
def moves(monkeypatch):
    """Bytes that come and go; weights that are away hold no numbers, so that to use them fails."""
    here = {"now": 0, "most": 0, "moves": 0}
    bring, leave, init = Unit.bring, Unit.leave, Unit.__init__

    def hide(unit):
        for table, name, tensor in unit._slots:
            table[name] = nn.Parameter(tensor.to("meta"), requires_grad=False) if table[name] is not None else None

    def hidden(self, owners):
        init(self, owners)

    def brought(self, device):
        bring(self, device)
        here["now"] += self.num_bytes
        here["most"] = max(here["most"], here["now"])
        here["moves"] += 1

    def left(self):
        leave(self)
        hide(self)
        here["now"] -= self.num_bytes

    monkeypatch.setattr(Unit, "__init__", hidden)
    monkeypatch.setattr(Unit, "bring", brought)
    monkeypatch.setattr(Unit, "leave", left)
    here["hide"] = hide
    return here


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("kind", ["model", "sequential"])
def test_offloaded_weights_are_here_when_used_and_at_no_other_time(name, kind, moves):
    model = small(name)
    assert isinstance(model, PartedModel) and model.traits.denoiser in model.parts
    frames = clip(name)
    wanted = run_window(model, frames, Request())
    total = sum(resident_bytes(model.parts, "none").values())
    staying = sum(split(part, kind)[0].num_bytes for part in model.parts.values())
    most = max(unit.num_bytes for part in model.parts.values() for unit, _ in split(part, kind)[1])
    Offloader(model.parts, CPU, kind)
    for module in (module for part in model.parts.values() for module in part.modules()):
        hooks = module._forward_pre_hooks.values()
        for hook in hooks:
            moves["hide"](hook.__defaults__[-1] if hook.__defaults__ else hook.__kwdefaults__["unit"])
    for _ in range(2):  # the second time too
        assert torch.equal(run_window(model, frames, Request()), wanted)
    assert moves["most"] <= staying + most < total
    assert moves["moves"] > len(model.parts)


def test_a_units_weights_come_back_as_they_were():
    layer = nn.Linear(3, 3)
    before = layer.weight
    unit = Unit([layer])
    unit.bring(CPU)
    assert layer.weight is not before and torch.equal(layer.weight, before)
    unit.leave()
    assert layer.weight is before and unit.num_bytes == 4 * 12


def test_weights_that_are_loaded_later_are_used():
    part = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).requires_grad_(False)
    Offloader({"part": part}, CPU, "sequential")
    x = torch.rand(2, 4)
    part(x)
    part.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in part.state_dict().items()})
    assert not part(x).any()


def test_the_unit_of_sequential_is_a_block():
    model = small("osdenhancer")
    staying, units = split(model.transformer, "sequential")
    blocks = model.transformer.transformer_blocks
    assert {id(modules[0]) for _, modules in units} >= {
        id(next(m for m in b.modules() if m._parameters)) for b in blocks
    }
    everything = sum(tensor.nbytes for tensor in model.transformer.parameters())
    assert staying.num_bytes + sum(unit.num_bytes for unit, _ in units) == everything


def test_pinned_tensors_take_the_place_of_the_others_or_none_does(monkeypatch):
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    unit = Unit(module.modules())
    locked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: locked.append(tensor.clone()) or locked[-1])
    unit.pin()
    now = module.state_dict()
    assert len(locked) == len(now) and {t.data_ptr() for t in locked} == {t.data_ptr() for t in now.values()}
    assert all(torch.equal(now[name], tensor) for name, tensor in before.items())
    assert isinstance(module[0].weight, nn.Parameter) and not isinstance(module[1].running_mean, nn.Parameter)
    unit.bring(CPU)
    assert module[0].weight.data_ptr() not in {t.data_ptr() for t in locked}
    unit.leave()
    assert module[0].weight.data_ptr() in {t.data_ptr() for t in locked}

    def refused(tensor):
        if len(locked) > 2:
            raise RuntimeError("no accelerator")
        locked.append(tensor.clone())
        return locked[-1]

    locked.clear()
    monkeypatch.setattr(torch.Tensor, "pin_memory", refused)
    held = {name: tensor.data_ptr() for name, tensor in module.state_dict().items()}
    unit.pin()
    unit.leave()
    assert {name: tensor.data_ptr() for name, tensor in module.state_dict().items()} == held


def test_on_a_cpu_offloading_does_nothing_and_says_so(caplog):
    model = small("diffst")
    fit = Fit(offload="model")
    with caplog.at_level(logging.WARNING):
        fit_model(model, fit, CPU)
    (record,) = caplog.records
    assert "has no effect on a CPU" in record.message
    assert not any(module._forward_pre_hooks for part in model.parts.values() for module in part.modules())
    assert offload_on(fit, CPU) == "none" and offload_on(fit, CUDA) == "model"


def test_weights_are_read_to_main_memory_where_they_are_to_wait():
    assert loading_device(Fit(), CUDA) == CUDA
    assert loading_device(Fit(offload="sequential"), CUDA) == CPU


@pytest.mark.parametrize("name", ["offload", "quantize", "attention"])
def test_unknown_kinds_are_refused(name):
    with pytest.raises(UsageError, match=f"--{name} 'fast'"):
        Fit(**{name: "fast"})
    with pytest.raises(UsageError, match="fast"):
        Offloader({}, CPU, "fast") if name == "offload" else check_quantize("fast")


# memory


def test_the_plan_adds_what_is_there_at_once():
    weights, window = {"a": 10, "b": 4}, {"frames": 1, "a": 3, "b": 8}
    together = MemoryPlan(weights=weights, window=window)
    apart = MemoryPlan(weights=weights, window=window, offloaded=True)
    assert (together.resident, together.total) == (14, 22)
    assert (apart.resident, apart.total) == (10, 13)
    lines = memory_lines(together, 2**31)
    assert len(lines) == 4 and "of 2.00 GiB" in lines[0] and lines[2].startswith("b: weights")


@pytest.mark.parametrize("name", SYSTEMS)
def test_offloading_needs_less_and_a_larger_window_more(name):
    model = small(name)
    totals = [plan_memory(model, 5, 64, 64, 2, offload=kind).total for kind in ("none", "model", "sequential")]
    assert totals[0] > totals[1] > totals[2] > model.window_bytes(5, 64, 64, 2)
    assert plan_memory(model, 9, 64, 64, 2).total > totals[0]
    plan = plan_memory(model, 5, 64, 64, 2)
    assert plan.weights.keys() == model.parts.keys() and max(plan.window.values()) == model.window_bytes(5, 64, 64, 2)
    assert waiting_bytes(model, Fit(), CPU) == plan.resident and waiting_bytes(model, Fit(), CUDA) == 0
    assert waiting_bytes(model, Fit(offload="model"), CUDA) == max(plan.weights.values())


# quantization


@pytest.mark.skipif(util.find_spec("torchao") is not None, reason="torchao is installed")
@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_without_torchao_one_line_says_what_to_install(kind):
    with pytest.raises(DeviceError, match="torchao") as caught:
        loading_device(Fit(quantize=kind), CPU)
    assert "pip install torchao" in caught.value.hint


@pytest.mark.parametrize("kind", ["int8", "fp8"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_8_bit_weights_are_smaller_and_give_nearly_the_same(name, kind):
    pytest.importorskip("torchao")
    model = small(name)
    frames = clip(name)
    denoiser = model.parts[model.traits.denoiser]
    for parameter in denoiser.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    wanted = run_window(model, frames, Request())
    before = resident_bytes(model.parts, "none")[model.traits.denoiser]
    num_values = sum(layer.weight.numel() for layer in denoiser.modules() if isinstance(layer, nn.Linear))
    assert quantize(denoiser, kind) > 3
    assert before - resident_bytes(model.parts, "none")[model.traits.denoiser] > 2.5 * num_values
    given = run_window(model, frames, Request())
    assert 0 < (given - wanted).abs().mean() < {"int8": 0.04, "fp8": 0.08}[kind]
    Offloader(model.parts, CPU, "model")
    assert torch.equal(run_window(model, frames, Request()), given)


# attention


class FakeKernels:
    """Packages that count their calls and compute attention as PyTorch does."""

    def __init__(self, monkeypatch):
        self.calls = []
        flash, sage = ModuleType("flash_attn"), ModuleType("sageattention")
        flash.flash_attn_func, sage.sageattn = self.flash, self.sage
        for module in (flash, sage):
            module.__spec__ = util.spec_from_loader(module.__name__, None)
            monkeypatch.setitem(sys.modules, module.__name__, module)

    def flash(self, query, key, value, softmax_scale=None, causal=False):
        self.calls.append(("flash", query.dtype))
        heads = (part.transpose(1, 2) for part in (query, key, value))
        return functional.scaled_dot_product_attention(*heads, scale=softmax_scale, is_causal=causal).transpose(1, 2)

    def sage(self, query, key, value, tensor_layout, is_causal, sm_scale):
        assert tensor_layout == "HND"
        self.calls.append(("sage", query.dtype))
        return functional.scaled_dot_product_attention(query, key, value, scale=sm_scale, is_causal=is_causal)


@pytest.mark.parametrize("kind", ["flash", "sage"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_an_installed_kernel_gets_the_denoisers_attention_and_no_other(name, kind, monkeypatch):
    kernels = FakeKernels(monkeypatch)
    model = build(name, "tiny", CPU, torch.bfloat16)
    if name == "dloral":
        model.options = type(model.options)(process_px=64)
    frames = clip(name)
    wanted = run_window(model, frames, Request())
    use_attention(model.parts[model.traits.denoiser], kind)
    given = run_window(model, frames, Request())
    assert set(kernels.calls) == {(kind, torch.bfloat16)}
    assert (given - wanted).abs().max() < 0.1
    kernels.calls.clear()
    run_window(build(name, "tiny", CPU, torch.bfloat16) if name != "dloral" else model, frames, Request())
    assert bool(kernels.calls) == (name == "dloral")


def test_kernels_leave_alone_what_they_cannot_do(monkeypatch):
    kernels = FakeKernels(monkeypatch)

    class Attention(nn.Module):
        def forward(self, x, mask=None):
            return functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)

    part = Attention()
    use_attention(part, "flash")
    half = torch.rand(1, 2, 8, 16, dtype=torch.bfloat16)
    part(half.float())
    part(half, mask=torch.zeros(8, 8, dtype=torch.bfloat16))
    part(torch.rand(1, 1, 4, 512, dtype=torch.bfloat16))
    assert kernels.calls == []
    part(half)
    assert kernels.calls == [("flash", torch.bfloat16)]


def test_a_kernel_that_is_asked_for_and_missing_is_named_in_one_line(caplog, monkeypatch):
    with caplog.at_level(logging.WARNING):
        assert pick_attention("sdpa", CUDA) == pick_attention("auto", CUDA) == "sdpa"
        assert caplog.records == []
        assert pick_attention("sage", CUDA) == "sdpa"
        assert [record.message for record in caplog.records] == [
            "--attention sage is not installed (pip install sageattention): PyTorch's own attention is used"
        ]
        FakeKernels(monkeypatch)
        assert pick_attention("auto", CUDA) == pick_attention("flash", CUDA) == "flash"
        assert pick_attention("flash", CPU) == "sdpa"
    assert "needs a GPU" in caplog.records[-1].message and len(caplog.records) == 2
