"""A device that works by itself, as a GPU does: what is queued on it is done later, in order, in a thread of its own."""

import queue
import threading
import time
from contextlib import contextmanager

import torch

from stvsr_cli.engine.lanes import Lanes


class Queued(Lanes):
    """Computes on the CPU at once, takes its time in its own thread, and only then hands results over."""

    is_asynchronous = True

    def __init__(self, seconds_a_group=0.0):
        super().__init__(torch.device("cpu"))
        self._seconds = seconds_a_group
        self._work = queue.Queue()
        self.spans = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            work, done = self._work.get()
            begin = time.perf_counter()
            with torch.inference_mode():
                work()
            self.spans.append((begin, time.perf_counter()))
            done.set()

    def _add(self, work):
        done = threading.Event()
        self._work.put((work, done))
        done.synchronize = done.wait
        return done

    def _compute(self):
        time.sleep(self._seconds)

    @contextmanager
    def timed(self):
        yield
        self._add(self._compute)

    def take(self, source, target):
        return self._add(lambda: target.copy_(source))

    def buffer(self, shape, dtype):
        return torch.full(shape, 77, dtype=dtype)  # what is read too early shows

    def seconds(self):
        return sum(end - begin for begin, end in self.spans)
