"""Copies to a device and back that run beside its work, and clocks that do not stop it.

A CUDA device has three lanes: one on which the model computes, one on which frames come, one on which codes leave. They
meet by events, never by waiting for the whole device. A CPU, and a device without streams, has one.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from stvsr_cli.runtime import watchdog


class Mark(Protocol):
    """A moment in a lane's work."""

    def synchronize(self) -> None:
        """Wait until the work has come so far."""
        ...


class Done:
    """A moment that has been reached."""

    def synchronize(self) -> None:
        """Return at once."""


class Lanes:
    """The one lane of a device whose work is done when a call returns."""

    is_asynchronous = False
    """Whether work is queued, so that calls return before it is done."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._spent = 0.0

    def bring(self, make: Callable[[Callable[[Tensor], Tensor]], Tensor]) -> tuple[Tensor, Mark]:
        """Make a tensor on the device from some in main memory. make: is given what brings one there."""
        return make(lambda tensor: tensor.to(self.device)), Done()

    def arrive(self, tensor: Tensor, mark: Mark) -> Tensor:
        """Let the device's work from here on use what was brought."""
        return tensor

    def take(self, source: Tensor, target: Tensor) -> Mark:
        """Copy what the device's work makes up to here into main memory; it is there when the mark is reached."""
        target.copy_(source)
        return Done()

    def buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Main memory that `take` copies into."""
        return torch.empty(shape, dtype=dtype)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count what the device does inside to `seconds`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._spent += time.perf_counter() - begin

    def seconds(self) -> float:
        """Seconds that the device was at what was timed, as far as it is done."""
        return self._spent


class CudaLanes(Lanes):
    """The lanes of a CUDA device."""

    is_asynchronous = True

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._coming, self._leaving = (torch.cuda.Stream(device) for _ in range(2))
        self._spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def bring(self, make: Callable[[Callable[[Tensor], Tensor]], Tensor]) -> tuple[Tensor, Mark]:
        """See `Lanes`; copies are pinned first, so that they run while the model computes."""
        with torch.cuda.stream(self._coming):
            tensor = make(lambda part: part.pin_memory().to(self.device, non_blocking=True))
            return tensor, self._coming.record_event()

    def arrive(self, tensor: Tensor, mark: Mark) -> Tensor:
        """See `Lanes`."""
        current = torch.cuda.current_stream(self.device)
        if isinstance(mark, torch.cuda.Event):
            current.wait_event(mark)
        tensor.record_stream(current)
        return tensor

    def take(self, source: Tensor, target: Tensor) -> Mark:
        """See `Lanes`."""
        self._leaving.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._leaving):
            target.copy_(source, non_blocking=True)
            source.record_stream(self._leaving)
            return self._leaving.record_event()

    def buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Lanes`; pinned."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """See `Lanes`."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record(torch.cuda.current_stream(self.device))
        try:
            yield
        finally:
            end.record(torch.cuda.current_stream(self.device))
            self._spans.append((begin, end))

    def seconds(self) -> float:
        """See `Lanes`."""
        done = 0
        while done < len(self._spans) and self._spans[done][1].query():
            done += 1
        self._spent += sum(begin.elapsed_time(end) for begin, end in self._spans[:done]) / 1000
        del self._spans[:done]
        return self._spent


def lanes_of(device: torch.device) -> Lanes:
    """The lanes of a device."""
    return CudaLanes(device) if device.type == "cuda" else Lanes(device)


def wait_for(mark: Mark) -> None:
    """Wait until a mark is reached; any time that takes is the model's."""
    with watchdog.busy("model", patient=True):
        mark.synchronize()
