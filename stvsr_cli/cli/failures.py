"""From an exception to one line and an exit code; from a signal to an orderly end."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from stvsr_cli.errors import DeviceError, Interrupted, StvsrError

logger = logging.getLogger(__name__)

GRACE_S = 3.0
"""Seconds that clearing up after Ctrl-C may take before the process ends at once."""
PATIENCE_S = 1.5
"""Seconds after Ctrl-C in which the segment in work may still be finished."""
SIGNALS = tuple(number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)))
"""Signals that ask the program to end, where the system has them."""
FAULT_HINT = "Run again with --traceback and report what it prints."


class Stop:
    """How Ctrl-C is passed on to a run that can end at a good place."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.armed = False
        """Whether something runs that looks at `asked`."""
        self.finishes = False
        """Whether what runs finishes its output from what it has, and is given any time for that."""

        self.is_ending = False
        """Whether the run has ended and what came of it is being said, which nothing is to cut short."""

    def hears(self, number: int) -> bool:
        """Whether a signal is a wish to end at a good place, and not at once."""
        return self.armed and not self.asked.is_set() and (self.finishes or number == signal.SIGINT)


@contextmanager
def reported(*, traceback: bool, stop: Stop | None = None) -> Iterator[None]:
    """Turn what fails inside into one logged line and the exit code of its kind.

    traceback: let the exception through instead. Ctrl-C, SIGTERM and SIGHUP end the program in order within `GRACE_S`,
    unless it was started with them ignored, as by `nohup`. Where a stop is given and armed, the first Ctrl-C asks for
    it, and stops at once only after `PATIENCE_S`.
    """
    with _signals(stop):
        try:
            yield
        except KeyboardInterrupt:
            _end(Interrupted("interrupted; nothing was written under the output's name."), traceback)
        except StvsrError as error:
            _end(error, traceback)
        except (typer.Exit, typer.Abort):
            raise
        except MemoryError:
            _end(DeviceError("there is not enough memory.", hint="Lower --window or --tile."), traceback)
        except Exception as error:
            if traceback:
                raise
            first = (str(error).splitlines() or [""])[0]
            _end(StvsrError(f"a fault in the program: {type(error).__name__}: {first}", hint=FAULT_HINT), False)


def give_up(error: StvsrError) -> None:
    """Log a failure as one line and end the process at once: its main thread hangs."""
    logger.error("%s", error)
    os._exit(error.exit_code)


def _end(error: StvsrError, traceback: bool) -> None:
    logger.error("%s", error, exc_info=traceback)
    raise typer.Exit(error.exit_code)


@contextmanager
def _signals(wish: Stop | None) -> Iterator[None]:
    """Raise KeyboardInterrupt on the first of `SIGNALS`, once; end the process if clearing up takes too long.

    Once a stop was asked for, further signals are ignored to the process's end: they would replace its exit code.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = threading.Event()
    timers: list[threading.Timer] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if asked.is_set() or (wish is not None and wish.is_ending):
            return
        if wish is not None and wish.hears(number):
            wish.asked.set()
            if wish.finishes:
                logger.warning("stopping; finishing what has been read; press Ctrl-C again to give it up")
                return
            logger.warning("stopping; run the same command to continue from the last finished segment")
            again = threading.Timer(PATIENCE_S, os.kill, (os.getpid(), signal.SIGINT))
            again.daemon = True
            timers.append(again)
            again.start()
            return
        asked.set()
        _end_within(GRACE_S)
        raise KeyboardInterrupt

    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        ending = asked.is_set() or (wish is not None and wish.asked.is_set())
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if ending else handler)
        if ending and not asked.is_set():
            _end_within(GRACE_S)


def _end_within(seconds: float) -> None:
    watchdog = threading.Timer(seconds, os._exit, (Interrupted.exit_code,))
    watchdog.daemon = True
    watchdog.start()
