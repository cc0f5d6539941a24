"""Where a run may be cut into segments, and from where it can go on."""

from dataclasses import dataclass

from stvsr_cli.job.timeline import Slot
from stvsr_cli.job.windows import WindowConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """Where a run goes on. Frames are input frames, counted from 0."""

    frame: int = 0
    """The first frame whose output is not finished."""
    context: int = 0
    """The first frame that the model must see for that; its output is thrown away up to `frame`."""
    shot: int = 0
    """The first frame of the shot that `frame` lies in."""
    num_shots: int = 0
    """Shots before that one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """What a whole run came to."""

    frames_in: int
    frames_out: int
    num_shots: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Cutter:
    """Where segments end: at shots, and in long shots at windows."""

    windows: WindowConfig
    batch: int
    """Windows per call of the model."""
    num_frames: int
    """Output frames after which a segment ends with the next window; with the next shot after a quarter of them."""

    def ends_before(self, slot: Slot, shot: int, count: int) -> bool:
        """Whether a segment of `count` frames ends before an output frame of the shot that begins at frame `shot`."""
        if slot.step:
            return False
        if slot.source == shot:
            return 4 * count >= self.num_frames
        return count >= self.num_frames and (slot.source - shot) % self._step == 0

    def context(self, source: int, shot: int) -> int:
        """The first frame the model must see, so that from frame `source` on the output is the same to the bit.

        That is the start of the earliest window that reaches it, or of that window's batch: windows are cut and
        gathered into batches from the shot's first frame on.
        """
        window = (source - shot) // self._step
        first = max(0, window - (self.windows.size - 1) // self._step)
        return shot + (first - first % self.batch) * self._step

    def seen(self, stop: int, shot: int) -> int:
        """One past the last frame the model must see, so that up to frame `stop` the output is the same to the bit.

        stop: a frame of the shot with which a window begins. The batch of the window before it ends there, unless the
        shot ends first.
        """
        windows = (stop - shot) // self._step
        whole = -(-windows // self.batch) * self.batch
        return shot + (whole - 1) * self._step + self.windows.size

    @property
    def _step(self) -> int:
        return self.windows.size - self.windows.overlap
