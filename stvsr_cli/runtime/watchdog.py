"""A watch over the stages of a run: one that makes no progress for too long is named, and the run ends.

Each thread says what it works on with `busy`, and with `waiting` that it waits for another thread, which is no stall
of its own. The watch of a run is entered in the thread that drives it; threads that are started with `in_context`
report to the same one. Where no watch is entered, all of this does nothing.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token, copy_context
from dataclasses import dataclass
from types import TracebackType

from stvsr_cli.errors import StallError, UsageError

STAGES = {
    "read": "reading the input",
    "model": "the model",
    "convert": "converting pictures",
    "encode": "encoding",
    "write": "writing the output",
}
"""What each stage does, in words."""
DEFAULT_S = 1800.0
"""How long a stage may take for one step, unless it is patient."""
GRACE_S = 5.0
"""How long a run may take to end in order after a stall, before the last resort."""
LEAVE_S = 1.0
"""How long a thread may take to end after a stall, before it is held for the one that hangs."""
POLL_S = 0.2
"""How often what waits looks whether the run has stalled."""


@dataclass(slots=True)
class _Work:
    """What a thread is at."""

    stage: str | None
    """None while it waits for another."""
    patient: bool
    since: float


def check_timeout(timeout_s: float | None) -> None:
    """Raise UsageError for a timeout that is none."""
    if timeout_s is not None and not 0 <= timeout_s < float("inf"):
        raise UsageError(f"stall-timeout={timeout_s} must be 0, for never, or a number of seconds.")


class Watch:
    """Watches a run's stages in a thread; a context manager.

    timeout_s: seconds that a stage may take for one step; 0 for any; None for `DEFAULT_S`, and any for stages that are
    patient. hint: what the error says beside the stage. last_resort: called in the watch's own thread with the error
    if the run has not ended `GRACE_S` after a stall, because the thread that drives it hangs itself.
    """

    def __init__(
        self,
        timeout_s: float | None = None,
        *,
        hint: str | None = None,
        last_resort: Callable[[StallError], None] | None = None,
    ) -> None:
        check_timeout(timeout_s)
        self._limit_s = DEFAULT_S if timeout_s is None else timeout_s
        self._spares_patient = timeout_s is None
        self._hint, self._last_resort = hint, last_resort
        self.error: StallError | None = None
        self._at: dict[int, list[_Work]] = {}
        self._now = 0.0
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._token: Token[Watch] | None = None

    def __enter__(self) -> "Watch":
        self._token = _current.set(self)
        if self._limit_s > 0:
            self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        if self._token is not None:
            _current.reset(self._token)

    def _run(self) -> None:
        tick = min(1.0, self._limit_s / 4)
        before, noticed = time.monotonic(), 0.0
        while not self._done.wait(tick):
            now = time.monotonic()
            # Own time, which stands still while the whole process does: a laptop's sleep is no stall.
            self._now += min(now - before, 2 * tick)
            before = now
            if self.error is None:
                self.error = self._stalled()
                noticed = self._now
            elif self._last_resort is not None and self._now - noticed > GRACE_S:
                self._last_resort(self.error)
                return

    def _stalled(self) -> StallError | None:
        for stack in list(self._at.values()):
            for work in stack[-1:]:
                spared = work.stage is None or (work.patient and self._spares_patient)
                if not spared and self._now - work.since > self._limit_s:
                    stage = work.stage or ""
                    return StallError(
                        f"no progress for {self._limit_s:g} s in the stage {stage}: {STAGES[stage]}.", hint=self._hint
                    )
        return None

    @contextmanager
    def at(self, stage: str | None, patient: bool) -> Iterator[None]:
        """What this thread does inside; None: it waits for another."""
        stack = self._at.setdefault(threading.get_ident(), [])
        stack.append(_Work(stage, patient, self._now))
        try:
            yield
        finally:
            stack.pop()
            if stack:
                stack[-1].since = self._now
            else:
                del self._at[threading.get_ident()]


_current: ContextVar[Watch] = ContextVar("watch", default=Watch())  # noqa: B039  # one that is never entered


@contextmanager
def busy(stage: str, *, patient: bool = False) -> Iterator[None]:
    """What happens inside is a step of a stage of `STAGES`.

    patient: a step may take any time unless a timeout was asked for.
    """
    with _current.get().at(stage, patient):
        yield


@contextmanager
def waiting() -> Iterator[None]:
    """Inside, this thread waits for another one."""
    with _current.get().at(None, True):
        yield


def check() -> None:
    """Raise StallError if the run has stalled."""
    error = _current.get().error
    if error is not None:
        raise error


def has_stalled() -> bool:
    """Whether a stage has stalled, so that its thread cannot be waited for."""
    return _current.get().error is not None


def join(thread: threading.Thread) -> bool:
    """Wait for a thread to end. Returns whether it did: after a stall it may be the one that hangs."""
    while thread.is_alive() and not has_stalled():
        thread.join(POLL_S)
    thread.join(LEAVE_S)
    return not thread.is_alive()


def in_context(function: Callable[[], None]) -> Callable[[], None]:
    """The function, for a new thread, so that what it does there is watched by the watch of this one."""
    context = copy_context()
    return lambda: context.run(function)
