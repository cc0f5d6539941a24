"""Frames between the main memory and the model's device: codes in, codes out.

Where the model runs on the CPU itself there is nothing to hand over, and its frames are converted one by one in the
thread that asks for them.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stvsr_cli.color.convert import codes_to_rgb, plane_tensors, to_rgb
from stvsr_cli.color.planes import PlaneFormat, pack, picture_in, unpack
from stvsr_cli.engine.lanes import Done, Lanes, Mark, wait_for
from stvsr_cli.media.read.decode import Picture

FLOAT_BYTES = 4


class Sent(Protocol):
    """A frame that the model has made, or is making."""

    def picture(self) -> Picture:
        """The frame at its output size as planes; waits until it is there. May be asked for more than once."""
        ...


class Handover(Protocol):
    """Brings frames to a device and its results back."""

    def bring(self, picture: Picture) -> tuple[Tensor, Mark]:
        """A picture as RGB on the device, [3, h, w] in [0, 1], and when it will be there."""
        ...

    def send(self, frames: Tensor) -> list[Sent]:
        """Queue the way back of frames [T, 3, H, W] on the device."""
        ...

    @property
    def frame_bytes(self) -> int:
        """Main memory that a frame takes while it waits to be converted."""
        ...


@dataclass(frozen=True, slots=True)
class HostFrame:
    """A frame in main memory."""

    frame: Tensor
    form: PlaneFormat

    def picture(self) -> Picture:
        """See `Sent`."""
        return picture_in(self.frame[None], self.form, self.form.place)


class HostHandover:
    """The handover of a model that runs on the CPU."""

    def __init__(self, form: PlaneFormat) -> None:
        self._form = form

    def bring(self, picture: Picture) -> tuple[Tensor, Mark]:
        """See `Handover`."""
        return to_rgb([picture])[0].clamp_(0, 1), Done()

    def send(self, frames: Tensor) -> list[Sent]:
        """See `Handover`."""
        return [HostFrame(frame, self._form) for frame in frames]

    @property
    def frame_bytes(self) -> int:
        """See `Handover`."""
        return 3 * FLOAT_BYTES * self._form.width * self._form.height


class Pool:
    """Buffers in main memory that are used again and again; as many as are ever in use at once."""

    def __init__(self, lanes: Lanes, num_samples: int, dtype: torch.dtype) -> None:
        self._lanes, self._num_samples, self._dtype = lanes, num_samples, dtype
        self._lock = threading.Lock()
        self._free: list[Tensor] = []
        self.num_made = 0
        """Buffers that there are."""

    def take(self) -> Tensor:
        """A buffer that nobody uses."""
        with self._lock:
            if self._free:
                return self._free.pop()
            self.num_made += 1
        return self._lanes.buffer((self._num_samples,), self._dtype)

    def give_back(self, buffer: Tensor) -> None:
        """Let others use a buffer."""
        with self._lock:
            self._free.append(buffer)


class DeviceFrame:
    """A frame whose codes are on their way from a device."""

    def __init__(self, buffer: Tensor, mark: Mark, form: PlaneFormat, pool: Pool) -> None:
        self._buffer, self._mark, self._form, self._pool = buffer, mark, form, pool
        self._picture: Picture | None = None

    def picture(self) -> Picture:
        """See `Sent`."""
        if self._picture is None:
            wait_for(self._mark)
            self._picture = unpack(self._buffer, self._form)
            self._pool.give_back(self._buffer)
        return self._picture


class DeviceHandover:
    """The handover of a model on a device of its own: pictures come and go in their formats' codes."""

    def __init__(self, form: PlaneFormat, lanes: Lanes) -> None:
        self._form, self._lanes = form, lanes
        self.pool = Pool(lanes, form.num_samples, form.dtype)

    def bring(self, picture: Picture) -> tuple[Tensor, Mark]:
        """See `Handover`."""
        with torch.inference_mode():
            return self._lanes.bring(
                lambda bring: codes_to_rgb([bring(p) for p in plane_tensors(picture)], picture).clamp_(0, 1)
            )

    def send(self, frames: Tensor) -> list[Sent]:
        """See `Handover`."""
        return list(self._sent(frames))

    def _sent(self, frames: Tensor) -> Iterator[Sent]:
        with torch.inference_mode():
            for codes in pack(frames, self._form):
                buffer = self.pool.take()
                yield DeviceFrame(buffer, self._lanes.take(codes, buffer), self._form, self.pool)

    @property
    def frame_bytes(self) -> int:
        """See `Handover`."""
        return self._form.num_bytes


def handover_of(form: PlaneFormat, lanes: Lanes) -> Handover:
    """The handover of a device."""
    return HostHandover(form) if lanes.device.type == "cpu" else DeviceHandover(form, lanes)
