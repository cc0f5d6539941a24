"""Segments of a run whose output is pictures: stretches of them, written down with their checksums.

The pictures themselves lie where they belong, each whole from the start. A segment's file only lists them, a line
each: checksum, number of bytes, name.
"""

import hashlib
from pathlib import Path

from stvsr_cli.durable.segments import Segment, is_whole
from stvsr_cli.errors import OutputError
from stvsr_cli.media.images import ImageOutput
from stvsr_cli.media.read.decode import Picture
from stvsr_cli.runtime.parts import sync_file, sync_folder, write_whole


class PictureSegment:
    """Writes a stretch of pictures, and a file that lists them; see `segments.SegmentWriter`."""

    def __init__(self, path: Path, out: ImageOutput) -> None:
        self._path, self._out = path, out
        self._lines: list[str] = []

    def write(self, picture: Picture, pts: int, duration: int) -> None:
        """Write the next picture."""
        self._out.write(picture, pts, duration)
        path = self._out.latest
        data = path.read_bytes()
        self._lines.append(f"{hashlib.sha256(data).hexdigest()} {len(data)} {path.name}\n")

    def finish(self) -> Segment:
        """Put the pictures and their list on disk to stay."""
        data = "".join(self._lines).encode()
        try:
            for line in self._lines:
                sync_file(self._out.target.with_name(_parsed(line)[2]))
            sync_folder(self._out.target.parent)
            write_whole(self._path, data)
        except OSError as error:
            raise OutputError(f"writing {self._path} failed: {error.strerror}.", hint="Check the disk.") from error
        digest = hashlib.sha256(data).hexdigest()
        return Segment(name=self._path.name, num_bytes=len(data), sha256=digest, num_frames=len(self._lines), delay=0)

    def discard(self) -> None:
        """Nothing is open; the pictures stay, and are made again."""


def are_whole(folder: Path, segment: Segment, pictures: Path) -> bool:
    """Whether a segment's list and all its pictures, in the folder `pictures`, are there, byte for byte."""
    if not is_whole(folder, segment):
        return False
    for line in (folder / segment.name).read_text().splitlines(keepends=True):
        digest, size, name = _parsed(line)
        try:
            data = (pictures / name).read_bytes()
        except OSError:
            return False
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            return False
    return True


def _parsed(line: str) -> tuple[str, int, str]:
    digest, size, name = line.rstrip("\n").split(" ", 2)
    return digest, int(size), name
