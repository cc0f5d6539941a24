"""What the ffmpeg binary says of a file and PyAV does not: where chroma lies, what is cropped, what data tracks are."""

import re
import subprocess
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from stvsr_cli.media.ffmpeg import find_ffmpeg
from stvsr_cli.media.read.siting import LOCATIONS

TIMEOUT_S = 20
STREAM = re.compile(r"^ *Stream #0:(\d+)\b", re.MULTILINE)
CROP = re.compile(r"Frame cropping: (\d+)/(\d+)/(\d+)/(\d+)", re.IGNORECASE)
DATA = re.compile(r"Data: (\w+)(?: \([^)]*\))*? \((\S+) / 0x")


@dataclass(frozen=True, kw_only=True, slots=True)
class Banner:
    """What is said of one file."""

    siting: dict[int, str] = field(default_factory=dict)
    """By stream: where chroma lies, one of `siting.LOCATIONS`; only where it is said."""
    crops: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    """By stream: pixels that the container says to leave out, left, top, right and bottom."""
    data: dict[int, str] = field(default_factory=dict)
    """By stream: the four characters by which a data track is known, or its codec."""


def read_banner(path: Path) -> Banner:
    """What is said of a local file; nothing where the binary cannot be run."""
    try:
        state = path.stat()
    except OSError:
        return Banner()
    return _parsed(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _parsed(path: Path, size: int, modified_ns: int) -> Banner:
    binary = find_ffmpeg()
    if binary is None:
        return Banner()
    command = [binary, "-v", "verbose", "-nostdin", "-protocol_whitelist", "file", "-i"]
    try:
        done = subprocess.run([*command, f"file:{path}"], capture_output=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return Banner()
    return parse_banner(done.stderr.decode("utf-8", "replace"))


def parse_banner(text: str) -> Banner:
    """The banner in what the binary writes about a file."""
    heads = list(STREAM.finditer(text))
    siting: dict[int, str] = {}
    crops: dict[int, tuple[int, int, int, int]] = {}
    data: dict[int, str] = {}
    for number, head in enumerate(heads):
        finish = heads[number + 1].start() if number + 1 < len(heads) else len(text)
        part, index = text[head.start() : finish], int(head[1])
        line = part.splitlines()[0]
        if found := re.search(r"Video:.*?\byuvj?\d+p\w*\(([^)]*)\)", line):
            for word in (word.strip() for word in found[1].split(",")):
                if word in LOCATIONS:
                    siting[index] = word
        if found := CROP.search(part):
            left, right, top, bottom = (int(value) for value in found.groups())
            crops[index] = (left, top, right, bottom)
        if found := DATA.search(line):
            data[index] = found[2] if "[" not in found[2] else found[1]
        elif found := re.search(r"Data: (\w+)", line):
            data[index] = found[1]
    return Banner(siting=siting, crops=crops, data=data)
