"""Locks on files, which the system takes back when a process ends in any way. They are optional: some file systems have
none, and then work goes on without.
"""

import errno
import logging
import os
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

HELD = frozenset({errno.EWOULDBLOCK, errno.EAGAIN})
"""What the system answers where another process holds a lock; anything else means that there are no locks."""
_told: set[str] = set()
"""Why there are no locks, as far as it was said."""


class Lock:
    """A lock on a file, which is made for it; a context manager that lets go of it.

    path: never followed if it is a link.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: BinaryIO | None = None
        self.is_certain = False
        """Whether no other process of this machine can have it as well."""
        self.is_new = False
        """Whether the file was not there."""

    def take(self) -> bool:
        """Take the lock without waiting. Returns False if another process holds it. Raises OSError."""
        while self._handle is None:
            handle = self._open()
            try:
                if not self._lock(handle):
                    handle.close()
                    return False
            except BaseException:
                handle.close()
                raise
            if _is_at(self.path, handle):  # its holder may have removed it meanwhile
                self._handle = handle
            else:
                handle.close()
        return True

    def _open(self) -> BinaryIO:
        flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        try:
            number = os.open(self.path, flags | os.O_EXCL, 0o644)
            self.is_new = True
        except FileExistsError:
            number = os.open(self.path, flags, 0o644)
            self.is_new = False
        return os.fdopen(number, "r+b")

    def _lock(self, handle: BinaryIO) -> bool:
        if fcntl is None:
            return True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                return False
            _tell(error.strerror or str(error))
            return True
        self.is_certain = True
        return True

    @property
    def handle(self) -> BinaryIO:
        """The open file. Raises ValueError if the lock is not held."""
        if self._handle is None:
            raise ValueError(f"{self.path} is not locked")
        return self._handle

    @property
    def is_held(self) -> bool:
        """Whether this holds the lock."""
        return self._handle is not None

    def release(self, *, remove: bool = False) -> None:
        """Let go of it; remove: remove its file too, if that is still this one. Never raises."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        try:
            if remove and _is_at(self.path, handle):
                self.path.unlink()
        except OSError as error:
            logger.debug("%s is not removed: %s", self.path, error)
        finally:
            handle.close()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: Any) -> None:
        self.release()


def _is_at(path: Path, handle: BinaryIO) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(handle.fileno())
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _tell(reason: str) -> None:
    if reason not in _told:
        _told.add(reason)
        logger.warning("files cannot be locked here (%s); do not let two processes make the same output", reason)
