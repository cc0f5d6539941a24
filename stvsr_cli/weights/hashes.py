"""SHA-256 of large files, remembered as long as a file stays what it was, so that weights are not read twice to load once.

A remembered sum counts only for the same path, inode, size, time of change and time of the inode's change, to the
nanosecond, and only if the file had rested for a while when it was read: a later change within the clock's grain cannot
hide. Where nothing can be remembered, files are read each time.
"""

import hashlib
import json
import logging
import os
import time
from pathlib import Path

from stvsr_cli.runtime.parts import write_whole

logger = logging.getLogger(__name__)

NAME = "hashes.json"
SMALL = 2**20
"""Smaller files are read each time."""
RESTED_NS = 2_000_000_000
"""A file that changed later than this before it was read is read again the next time."""
MOST = 1000
"""Files remembered, the newest."""


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits, of the bytes that are there now."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class Hashes:
    """Sums remembered in a folder; None: they are not."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / NAME

    def of(self, path: Path) -> str:
        """The SHA-256 of a file: the remembered one if the file is what it was, or else of the bytes."""
        status = path.stat()
        if status.st_size < SMALL:
            return sha256(path)
        name, state = str(path.resolve()), _state(status)
        known = self._read()
        entry = known.get(name)
        if isinstance(entry, list) and len(entry) == 2 and entry[0] == state:
            return str(entry[1])
        return self._look(path, name, known)

    def again(self, path: Path) -> str:
        """The SHA-256 of the bytes that are there now, remembered from now on."""
        if path.stat().st_size < SMALL:
            return sha256(path)
        return self._look(path, str(path.resolve()), self._read())

    def _look(self, path: Path, name: str, known: dict[str, list[object]]) -> str:
        before, now = path.stat(), time.time_ns()
        found = sha256(path)
        after = path.stat()
        known.pop(name, None)
        rested = now - max(before.st_mtime_ns, before.st_ctime_ns) > RESTED_NS
        if rested and _state(before) == _state(after):
            known[name] = [_state(after), found]
        self._write(dict(list(known.items())[-MOST:]))
        return found

    def _read(self) -> dict[str, list[object]]:
        if self._path is None:
            return {}
        try:
            table = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return table if isinstance(table, dict) else {}

    def _write(self, table: dict[str, list[object]]) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(table), stay=False)
        except OSError as error:
            logger.debug("sums are not remembered: %s", error)


def _state(status: os.stat_result) -> list[int]:
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
