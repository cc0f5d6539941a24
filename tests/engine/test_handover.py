"""What goes to a device and back: how much of it, when, and that nothing waits for it on the way."""

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from stvsr_cli.engine import local
from stvsr_cli.engine.handover import DeviceHandover
from stvsr_cli.engine.lanes import Lanes
from stvsr_cli.models.compact import CompactModel
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.network import CompactNetwork
from tests.engine.fakes import Queued
from tests.engine.runs import CPU, frames, made_by, run_of


@pytest.fixture
def on_device(monkeypatch):
    """Runs take the way of a device with such lanes."""

    def use(lanes):
        handed = []

        def handover(form, own):
            handed.append(DeviceHandover(form, own))
            return handed[-1]

        monkeypatch.setattr(local, "lanes_of", lambda _: lanes)
        monkeypatch.setattr(local, "handover_of", handover)
        return handed

    return use


def alike(made, others):
    """Whether two runs made the same moments, with pictures the same to the last code."""
    assert [(slot, shot) for _, slot, shot in made] == [(slot, shot) for _, slot, shot in others]
    worst = 0
    for (one, _, _), (other, _, _) in zip(made, others, strict=True):
        for plane, counterpart in zip(one.planes, other.planes, strict=True):
            worst = max(worst, int(np.abs(plane.astype(int) - counterpart.astype(int)).max()))
    return worst <= 1


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("changes", [{}, {"scale": 2}, {"cuts": "hold", "window": 4}, {"fps_factor": 4, "window": 3}])
@pytest.mark.parametrize("lanes", [lambda: Lanes(CPU), Queued, lambda: Queued(0.02)])
def test_the_way_of_a_device_makes_what_the_cpus_makes(on_device, batch, changes, lanes):
    def source():
        return frames(23, cuts=(9, 15))

    wanted = made_by(run_of(source, batch=batch, **changes))
    handed = on_device(lanes())
    made = made_by(run_of(source, batch=batch, **changes))
    assert len(made) == 23 * changes.get("fps_factor", 2) and alike(made, wanted)
    assert handed[0].pool.num_made <= len(made)


def test_buffers_are_used_again(on_device):
    handed = on_device(Queued(0.001))
    made = made_by(run_of(lambda: frames(150), window=4, fps_factor=1))
    assert len(made) == 150 and handed[0].pool.num_made <= 40


class Counted(TorchDispatchMode):
    """Counts the bytes that are copied into a handover's buffers."""

    def __init__(self, handover):
        super().__init__()
        self.num_bytes = 0
        self._made = set()
        take = handover.pool.take

        def noted():
            buffer = take()
            self._made.add(buffer.data_ptr())
            return buffer

        handover.pool.take = noted

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.copy_.default and args[0].data_ptr() in self._made:
            self.num_bytes += args[0].nbytes
            assert args[1].dtype == args[0].dtype, "floats are converted on the way"
        return func(*args, **(kwargs or {}))


def test_a_frame_of_1080p_hands_over_its_codes_and_no_more(on_device):
    handed = on_device(Lanes(CPU))
    run = run_of(lambda: frames(3, 270, 480), height=270, width=480, fps_factor=1, window=2)
    with Counted(handed[0]) as counted:
        made = made_by(run)
    assert (run.plan.width, run.plan.height, len(made)) == (1920, 1080, 3)
    assert counted.num_bytes / len(made) == 1920 * 1080 * 1.5  # 3.1 MB; as float RGB it was 24.9 MB
    assert handed[0].frame_bytes == 1920 * 1080 * 1.5


WAITS = (
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "unique",
    "_unique2",
    "equal",
    "lift_fresh",
)
"""Operations for which the host waits until a device has caught up, or copies from memory that is not pinned."""


ASKS = {
    getattr(torch.Tensor, name) for name in ("item", "tolist", "numpy", "cpu", "__repr__", "__format__", "__array__")
}
"""Methods that need a tensor's values in main memory."""


class NeverAsks(TorchFunctionMode):
    """Fails where values are asked for; a tensor is printed outside all dispatch modes."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert func not in ASKS, f"{func.__name__} waits for the device"
        return func(*args, **(kwargs or {}))


class NeverWaits(TorchDispatchMode):
    """Fails where the host would wait for a device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in WAITS, f"{name} waits for the device"
        if name in ("index", "index_put", "index_put_"):
            assert not any(i is not None and i.dtype == torch.bool for i in args[1]), "a mask waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: str(x),
        lambda x: bool(x.any()),
        lambda x: x.tolist(),
        lambda x: torch.tensor([1.0]),
        lambda x: x.new_tensor([1.0]),
    ],
)
def test_the_mode_finds_what_waits(wait):
    with pytest.raises(AssertionError, match="waits"), NeverWaits(), NeverAsks():
        wait(torch.ones(3))


def tiny_compact():
    torch.manual_seed(0)
    network = CompactNetwork(CompactConfig(width=16, middle_width=16, coarse_width=16, output_width=16, output_blocks=1,
                                           uses_alignment=False)).eval()  # fmt: skip
    return CompactModel(network.requires_grad_(False), (), CPU, torch.float32)


@pytest.mark.parametrize("changes", [{}, {"tile": 64}, {"batch": 2}, {"fps_factor": 4}, {"scale": 3}])
@pytest.mark.parametrize("model", [tiny_compact, lambda: None])
def test_nothing_in_the_window_loop_waits_for_the_device(on_device, changes, model):
    on_device(Queued())
    run = run_of(lambda: frames(7, 64, 96), model=model(), height=64, width=96, window=3, overlap=1, **changes)
    with NeverWaits(), NeverAsks():
        made = made_by(run)
    assert len(made) == 7 * changes.get("fps_factor", 2)
