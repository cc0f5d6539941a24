"""The scan: a video read ahead of the workers, in a thread, to find its stretches."""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from stvsr_cli.errors import Interrupted
from stvsr_cli.job.job import Job
from stvsr_cli.job.stretches import Stretch, Stretches
from stvsr_cli.media.read.glances import Chunk, Glance, chunks_of, joined_moments
from stvsr_cli.media.read.moments import Differs, Moment, moments
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.read.repeats import LONGEST

logger = logging.getLogger(__name__)

CHUNK_FRAMES = 960
"""Fewest frames of a chunk that is looked over by itself."""

Look = Callable[[VideoInfo, Sequence[Chunk]], Iterator[list[Glance]]]
"""Looks over the chunks of a video, by many at once; raises Differs where that cannot be done."""


class Scan:
    """Reads a video, in a thread, and finds its stretches.

    known: takes the moments of all frames, in order. look: looks over long videos, in chunks.
    """

    def __init__(self, job: Job, info: VideoInfo, stretches: Stretches, known: list[Moment], look: Look) -> None:
        self._job, self._info, self._stretches, self._known = job, info, stretches, known
        self._look = look
        self._queue: queue.SimpleQueue[Stretch] = queue.SimpleQueue()
        self._end = threading.Event()
        self._error: BaseException | None = None
        self.seconds = 0.0
        self.last_number = 0
        self._thread = threading.Thread(target=self._run, name="scan", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        begin = time.perf_counter()
        try:
            for stretch in self._stretches.of(self._seen()):
                self.last_number = stretch.number
                self._queue.put(stretch)
        except BaseException as error:  # raised again where the stretches are taken
            self._error = error
        self.seconds = time.perf_counter() - begin

    def _seen(self) -> Iterator[Moment]:
        """The frames; what their repeats are made from is known by then."""
        waiting: deque[Moment] = deque()
        ahead = LONGEST if self._info.smooths_repeats else 0
        for moment in self._moments():
            if self._end.is_set():
                raise Interrupted("the scan was stopped.")
            self._known.append(moment)
            waiting.append(moment)
            if len(waiting) > ahead:
                yield waiting.popleft()
        yield from waiting

    def _moments(self) -> Iterator[Moment]:
        """All moments: by looks at chunks, as far as those give what reading in one go does; the rest by that."""
        job, info = self._job, self._info
        smooth, is_part = info.smooths_repeats, job.start is not None or job.end is not None
        chunks = None if smooth or is_part else chunks_of(info, CHUNK_FRAMES)
        if chunks is not None and len(chunks) > 1:
            try:
                yield from joined_moments(chunks, self._look(info, chunks), mode=job.cuts)
                return
            except Differs as difference:
                logger.debug("the scan goes on in one go: %s", difference)
        known = len(self._known)
        for number, moment in enumerate(
            moments(info, start=job.start, end=job.end, threads=job.threads, mode=job.cuts, repeats=smooth)
        ):
            if number >= known:
                yield moment

    def found(self) -> Iterator[Stretch]:
        """The stretches that were found since the last call. Raises what ended the scan."""
        while not self._queue.empty():
            yield self._queue.get()
        self.check()

    def check(self) -> None:
        """Raise what ended the scan, unless it was told to end."""
        if self._error is not None and not self._end.is_set():
            raise self._error

    @property
    def is_done(self) -> bool:
        """Whether no more stretches will be found."""
        return not self._thread.is_alive() and self._queue.empty()

    def end(self) -> None:
        """Read no further."""
        self._end.set()
