"""Claims: who works on which output, so that several processes share a batch without doing a file twice.

A claim is a hidden file beside the output that its holder keeps locked, and touches now and then. A process on this
machine that is gone has no lock any more. What another machine locks cannot be seen on every shared disk, so that its
claim counts as long as it is touched: watched by this machine's own clock, never by comparing two.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from stvsr_cli.runtime.locks import Lock
from stvsr_cli.runtime.names import derived
from stvsr_cli.runtime.parts import started

logger = logging.getLogger(__name__)

BEAT_S = 10.0
"""How often a claim's file is touched while it is held."""
GONE_S = 35.0
"""A claim of another machine that is watched for so long and not touched is given up."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds a claim."""

    pid: int
    host: str
    started: int | None
    """When the process began, in the system's own ticks, so that a reused number is noticed; None if unknown."""

    def __str__(self) -> str:
        """Say which process it is."""
        return f"process {self.pid} on {self.host}" if self.host else "another process"


UNKNOWN = Owner(0, "", None)
"""The holder of a claim that cannot be read."""


def this_process() -> Owner:
    """The process this runs in."""
    return Owner(os.getpid(), socket.gethostname(), started(os.getpid()))


def claim_path(target: Path) -> Path:
    """Where the claim on an output lies: beside it, hidden."""
    return derived(target, ".claim", head=".")


class Claims:
    """The claims of one batch, and what it has seen of those of others."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, float]] = {}
        """When a claim of another machine was touched, and since when that is known."""
        self._moved: set[Path] = set()
        """Those that were touched since."""

    @contextmanager
    def on(self, target: Path) -> Iterator[Owner | None]:
        """Hold the claim on an output for as long as the block runs.

        Yields None if this process has it, else the process that does. The claim of a process that is gone is taken
        over; where none can be written, there is none.
        """
        lock = Lock(claim_path(target))
        try:
            owner = self._take(lock)
        except OSError as error:
            logger.warning("%s cannot be claimed: %s", target, error.strerror)
            lock.release()
            yield None
            return
        if owner is not None:
            lock.release()
            yield owner
            return
        done = threading.Event()
        beat = threading.Thread(target=_beat, args=(lock, done), name="claim", daemon=True)
        beat.start()
        try:
            yield None
        finally:
            done.set()
            beat.join()
            lock.release(remove=True)

    def is_undecided(self, target: Path) -> bool:
        """Whether it is not known yet if the holder of a claim is still there."""
        path = claim_path(target)
        return path in self._seen and path not in self._moved

    def _take(self, lock: Lock) -> Owner | None:
        """Take a claim; return the process that holds it if it is not to be had."""
        path = lock.path
        if path.is_symlink():  # no process makes one: never followed, and a dangling one could never be taken
            logger.warning("%s is a link, not a claim; it is removed", path)
            path.unlink(missing_ok=True)
        if not lock.take():
            self._seen.pop(path, None)
            return _written(path)
        handle = lock.handle
        content = handle.read()
        if content or not (lock.is_certain or lock.is_new):
            owner = parsed(content)
            if self._may_be_there(path, owner, os.fstat(handle.fileno()).st_mtime_ns, lock.is_certain):
                return owner or UNKNOWN
            logger.warning("%s: the process that was working on it is gone; taking over its claim", path)
            handle.seek(0)
            handle.truncate()
        handle.write(json.dumps(asdict(this_process())).encode())
        handle.flush()
        self._seen.pop(path, None)
        return None

    def _may_be_there(self, path: Path, owner: Owner | None, touched: int, is_certain: bool) -> bool:
        """Whether the holder of a claim that is not locked may still work. is_certain: whether locks work here."""
        if owner is not None and owner.host == socket.gethostname():
            return not is_certain and is_running(owner)
        before, since = self._seen.get(path, (None, 0.0))
        if before != touched:
            if before is not None:
                self._moved.add(path)
            self._seen[path] = (touched, time.monotonic())
            return True
        return time.monotonic() - since < GONE_S


def _written(path: Path) -> Owner:
    try:
        return parsed(path.read_bytes()) or UNKNOWN
    except OSError:
        return UNKNOWN


def _beat(lock: Lock, done: threading.Event) -> None:
    while not done.wait(BEAT_S):
        try:
            os.utime(lock.handle.fileno() if os.utime in os.supports_fd else lock.path)
        except OSError as error:
            logger.debug("the claim %s cannot be touched: %s", lock.path, error)


def is_running(owner: Owner) -> bool:
    """Whether a process of this machine still runs."""
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return owner.started is None or started(owner.pid) in (None, owner.started)


def parsed(content: bytes) -> Owner | None:
    """The process that a claim names, or None if it cannot be read."""
    try:
        record = json.loads(content)
        return Owner(int(record["pid"]), str(record["host"]), record["started"])
    except (ValueError, KeyError, TypeError):
        return None
