"""Names derived from a file's own name, which fit wherever that fits."""

import hashlib
import os
from pathlib import Path

MAX_NAME_BYTES = 255
"""Length of a file's name that most file systems allow, where the system does not say."""


def derived(target: Path, tail: str, *, head: str = "") -> Path:
    """The path beside a target of its name between a head and a tail; a name too long is cut, and told by a hash."""
    name = f"{head}{target.name}{tail}"
    room = max_name_bytes(target.parent)
    if len(os.fsencode(name)) <= room:
        return target.with_name(name)
    tail = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}{tail}"
    kept = os.fsencode(target.name)[: max(0, room - len(os.fsencode(head + tail)))].decode(errors="ignore")
    return target.with_name(f"{head}{kept}{tail}")


def max_name_bytes(folder: Path) -> int:
    """The length of a name that a folder takes."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):
        return MAX_NAME_BYTES
