"""The pool: workers on a Ray cluster, and the pieces of work that wait for them, longest first.

Ray places the workers, starts them again after they die, there or on another machine, and carries what travels. The
pool hands each free worker the longest piece, takes back what a dead one had in work, and gives it to another.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from stvsr_cli.engine.ray.pieces import Facts, Made, Outcome, answer
from stvsr_cli.errors import DeviceError, ModelError, StallError, StvsrError

logger = logging.getLogger(__name__)

MOST_LOSSES = 5
"""Workers that one piece may lose before it is given up: it is then what ends them."""
POLL_S = 0.1
TELL_S = 0.5
"""How often workers are asked how far they are."""
LONELY_S = 60.0
"""After so many seconds without any worker, that is said."""
LOW_MEMORY = ("OutOfMemoryError", "running low on memory")
"""What Ray's errors say of a worker that it ended because its machine ran out of memory."""


@dataclass(slots=True, eq=False)
class Task:
    """A piece of work that waits for a worker, or is in work."""

    cost: int
    """Input frames, by which the longest goes first."""
    send: "Callable[[Seat, Task], Any]"
    """Calls the worker; returns Ray's reference to its outcome."""
    future: "Future[Made]" = field(default_factory=Future)
    losses: int = 0
    """Workers that ended with it."""
    whole: bool = False
    """Whether packets did not do, so that the whole input must be sent."""
    shunned: "set[int]" = field(default_factory=set)
    """Workers that had too little memory for it."""
    frames: int = 0
    """Output frames of it, so far."""


@dataclass(slots=True, eq=False)
class Seat:
    """A worker's place in the pool; the process in it may change."""

    number: int
    actor: Any
    facts: Facts | None = None
    """What the worker is; None while it starts."""
    starting: Any = None
    """Reference to its facts, while it starts."""
    task: Task | None = None
    work: Any = None
    """Reference to the outcome of its task."""
    told: Any = None
    """Reference to its status, while it is asked for."""
    frames: int = 0
    """Output frames of the pieces it has finished."""
    since: float = 0.0
    """When its first piece began."""
    is_out: bool = False
    """Whether it cannot be used."""
    halvings: int = 0
    """How often its batch was halved, because memory ran out."""

    @property
    def name(self) -> str:
        """The worker's name in progress: its machine and number."""
        return f"{self.facts.host if self.facts else 'starting'}/{self.number}"

    @property
    def fps(self) -> float:
        """Output frames a second since its first piece."""
        done = self.frames + (self.task.frames if self.task else 0)
        return done / max(time.monotonic() - self.since, 1e-9) if self.since else 0.0


def batch_of(planned: int, seat: Seat, task: Task) -> int:
    """Windows per model call of a piece on a worker: as planned, or half as often as memory ran out there.

    A piece that has cost two workers, which may be how a system ends what takes too much memory, gets less, too.
    """
    return max(1, planned >> (seat.halvings + max(0, task.losses - 1)))


class Pool:
    """Workers and what they do; a context manager. Its methods may be called from any thread.

    actors: handles of Ray actors of the class `worker.Worker`. stall_s: seconds without any worker after which work
    fails; None: any.
    """

    def __init__(self, actors: Iterable[Any], *, stall_s: float | None = None) -> None:
        import ray

        self._ray = ray
        self.seats = [Seat(number, actor) for number, actor in enumerate(actors)]
        self._waiting: list[Task] = []
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._closed = False
        self._first: Future[Facts] = Future()
        self._stall_s, self._asked = stall_s, 0.0
        self._error: BaseException | None = None
        self._lonely_since, self._has_said = time.monotonic(), False
        self._thread = threading.Thread(target=self._run, name="pool", daemon=True)

    def __enter__(self) -> "Pool":
        for seat in self.seats:
            self._start(seat)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._closed = True
        self._changed.set()
        self._thread.join()
        for seat in self.seats:
            self._ray.kill(seat.actor)

    def submit(self, cost: int, send: Callable[[Seat, Task], Any]) -> Task:
        """Have a piece made by whichever worker is free. Raises what has ended the pool."""
        task = Task(cost, send)
        with self._lock:
            if self._error is not None:
                raise self._error
            self._waiting.append(task)
        self._changed.set()
        return task

    def cancel(self, tasks: Iterable[Task]) -> None:
        """Forget pieces that no worker has begun."""
        with self._lock:
            for task in tasks:
                if task in self._waiting:
                    self._waiting.remove(task)
                    task.future.cancel()
                    task.future.set_running_or_notify_cancel()

    def facts(self, timeout_s: float | None = None) -> Facts:
        """What the workers are; waits for the first. Raises what kept it from starting, and TimeoutError."""
        return self._first.result(timeout_s)

    def get(self, reference: Any) -> Any:
        """What a worker has answered."""
        return self._ray.get(reference)

    def put(self, value: Any) -> Any:
        """Lay something out for workers to fetch; returns a reference, which becomes it there."""
        return self._ray.put(value)

    def rates(self) -> dict[str, float]:
        """Output frames a second of each worker, by its name."""
        return {seat.name: round(seat.fps, 3) for seat in self.seats if seat.facts is not None}

    def _start(self, seat: Seat) -> None:
        """Ask a worker what it is, as soon as Ray has started it."""
        seat.facts = None
        seat.starting = seat.actor.prepare.options(max_task_retries=-1).remote()

    def _run(self) -> None:
        try:
            while not self._closed:
                self._assign()
                references = [r for s in self.seats for r in (s.starting, s.work, s.told) if r is not None]
                if not references:
                    self._changed.wait(POLL_S)
                    self._changed.clear()
                    continue
                ready, _ = self._ray.wait(references, num_returns=1, timeout=POLL_S)
                if ready:
                    ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
                for reference in ready:
                    self._handle(reference)
                self._ask_all()
                self._watch()
        except BaseException as error:
            logger.debug("the pool ends: %s", error, exc_info=True)
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """End everything that waits or is in work."""
        with self._lock:
            self._error = error
            tasks = [*self._waiting, *(seat.task for seat in self.seats if seat.task is not None)]
            self._waiting.clear()
        for task in tasks:
            if not task.future.done():
                task.future.set_exception(error)
        if not self._first.done():
            self._first.set_exception(error)

    def _assign(self) -> None:
        """Give every free worker the longest piece that it may have."""
        free = [seat for seat in self.seats if seat.facts is not None and seat.task is None]
        present = {seat.number for seat in self.seats if seat.facts is not None}
        for seat in free:
            with self._lock:
                allowed = [t for t in self._waiting if seat.number not in t.shunned or t.shunned >= present]
                task = max(allowed, key=lambda task: task.cost, default=None)
                if task is None:
                    continue
                self._waiting.remove(task)
            try:
                seat.task, seat.work, task.frames = task, task.send(seat, task), 0
            except self._ray.exceptions.RayError as error:
                self._lost(seat, task, error)
                continue
            except Exception as error:
                seat.task = None
                task.future.set_exception(error)
                continue
            seat.since = seat.since or time.monotonic()

    def _handle(self, reference: Any) -> None:
        seat = next((s for s in self.seats if reference in (s.starting, s.work, s.told)), None)
        if seat is None:  # of a worker that was found dead meanwhile
            return
        is_start, is_work = reference == seat.starting, reference == seat.work
        try:
            value = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # a fault in the program, which would come again
            if seat.task is not None and is_work:
                seat.task.future.set_exception(error.cause if isinstance(error.cause, Exception) else error)
                seat.task = seat.work = None
            elif is_start:
                seat.starting = None
                self._leave_out(seat, _as_fault(error))
            else:
                seat.told = None
            return
        except self._ray.exceptions.RayError as error:
            if is_start:
                seat.starting = None
                self._leave_out(seat, _as_fault(error))
            elif is_work:
                self._lost(seat, seat.task, error)
            else:
                seat.told = None
            return
        if is_start:
            seat.starting = None
            self._welcome(seat, value)
        elif is_work:
            self._take(seat, answer(value))
        else:
            seat.told = None
            if seat.task is not None:
                seat.task.frames = value

    def _welcome(self, seat: Seat, facts: Facts | StvsrError) -> None:
        if isinstance(facts, StvsrError):
            self._leave_out(seat, facts)
            return
        known = self._first.result() if self._first.done() else facts
        if facts.sameness != known.sameness:
            names = [n for n in facts.sameness if facts.sameness[n] != known.sameness[n]]
            what = "; ".join(f"{n} {facts.sameness[n] or 'none'}, not {known.sameness[n] or 'none'}" for n in names)
            self._leave_out(seat, ModelError(f"the worker on {facts.host} has {what}."))
            return
        seat.facts = facts
        logger.info("worker %s is there, process %d", seat.name, facts.pid)
        if not self._first.done():
            self._first.set_result(facts)

    def _leave_out(self, seat: Seat, error: StvsrError) -> None:
        """Go on without a worker that cannot be used; without any, everything fails."""
        seat.is_out = True
        if all(s.is_out for s in self.seats):
            self._fail(error)
        else:
            logger.warning("continuing without a worker: %s", error)

    def _take(self, seat: Seat, outcome: Outcome) -> None:
        """Take what a worker has made of its piece, or have it made again."""
        task, seat.task, seat.work = seat.task, None, None
        for note in outcome.notes:
            logger.warning("worker %s: %s", seat.name, note)
        if task is None:
            return
        if outcome.made is not None:
            seat.frames += task.frames if outcome.made.segment is None else outcome.made.segment.num_frames
            task.future.set_result(outcome.made)
        elif outcome.no_memory:
            logger.warning("worker %s is out of memory and continues with half the batch", seat.name)
            seat.halvings += 1
            task.shunned.add(seat.number)
            self._again(task)
        elif outcome.differs:
            logger.info("%s: the whole file is sent", outcome.differs)
            task.whole = True
            self._again(task)
        elif isinstance(outcome.error, StallError) and task.losses + 1 < MOST_LOSSES:
            seat.task = task
            self._ray.kill(seat.actor, no_restart=False)
            self._lost(seat, task, outcome.error)
        else:
            task.future.set_exception(outcome.error or DeviceError("a worker made nothing."))

    def _lost(self, seat: Seat, task: Task | None, error: Exception) -> None:
        """Have a dead worker's piece made elsewhere; Ray starts the worker again."""
        logger.warning("worker %s was lost (%s); its work is done again", seat.name, type(error).__name__)
        logger.debug("%s", error)
        if any(sign in f"{type(error).__name__}: {error}" for sign in LOW_MEMORY):
            seat.halvings += 1
        seat.task = seat.work = seat.told = None
        self._start(seat)
        if task is None:
            return
        task.losses += 1
        if task.losses >= MOST_LOSSES:
            task.future.set_exception(_as_fault(error))
            return
        self._again(task)

    def _again(self, task: Task) -> None:
        with self._lock:
            self._waiting.append(task)

    def _ask_all(self) -> None:
        """Ask the workers that are at something how far they are, now and then."""
        now = time.monotonic()
        if now < self._asked + max(TELL_S, len(self.seats) / 500):
            return
        self._asked = now
        for seat in self.seats:
            if seat.task is not None and seat.told is None:
                seat.told = seat.actor.status.options(concurrency_group="tell").remote()

    def _watch(self) -> None:
        """Say, once, that there is no worker, and give up where that was asked for."""
        if any(seat.facts is not None for seat in self.seats):
            self._lonely_since, self._has_said = time.monotonic(), False
            return
        alone_s = time.monotonic() - self._lonely_since
        if alone_s > LONELY_S and not self._has_said:
            logger.warning("no worker for %d s: the cluster has no room for one, or is starting machines", alone_s)
            self._has_said = True
        if self._stall_s and alone_s > self._stall_s:
            self._fail(StallError(f"no worker for {alone_s:.0f} s.", hint="Look at the cluster with `ray status`."))
            self._lonely_since = time.monotonic()


def _as_fault(error: Exception) -> StvsrError:
    """What a user is told of a worker's death."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    why = f"a worker ended: {lines[0] if lines else type(error).__name__}."
    return DeviceError(why, hint="Lower --batch or --tile; Ray's logs, in /tmp/ray/session_latest/logs, say more.")
