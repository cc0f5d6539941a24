"""Which operations a call spends a device's time in."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from stvsr_cli.bench.floor import synchronise


@dataclass(frozen=True, slots=True)
class Operation:
    """All calls of an operation with inputs of the same shapes."""

    name: str
    """PyTorch's own, without the namespace."""
    shapes: str
    """Of its tensors, such as 1x16x272x480."""
    calls: int
    seconds: float
    """Of the device, in the operation itself."""
    share: float
    """Of the device's time in all operations."""


@torch.inference_mode()
def operations(run: Callable[[], object], device: torch.device, most: int) -> list[Operation]:
    """The operations that take most of a device's time in a call, the longest first; `most` of them."""
    on_card = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
    with profile(activities=activities, record_shapes=True) as profiled:
        run()
        synchronise(device)
    found = {}
    for event in profiled.key_averages(group_by_input_shape=True):
        if event.key.startswith("aten::"):
            shapes = " ".join("x".join(map(str, shape)) for shape in event.input_shapes if shape)
            spent = event.self_device_time_total if on_card else event.self_cpu_time_total
            found[event.key.removeprefix("aten::"), shapes] = event.count, spent / 1e6
    total = sum(seconds for _, seconds in found.values()) or 1.0
    listed = sorted(found.items(), key=lambda item: -item[1][1])[:most]
    return [Operation(*kind, calls, seconds, seconds / total) for kind, (calls, seconds) in listed]
