"""Clips: the bytes of a video file that reading a stretch of it takes, so that they can be read elsewhere.

What is read is found by reading: of the packets between two moments, and of whatever the container wants to be read
for them. So a clip is read as the file itself would be, by the same code, whatever the container and the codec.
"""

import bisect
import io
import os
from dataclasses import dataclass
from typing import BinaryIO

import av.error

from stvsr_cli.media.read.part import seek_video
from stvsr_cli.media.read.probe import VideoInfo, open_input

MARGIN_FRAMES = 2
"""Frames after the stretch that deinterlacing looks at."""
EARLY_FRAMES = (0, 8, 64, 300)
"""By how much earlier to begin, one after the other: files that are found by their times of decoding, or have no
index, do not lead to the keyframe that is needed at first."""
REORDERED_PACKETS = 64
"""Packets to read on where a file gives no times of decoding: more than any codec lets come out of turn."""

Part = tuple[int, bytes]
"""Bytes of a file, and where they lie."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Parts of a file."""

    name: str
    size: int
    """Bytes of the whole file."""
    seeks: tuple[int, ...]
    """Ticks of the video's time base from which to read; none for the whole file, which is read from its start."""
    parts: tuple[Part, ...]

    @property
    def is_whole(self) -> bool:
        """Whether this is the whole file."""
        return not self.seeks


def seeks(info: VideoInfo, first: int) -> list[int]:
    """Moments from which to try to read a frame, one after the other. first: when it is shown."""
    return sorted({max(info.start_pts, first - early * info.frame_ticks) for early in EARLY_FRAMES}, reverse=True)


def cut_clip(info: VideoInfo, first: int, last: int) -> tuple[tuple[Part, ...], Clip] | None:
    """What must be read of a local video for the frames from one moment to another.

    first, last: ticks of the input's time base. Returns what is read before the first packet, which is the same for all
    clips of a file, and the rest; None if that cannot be told.
    """
    for seek in seeks(info, first):
        with info.path.open("rb") as handle:
            file = _Recorded(handle, str(info.path))
            head: tuple[Part, ...] = ()
            try:
                with open_input(info.path, file=file) as container:
                    head = file.taken()
                    begins = _read_on(container, info, seek, last)
            except (av.error.FFmpegError, OSError):
                return None
            if begins is not None and begins <= first:
                size = os.fstat(handle.fileno()).st_size
                return head, Clip(str(info.path), size, (seek,), file.taken())
    return None


def _read_on(container: "av.container.InputContainer", info: VideoInfo, seek: int, last: int) -> int | None:
    """Read all packets from before a moment to another moment; returns when the first keyframe is shown."""
    stream = container.streams[info.stream_index]
    scale = info.time_base / (info.stream_base or info.time_base)
    limit = round((last + MARGIN_FRAMES * info.frame_ticks) * scale)
    if seek > info.start_pts:
        seek_video(container, stream, info, seek - info.ticks_before, by_time=True)
    begins: int | None = None
    late = 0
    for packet in info.clock.followed(container.demux(stream)):
        if packet.pts is None and packet.dts is None:
            continue
        begins = packet.pts if begins is None and packet.is_keyframe else begins
        late += packet.dts is None and packet.pts is not None and packet.pts > limit
        if (packet.dts is not None and packet.dts > limit) or late > REORDERED_PACKETS:
            break
    return None if begins is None else round(begins / scale)


def whole_clip(info: VideoInfo) -> Clip:
    """All of a local video's file."""
    data = info.path.read_bytes()
    return Clip(str(info.path), len(data), (), ((0, data),))


class _Recorded(io.RawIOBase):
    """A file that keeps what is read of it."""

    def __init__(self, handle: BinaryIO, name: str) -> None:
        self.name = name
        self._handle = handle
        self._parts: dict[int, bytes] = {}

    def read(self, size: int = -1) -> bytes:
        at = self._handle.tell()
        data = self._handle.read(size)
        if len(data) > len(self._parts.get(at, b"")):
            self._parts[at] = data
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._handle.seek(offset, whence)

    def tell(self) -> int:
        return self._handle.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def taken(self) -> tuple[Part, ...]:
        """What was read since the last call, without overlaps, in order."""
        merged: list[tuple[int, bytearray]] = []
        for at, data in sorted(self._parts.items()):
            if merged and at <= merged[-1][0] + len(merged[-1][1]):
                start, held = merged[-1]
                held += data[max(0, start + len(held) - at) :]
            elif data:
                merged.append((at, bytearray(data)))
        self._parts.clear()
        return tuple((at, bytes(data)) for at, data in merged)


class ClipFile(io.RawIOBase):
    """A file of which only a clip, and its head, are there; elsewhere it ends."""

    def __init__(self, clip: Clip, head: tuple[Part, ...] = ()) -> None:
        self.name = clip.name
        self._size, self._at = clip.size, 0
        self._parts = sorted((*head, *clip.parts))
        self._begins = [at for at, _ in self._parts]

    def read(self, size: int = -1) -> bytes:
        data = self._there(self._at)
        data = data if size < 0 else data[:size]
        self._at += len(data)
        return bytes(data)

    def _there(self, at: int) -> memoryview:
        """What is there from a place on."""
        for number in range(bisect.bisect_right(self._begins, at) - 1, -1, -1):
            begin, data = self._parts[number]
            if begin <= at < begin + len(data):
                return memoryview(data)[at - begin :]
        return memoryview(b"")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
