"""A thread that works ahead of its consumer, by a few items."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

from stvsr_cli import watch

Item = TypeVar("Item")


class Ahead(Iterator[Item]):
    """Runs an iterator in a thread, a few items ahead; what fails there is raised here, and so is a stall."""

    def __init__(self, source: Generator[Item, None, None], size: int) -> None:
        self._source = source
        self._queue: queue.Queue[tuple[str, object]] = queue.Queue(size)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=watch.in_context(self._run), name="decode", daemon=True)
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
        with watch.waiting():
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
                return self._queue.get(timeout=watch.POLL_S)
            except queue.Empty:
                watch.check()

    def close(self) -> None:
        """Stop the thread and wait for it, unless it hangs."""
        self._stop.set()
        watch.join(self._thread)
