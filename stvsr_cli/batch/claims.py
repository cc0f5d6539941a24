"""Claims: who works on which output, so that several processes share a batch without doing a file twice."""

import fcntl
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

logger = logging.getLogger(__name__)

BEAT_S = 30.0
"""How often a claim's file is touched while it is held."""
STALE_S = 300.0
"""A claim from another machine, or one that cannot be read, is stale when it was not touched for this long."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds a claim."""

    pid: int
    host: str
    started: int | None
    """When the process began, in the system's own ticks, so that a reused number is noticed; None if unknown."""


def this_process() -> Owner:
    """The process this runs in."""
    return Owner(os.getpid(), socket.gethostname(), _started(os.getpid()))


def claim_path(target: Path) -> Path:
    """Where the claim on an output lies: beside it, hidden."""
    return target.with_name(f".{target.name}.claim")


@contextmanager
def claimed(target: Path) -> Iterator[Owner | None]:
    """Hold the claim on an output for as long as the block runs.

    Yields None if this process has it, else the process that does. The claim of a process that is gone is taken over.
    """
    path = claim_path(target)
    other = _take(path)
    if other is not None:
        yield other
        return
    done = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, done), name="claim", daemon=True)
    beat.start()
    try:
        yield None
    finally:
        done.set()
        beat.join()
        path.unlink(missing_ok=True)


def _beat(path: Path, done: threading.Event) -> None:
    while not done.wait(BEAT_S):
        try:
            os.utime(path)
        except OSError as error:
            logger.debug("the claim %s cannot be touched: %s", path, error)


def _take(path: Path) -> Owner | None:
    """Take a claim; return the process that holds it if it is not to be had."""
    mine = json.dumps(asdict(this_process())).encode()
    while True:
        try:
            number = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        except FileExistsError:
            if path.is_symlink():  # no process makes one: never followed, and a dangling one could never be taken
                logger.warning("%s is a link and no claim; it is removed", path)
                path.unlink(missing_ok=True)
                continue
            other = _take_over(path, mine)
            if isinstance(other, bool):
                if other:
                    return None
                continue
            return other
        with os.fdopen(number, "wb") as handle:
            handle.write(mine)
        return None


def _take_over(path: Path, mine: bytes) -> Owner | bool:
    """Take an existing claim over: True if that worked, False if it went away meanwhile, or who holds it.

    The lock is held only here: of several processes that find the same stale claim, one gets it.
    """
    try:
        handle = os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "r+b")
    except FileNotFoundError:
        return False
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            here, there = os.fstat(handle.fileno()), os.stat(path)
        except FileNotFoundError:
            return False
        if here.st_ino != there.st_ino:
            return False
        owner = _parsed(handle.read())
        if not is_stale(owner, time.time() - here.st_mtime):
            return owner or Owner(0, "an unknown machine", None)
        logger.warning("%s: the process that worked on it is gone; its claim is taken over", path)
        handle.seek(0)
        handle.truncate()
        handle.write(mine)
        return True


def is_stale(owner: Owner | None, age_s: float) -> bool:
    """Whether the holder of a claim is gone. owner: None if the claim cannot be read. age_s: since it was touched."""
    if owner is None or owner.host != socket.gethostname():
        return age_s > STALE_S
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    started = _started(owner.pid)
    return owner.started is not None and started is not None and started != owner.started


def _parsed(content: bytes) -> Owner | None:
    try:
        record = json.loads(content)
        return Owner(int(record["pid"]), str(record["host"]), record["started"])
    except (ValueError, KeyError, TypeError):
        return None


def _started(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot, where /proc tells."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
