"""Recorder: a run's output frames, cut into segments that the journal keeps."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol

from stvsr_cli.durable.journal import Journal, reached
from stvsr_cli.durable.segments import Segment
from stvsr_cli.errors import Interrupted
from stvsr_cli.job.cutter import Cutter, Point
from stvsr_cli.job.timeline import Slot
from stvsr_cli.media.read.decode import Picture
from stvsr_cli.runtime.workers import Worker


class Writer(Protocol):
    """Takes the pictures of one segment."""

    def write(self, picture: Picture, pts: int, duration: int) -> None:
        """Take the next picture. pts, duration: ticks of the time base, counted as in the source."""
        ...

    def finish(self) -> Segment:
        """Put the segment on disk to stay, under its name."""
        ...

    def discard(self) -> None:
        """Give up what is not finished; never raises."""
        ...


class Recorder:
    """Takes a run's output frames and writes them as segments, in a thread; a context manager.

    new_writer: makes the writer of a segment at a path. stop: when set, the run ends with the segment in work, by
    Interrupted.
    """

    def __init__(
        self,
        journal: Journal,
        cutter: Cutter,
        new_writer: Callable[[Path], Writer],
        stop: threading.Event | None = None,
    ) -> None:
        self._journal, self._cutter, self._new_writer, self._stop = journal, cutter, new_writer, stop
        self._writer: Writer | None = None
        self._count = 0
        self._num_shots = journal.point.num_shots
        self._shot: int | None = None
        self._next = 0

    def __enter__(self) -> "Recorder":
        self._worker: Worker[tuple[Picture, Slot, int]] = Worker(self._record, "encode")
        return self

    def write(self, picture: Picture, slot: Slot, shot: int) -> None:
        """Take the next output frame. shot: first input frame of the shot it lies in."""
        self._worker.put((picture, slot, shot))

    def _record(self, item: tuple[Picture, Slot, int]) -> None:
        picture, slot, shot = item
        if self._writer is not None and self._cutter.ends_before(slot, shot, self._count):
            before = self._num_shots - (shot == self._shot)
            context = self._cutter.context(slot.source, shot)
            self._end(Point(frame=slot.source, context=context, shot=shot, num_shots=before))
            if self._stop is not None and self._stop.is_set():
                raise Interrupted(
                    f"stopped after {self._journal.frames_out} frames, which are kept in {self._journal.folder}.",
                    hint="Run the same command to continue from there.",
                )
        if shot != self._shot:
            self._shot, self._num_shots = shot, self._num_shots + 1
        if self._writer is None:
            self._writer, self._count = self._new_writer(self._journal.next_name()), 0
        self._writer.write(picture, slot.pts, slot.duration)
        self._count += 1
        self._next = slot.source + 1

    def _end(self, point: Point) -> None:
        if self._writer is None:
            return
        reached("segment")
        segment = self._writer.finish()
        reached("segment written")
        self._journal.add(segment, point)
        self._writer = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._worker.close()
                end = self._next
                self._end(Point(frame=end, context=end, shot=end, num_shots=self._num_shots))
            else:
                self._worker.abort()
        finally:
            if self._writer is not None and self._worker.has_ended:
                self._writer.discard()
