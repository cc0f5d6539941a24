"""A thread that works ahead of its consumer, by a few items."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

from stvsr_cli.runtime import watchdog

Item = TypeVar("Item")


class Ahead(Iterator[Item]):
    """Runs an iterator in a thread, a few items ahead; what fails there is raised here, and so is a stall."""

    def __init__(self, source: Generator[Item, None, None], size: int) -> None:
        self._source = source
        self._queue: queue.Queue[tuple[str, object]] = queue.Queue(size)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=watchdog.in_context(self._run), name="decode", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._source:
                if not self._put(("item", item)):
                    return
            self._put(("end", None))
        except BaseException as error:  # raised again in the consumer
            self._put(("error", error))
        finally:
            self._source.close()

    def _put(self, message: tuple[str, object]) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(message, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __next__(self) -> Item:
        if self._stop.is_set():
            raise StopIteration
        with watchdog.waiting():
            kind, value = self._get()
        if kind == "item":
            return value  # type: ignore[return-value]
        self._stop.set()
        if kind == "error":
            raise value  # type: ignore[misc]
        raise StopIteration

    def _get(self) -> tuple[str, object]:
        while True:
            try:
                return self._queue.get(timeout=watchdog.POLL_S)
            except queue.Empty:
                watchdog.check()

    def close(self) -> None:
        """Stop the thread and wait for it, unless it hangs."""
        self._stop.set()
        watchdog.join(self._thread)


QUEUE_FRAMES = 8
"""Frames that may wait for the encoder."""


class Worker(Generic[Item]):
    """A thread that handles items from a bounded queue; what fails there is raised again in the caller.

    stage: which of `watchdog.STAGES` it is.
    """

    def __init__(self, handle: Callable[[Item], None], stage: str, size: int = QUEUE_FRAMES) -> None:
        self._handle, self._stage = handle, stage
        self._queue: queue.Queue[Item | None] = queue.Queue(size)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=watchdog.in_context(self._run), name=stage, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._error is None:
                try:
                    with watchdog.busy(self._stage):
                        self._handle(item)
                except BaseException as error:  # raised again where the next item is put
                    self._error = error

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def put(self, item: Item) -> None:
        """Hand over an item; waits while the queue is full. Raises what failed before, and StallError."""
        self._check()
        with watchdog.waiting():
            while not self._offer(item):
                watchdog.check()

    def _offer(self, item: Item | None) -> bool:
        try:
            self._queue.put(item, timeout=watchdog.POLL_S)
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """Wait until all is done, and raise what failed, or StallError."""
        self.stop()
        self._check()
        watchdog.check()

    def stop(self) -> bool:
        """Wait until all is done; never raises. Returns whether it is: after a stall the thread may hang."""
        with watchdog.waiting():
            while not self._offer(None):
                if watchdog.has_stalled():
                    return self._offer(None) and watchdog.join(self._thread)
            return watchdog.join(self._thread)

    def abort(self) -> bool:
        """Leave undone what still waits; never raises. Returns whether the thread has ended."""
        self._error = self._error or RuntimeError("aborted")
        return self.stop()

    @property
    def has_ended(self) -> bool:
        """Whether the thread has ended, so that what it worked on may be closed."""
        return not self._thread.is_alive()
