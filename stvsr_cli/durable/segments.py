"""Segments: stretches of encoded video, each whole in itself, on disk to stay, and joined without encoding again.

A segment file holds the packets of one encoder from its first picture to its last. It begins with `MAGIC` and the
length of the encoder's headers, then those headers; each packet follows as `RECORD` (pts, dts, duration, whether it
is a keyframe, number of bytes) and its bytes. Times are ticks of the output's time base, counted as in the source.
"""

import errno
import hashlib
import logging
import os
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stvsr_cli.errors import OutputError
from stvsr_cli.media.read.decode import Picture
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.write.encode import Packet
from stvsr_cli.media.write.mux import OutputSpec
from stvsr_cli.media.write.packets import PacketEncoder
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.runtime import watchdog
from stvsr_cli.runtime.parts import part_path, publish

logger = logging.getLogger(__name__)

MAGIC = b"stvsr-segment-1\n"
LENGTH = struct.Struct("<I")
RECORD = struct.Struct("<qqq?I")


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A finished segment."""

    name: str
    """Name of its file."""
    num_bytes: int
    sha256: str
    num_frames: int
    delay: int
    """Frames by which decoding must run ahead of showing."""


class SegmentWriter:
    """Encodes pictures into a segment file with an encoder of its own; a context manager that leaves it whole or not.

    The file has a temporary name until `finish`, and is removed without it. Raises OutputError.
    """

    def __init__(self, path: Path, target: Path, source: VideoInfo, spec: OutputSpec, encoder: EncoderConfig) -> None:
        self._path, self._part = path, part_path(path)
        self._stamps: list[int] = []
        self._digest, self._num_bytes = hashlib.sha256(), 0
        self._encoder = PacketEncoder(target, source, spec, encoder)
        try:
            self._file: BinaryIO = open(self._part, "wb")
            extradata = self._encoder.extradata
            self._put(MAGIC + LENGTH.pack(len(extradata)) + extradata)
        except OSError as error:
            self._encoder.close()
            raise _failure(error, self._part) from error

    def write(self, picture: Picture, pts: int, duration: int) -> None:
        """Encode the next picture. pts, duration: ticks of the time base, counted as in the source."""
        self._write_packets(self._encoder.encode(picture, pts, duration))

    def _write_packets(self, packets: Iterable[Packet]) -> None:
        try:
            for packet in packets:
                head = RECORD.pack(packet.pts, packet.dts, packet.duration, packet.keyframe, len(packet.data))
                self._put(head + packet.data)
                self._stamps.append(packet.pts)
        except OSError as error:
            raise _failure(error, self._part) from error

    def _put(self, data: bytes) -> None:
        with watchdog.busy("write"):
            self._file.write(data)
        self._digest.update(data)
        self._num_bytes += len(data)

    def finish(self) -> Segment:
        """Encode what waits, put the file on disk to stay, and give it its name."""
        self._write_packets(self._encoder.flush())
        try:
            with watchdog.busy("write"):
                self._file.close()
                publish(self._part, self._path)
        except OSError as error:
            raise _failure(error, self._part) from error
        finally:
            self.discard()
        return Segment(
            name=self._path.name,
            num_bytes=self._num_bytes,
            sha256=self._digest.hexdigest(),
            num_frames=len(self._stamps),
            delay=reorder_delay(self._stamps),
        )

    def discard(self) -> None:
        """Give up what is not finished; never raises."""
        try:
            self._file.close()
        except OSError as error:  # a full disk, of which has been told
            logger.debug("closing %s: %s", self._part, error)
        self._encoder.close()
        self._part.unlink(missing_ok=True)


def reorder_delay(stamps: list[int]) -> int:
    """The most places by which a frame is decoded later than it is shown. stamps: in order of decoding."""
    rank = {pts: place for place, pts in enumerate(sorted(stamps))}
    return max((place - rank[pts] for place, pts in enumerate(stamps)), default=0)


def is_whole(folder: Path, segment: Segment) -> bool:
    """Whether a segment's file is there, byte for byte."""
    path = folder / segment.name
    try:
        with path.open("rb") as handle:
            if os.fstat(handle.fileno()).st_size != segment.num_bytes:
                return False
            return hashlib.file_digest(handle, "sha256").hexdigest() == segment.sha256
    except OSError:
        return False


def extradata(path: Path) -> bytes:
    """The headers of a segment's encoder. Raises OutputError if the file is not a segment."""
    with _opened(path) as handle:
        return _head(handle, path)


def read(path: Path) -> Iterator[Packet]:
    """The packets of a segment, in order of decoding. Raises OutputError if the file is not a segment."""
    with _opened(path) as handle:
        _head(handle, path)
        while head := handle.read(RECORD.size):
            pts, dts, duration, keyframe, size = RECORD.unpack(head)
            yield Packet(pts, dts, duration, keyframe, handle.read(size))


def joined(paths: Iterable[Path], delay: int) -> Iterator[Packet]:
    """The packets of segments that follow each other, as one encoder would have given them.

    delay: the greatest of the segments'. Frames keep their times of presentation to the tick. Times of decoding are
    made anew: frame i is decoded when frame i - delay is shown, which no frame's presentation lies before.
    """
    shown: deque[int] = deque()
    begun = False
    for path in paths:
        stamps = sorted(packet.pts for packet in read(path))
        if not begun and stamps:
            shown.extend(_before(stamps, delay))
            begun = True
        shown.extend(stamps)
        for packet in read(path):
            yield Packet(packet.pts, shown.popleft(), packet.duration, packet.keyframe, packet.data)


def _before(stamps: list[int], delay: int) -> list[int]:
    """Times of decoding of the first `delay` frames, before the first is shown."""
    step = max(1, stamps[delay] - stamps[0] if len(stamps) > delay else 1)
    if len(stamps) > delay:
        return [stamps[i] - step for i in range(delay)]
    return [stamps[0] - step * (delay - i) for i in range(delay)]


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}.", hint="--resume force starts over.") from error


def _head(handle: BinaryIO, path: Path) -> bytes:
    if handle.read(len(MAGIC)) != MAGIC:
        raise OutputError(f"{path} is not a segment.", hint="--resume force starts over.")
    return handle.read(LENGTH.unpack(handle.read(LENGTH.size))[0])


def _failure(error: OSError, path: Path) -> OutputError:
    if error.errno == errno.ENOSPC:
        return OutputError(f"writing {path} failed: the disk is full.", hint="Free space and run the command again.")
    return OutputError(f"writing {path} failed: {error.strerror or error}.", hint="Check the disk.")
