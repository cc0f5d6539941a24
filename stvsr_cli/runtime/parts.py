"""Files that are there whole or not at all: written under a temporary name, put on disk to stay, then renamed.

A temporary name says which process writes the file: what a process left behind that is gone can be told, and removed.
"""

import errno
import logging
import os
import re
import secrets
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

MAX_NAME_BYTES = 255
"""Length of a file's name that file systems allow."""
TOKEN = re.compile(r"\.([0-9a-f]+)-([0-9a-f]+)-([0-9a-f]{8})-[0-9a-f]{8}\.part$")
"""Ends a temporary name: the process, when it began, its machine, and chance."""


def part_path(target: Path) -> Path:
    """A new name beside the target for what is not finished, no longer than a name may be."""
    pid = os.getpid()
    tail = f".{pid:x}-{started(pid) or 0:x}-{_machine()}-{secrets.token_hex(4)}.part"
    return target.with_name(f".{_head(target, tail)}{tail}")


def _head(target: Path, tail: str) -> str:
    return os.fsencode(target.name)[: MAX_NAME_BYTES - len(tail) - 1].decode(errors="ignore")


def remove_orphans(target: Path) -> None:
    """Remove unfinished files of a target, or of a numbered pattern's pictures, whose process on this machine is gone.

    Never raises: what cannot be removed stays.
    """
    try:
        found = [path for path in target.parent.iterdir() if _is_orphan(path, target)]
    except OSError as error:
        logger.debug("%s: %s", target.parent, error)
        return
    for path in found:
        logger.info("%s is removed: the process that wrote it is gone", path)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.debug("%s: %s", path, error)


def _is_orphan(path: Path, target: Path) -> bool:
    match = TOKEN.search(path.name)
    if match is None or not path.name.startswith("."):
        return False
    head, (before, percent, _) = path.name[1 : match.start()], target.name.partition("%")
    if head != _head(target, match[0]) and not (percent and head.startswith(before) and head.endswith(target.suffix)):
        return False
    return match[3] == _machine() and not _runs(int(match[1], 16), int(match[2], 16))


def _runs(pid: int, begun: int) -> bool:
    """Whether a process still runs; where that cannot be asked, it is taken to."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return not begun or started(pid) in (None, begun)


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def started(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot, where /proc tells."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


@contextmanager
def replacing(target: Path, *, stay: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside a file; what is written there takes the file's place, unless something fails.

    stay: put it on disk to stay before that. Raises OSError.
    """
    part = part_path(target)
    try:
        yield part
        publish(part, target, stay=stay)
    finally:
        part.unlink(missing_ok=True)


def write_whole(target: Path, content: bytes | str, *, stay: bool = True) -> None:
    """Write a file, all at once. stay: as for `replacing`. Raises OSError."""
    with replacing(target, stay=stay) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def publish(part: Path, target: Path, *, overwrite: bool = True, stay: bool = True) -> None:
    """Give a finished file its name. Raises FileExistsError if it may not overwrite one that is there, and OSError."""
    if stay:
        sync_file(part)
    if overwrite:
        part.replace(target)
    else:
        _rename_to_new(part, target)
    if stay:
        sync_folder(target.parent)


def _rename_to_new(part: Path, target: Path) -> None:
    try:
        os.link(part, target)  # unlike a rename, fails if someone else made the file meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        part.rename(target)
    else:
        part.unlink()


def sync_file(path: Path) -> None:
    """Put a file's bytes on disk to stay. Raises OSError."""
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on disk to stay, where the system can. Raises OSError."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except PermissionError:  # as Windows answers for any folder
        return
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(number)
