"""Manifests: what a run was given, which segments it has finished, and where to go on after each."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stvsr_cli.durable.segments import Segment
from stvsr_cli.errors import UsageError
from stvsr_cli.job.cutter import Point, Totals

FORMAT = 1
"""Of the manifest; another is not read."""
NAME = "manifest.json"
EDGE_BYTES = 2**20
"""How much of a file's beginning and end is hashed to know it again."""
PIECE_BYTES, NUM_PIECES = 2**14, 32
"""Size and number of the pieces between."""
START_OVER = "Use the same settings, or start over with --resume force."


@dataclass(slots=True)
class Manifest:
    """What the manifest says."""

    settings: dict[str, str]
    pinned: dict[str, int] = field(default_factory=dict)
    segments: list[tuple[Segment, Point]] = field(default_factory=list)
    """Each with the point after it."""
    ahead: dict[int, tuple[Segment, Point]] = field(default_factory=dict)
    """By their numbers, segments that were finished before some that come earlier."""
    totals: Totals | None = None
    inode: int | None = None
    """Of the file that becomes the output, once it is begun."""

    def as_json(self) -> str:
        segments = [_entry(segment, point) for segment, point in self.segments]
        ahead = {str(number): _entry(*found) for number, found in sorted(self.ahead.items())}
        totals = self.totals and asdict(self.totals)
        record = {"format": FORMAT, "settings": self.settings, "pinned": self.pinned, "segments": segments,
                  "ahead": ahead, "totals": totals, "inode": self.inode}  # fmt: skip
        return json.dumps(record, indent=1) + "\n"

    def close_up(self) -> None:
        """Put segments that are ahead into the row as soon as it reaches them."""
        while (found := self.ahead.pop(len(self.segments), None)) is not None:
            self.segments.append(found)


def _entry(segment: Segment, point: Point) -> dict[str, Any]:
    return {**asdict(segment), "next": asdict(point)}


def _parsed(entry: dict[str, Any]) -> tuple[Segment, Point]:
    point = Point(**entry.pop("next"))
    return Segment(**entry), point


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None if there is none. Raises UsageError if it cannot be read."""
    try:
        record = json.loads((folder / NAME).read_text())
        if record["format"] != FORMAT:
            raise ValueError(f"its format is {record['format']}")
        segments = [_parsed(entry) for entry in record["segments"]]
        ahead = {int(number): _parsed(entry) for number, entry in record.get("ahead", {}).items()}
        totals = record["totals"] and Totals(**record["totals"])
        return Manifest(record["settings"], record["pinned"], segments, ahead, totals, record["inode"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder} cannot be read: {error}.", hint="--resume force starts over.") from error


def compare(before: Mapping[str, str], now: Mapping[str, str], folder: Path) -> None:
    """Raise UsageError, saying what differs, if a run was given something else than the one before."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        changes = "; ".join(f"{name} was {before.get(name)}, is {now.get(name)}" for name in names)
        raise UsageError(f"{folder} holds an unfinished run with other settings: {changes}.", hint=START_OVER)


def file_identity(path: Path) -> dict[str, str]:
    """What an input is known by, whenever it was last touched: its size, and a hash of pieces of it."""
    status = path.stat()
    return {"input size": str(status.st_size), "input hash": _sampled(path, EDGE_BYTES, NUM_PIECES).hexdigest()[:16]}


def files_identity(paths: Iterable[Path]) -> dict[str, str]:
    """What a sequence of files is known by: a hash of their names, and of pieces of each."""
    digest = hashlib.sha256()
    num_files = 0
    for path in paths:
        digest.update(path.name.encode(errors="surrogateescape") + _sampled(path, PIECE_BYTES, 1).digest())
        num_files += 1
    return {"input files": str(num_files), "input hash": digest.hexdigest()[:16]}


def _sampled(path: Path, edge_bytes: int, num_pieces: int) -> Any:
    """A hash of a file's size, its beginning and end, and pieces spread evenly between them."""
    with path.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        digest = hashlib.sha256(str(size).encode() + handle.read(edge_bytes))
        for number in range(1, num_pieces + 1):
            handle.seek(number * size // (num_pieces + 1))
            digest.update(handle.read(PIECE_BYTES))
        handle.seek(max(0, size - edge_bytes))
        digest.update(handle.read(edge_bytes))
    return digest


def fingerprint(paths: Iterable[Path], sha256: Callable[[Path], str]) -> str:
    """A short hash of the bytes of files, and of all files in folders. sha256: gives the digits of a file's own."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            digest.update(bytes.fromhex(sha256(file)))
    return digest.hexdigest()[:16]
