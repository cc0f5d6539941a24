"""A stand-in for a Ray cluster: a worker in this process, and a pool that makes the latest piece first."""

import threading
from concurrent.futures import Future

import torch

from stvsr_cli.engine.ray.looks import look
from stvsr_cli.engine.ray.pieces import Tools
from stvsr_cli.engine.ray.pool import Seat, Task
from stvsr_cli.engine.ray.worker import Worker
from stvsr_cli.job.report import Loaded
from stvsr_cli.media.read.moments import Differs
from stvsr_cli.pipeline import upscale as local
from stvsr_cli.pipeline.distributed import Workers
from stvsr_cli.pipeline.loading import plan_on
from tests.durable.test_resume import Failing


class Method:
    """A worker's method, called as Ray's are."""

    def __init__(self, function):
        self._function = function

    def options(self, **_):
        return self

    def remote(self, *arguments):
        return self._function(*arguments)


class Actor:
    """A worker, seen as Ray shows it."""

    def __init__(self, worker):
        self._worker = worker

    def __getattr__(self, name):
        return Method(getattr(self._worker, name))


class BackwardPool:
    """Makes what waits in a thread, the latest first, and takes notes of it.

    most: segments after which it fails, or where a stop is given sets that and makes no more.
    """

    def __init__(self, worker, most=10**9, stop=None):
        self.seats = [Seat(0, Actor(worker))]
        self.seats[0].facts = worker.prepare()
        self.made, self._most, self._stop = [], most, stop
        self._waiting, self._lock = [], threading.Lock()

    def facts(self):
        return self.seats[0].facts

    def submit(self, cost, send):
        task = Task(cost, send, Future())
        with self._lock:
            self._waiting.append(task)
        threading.Timer(0.3, self._work).start()  # by then the scan has found more, also on a busy machine
        return task

    def _work(self):
        with self._lock:
            if self._waiting and not (self._stop and self._stop.is_set()):
                self._do(self._waiting.pop())
                if self._stop and len(self.made) == self._most:
                    self._stop.set()

    def _do(self, task):
        outcome = task.send(self.seats[0], task)
        while outcome.differs or outcome.no_memory:
            task.whole |= bool(outcome.differs)
            self.seats[0].halvings += outcome.no_memory
            outcome = task.send(self.seats[0], task)
        if outcome.error is None and len(self.made) < self._most:
            if outcome.made.segment is not None:
                self.made.append(outcome.made.segment.name)
            task.future.set_result(outcome.made)
        else:
            task.future.set_exception(outcome.error or RuntimeError("the cluster broke"))

    def cancel(self, tasks):
        with self._lock:
            for task in [t for t in tasks if t in self._waiting]:
                self._waiting.remove(task)
                task.future.cancel()
                task.future.set_running_or_notify_cancel()

    def get(self, value):
        return value

    def put(self, value):
        return value

    def rates(self):
        return {"here": 1.0}


def look_here(info, chunks, identity, send):
    """Looks over chunks in this process."""
    for chunk in chunks:
        found = look(info, chunk, identity, *send(chunk))
        if isinstance(found, str):
            raise Differs(found)
        yield found


def crew(job, *, ship="never", most=10**9, stop=None, model=None):
    """Workers for a job, with a stand-in model."""
    known = Loaded(model or Failing(), torch.device("cpu"), torch.float32, 0.0, "weights")
    tools = Tools(load=lambda job: known, plan=plan_on, upscale=local.upscale)
    return Workers(BackwardPool(Worker(tools, job), most, stop), ship, look_here)
