"""Work that threads do ahead of who takes its results."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def made_ahead(work: Callable[[Item], Made], items: Iterable[Item], workers: int, most: int) -> Iterator[Made]:
    """Yield what so many threads make of the items, in order; no more than `most` items are taken beyond what they work on.

    For work in which NumPy, OpenCV and decoders let go of the interpreter.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > workers + most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
