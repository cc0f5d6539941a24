"""Threads with bounded queues: one that works ahead of its consumer, one that works behind its producer."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

from stvsr_cli.runtime import watchdog

Item = TypeVar("Item")

QUEUE_FRAMES = 8
"""Frames that may wait for the encoder."""


class Channel(Generic[Item]):
    """A bounded queue from one thread to another, which either of them can end; what failed is raised at both ends.

    Whoever waits at it raises StallError if the run stalls meanwhile.
    """

    def __init__(self, size: int) -> None:
        self._size, self._items = size, deque[Item]()
        self._changed = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> bool:
        """Hand over an item when there is room; returns False if the other thread wants no more."""
        with self._changed:
            self._wait_while(lambda: len(self._items) >= self._size)
            if self._ended:
                self._raise()
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def __iter__(self) -> Iterator[Item]:
        """Yield items as they come, until the end."""
        while True:
            with self._changed:
                self._wait_while(lambda: not self._items)
                if not self._items:
                    self._raise()
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item

    def _wait_while(self, condition: Callable[[], bool]) -> None:
        with watchdog.waiting():
            while condition() and not self._ended:
                if not self._changed.wait(watchdog.POLL_S):
                    watchdog.check()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def end(self, error: BaseException | None = None, *, drop: bool = False) -> None:
        """Let no more in. error: raised from now on where the queue is empty. drop: throw away what still waits."""
        with self._changed:
            self._ended, self._error = True, self._error or error
            if drop:
                self._items.clear()
            self._changed.notify_all()

    @property
    def error(self) -> BaseException | None:
        """What failed."""
        return self._error


class Ahead(Iterator[Item]):
    """Runs an iterator in a thread, a few items ahead; what fails there is raised here, and so is a stall."""

    def __init__(self, source: Generator[Item, None, None], size: int) -> None:
        self._source, self._channel = source, Channel[Item](size)
        self._items = iter(self._channel)
        self._thread = threading.Thread(target=watchdog.in_context(self._run), name="decode", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._source:
                if not self._channel.put(item):
                    return
        except BaseException as failure:  # raised again in the consumer
            error = failure
        finally:
            self._source.close()
            self._channel.end(error)

    def __next__(self) -> Item:
        return next(self._items)

    def close(self) -> None:
        """Stop the thread and wait for it, unless it hangs."""
        self._channel.end(drop=True)
        watchdog.join(self._thread)


class Worker(Generic[Item]):
    """A thread that handles items from a bounded queue; what fails there is raised again in the caller.

    stage: which of `watchdog.STAGES` it is.
    """

    def __init__(self, handle: Callable[[Item], None], stage: str, size: int = QUEUE_FRAMES) -> None:
        self._handle, self._stage, self._channel = handle, stage, Channel[Item](size)
        self._thread = threading.Thread(target=watchdog.in_context(self._run), name=stage, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._channel:
                with watchdog.busy(self._stage):
                    self._handle(item)
        except BaseException as error:  # raised again where the next item is put
            self._channel.end(error, drop=True)

    def put(self, item: Item) -> None:
        """Hand over an item; waits while the queue is full. Raises what failed before, and StallError."""
        self._channel.put(item)

    def close(self) -> None:
        """Wait until all is done, and raise what failed, or StallError."""
        self.stop()
        if self._channel.error is not None:
            raise self._channel.error
        watchdog.check()

    def stop(self) -> bool:
        """Wait until all is done; never raises. Returns whether it is: after a stall the thread may hang."""
        self._channel.end()
        return self._join()

    def abort(self) -> bool:
        """Leave undone what still waits; never raises. Returns whether the thread has ended: it may hang."""
        self._channel.end(RuntimeError("aborted"), drop=True)
        return self._join()

    def _join(self) -> bool:
        with watchdog.waiting():
            return watchdog.join(self._thread)

    @property
    def has_ended(self) -> bool:
        """Whether the thread has ended, so that what it worked on may be closed."""
        return not self._thread.is_alive()
