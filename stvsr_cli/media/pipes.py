"""Standard input and output: YUV4MPEG2 as it streams, and containers."""

import fcntl
import logging
import os
import select
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, cast

import av
import av.error
import numpy as np

from stvsr_cli.errors import InputError, OutputError, UsageError
from stvsr_cli.media.read.decode import Frame, Picture, picture_of
from stvsr_cli.media.read.probe import VideoInfo, describe
from stvsr_cli.media.write.choice import fitted
from stvsr_cli.media.write.mux import OutputFile, OutputSpec
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.runtime import watchdog
from stvsr_cli.runtime.workers import Worker

logger = logging.getLogger(__name__)

PIPE = Path("-")
"""Stands for standard input or output."""
Y4M = "y4m"
PIPE_FORMATS = ("matroska", "nut", "mpegts", Y4M)
"""Formats that can be written where nothing can be gone back to; the first is the default."""
MAGIC = b"YUV4MPEG2 "
Y4M_SAMPLING = {
    "yuv420p": "420mpeg2",
    "yuv422p": "422",
    "yuv444p": "444",
    "gray": "mono",
    "yuv420p10le": "420p10 XYSCSS=420P10",
    "yuv422p10le": "422p10 XYSCSS=422P10",
    "yuv444p10le": "444p10 XYSCSS=444P10",
    "gray10le": "mono10",
}
"""Sampling tags of YUV4MPEG2 by pixel format; 420mpeg2 has chroma beside the left pixel, where it is taken to be."""


class Readable(Protocol):
    """A stream of bytes that is read once."""

    def read(self, size: int = -1, /) -> bytes | None:
        """Up to `size` bytes; none at the end."""
        ...


class RawReadable(Readable, Protocol):
    """One with a descriptor, on which can be waited."""

    def fileno(self) -> int:
        """Number of the descriptor."""
        ...


class PipeClosed(Exception):
    """Whoever read the output wants no more of it."""


def is_pipe(path: Path) -> bool:
    """Whether a path is standard input, or a named pipe, which can be read only once as well."""
    try:
        return path == PIPE or stat.S_ISFIFO(path.stat().st_mode)
    except OSError:
        return False


@contextmanager
def open_pipe(path: Path, stop: threading.Event | None = None) -> Iterator["Y4mSource | Path"]:
    """Read a pipe: YUV4MPEG2 as frames that stream; any other container as a temporary file with all of it.

    stop: when set, the pipe is taken to be at its end. Raises InputError if it is empty or cannot be read, UsageError
    if standard input is a terminal.
    """
    if path == PIPE and _is_closed(0, os.O_RDONLY):
        raise InputError("standard input is closed.", hint="Pipe a video into it, or name a file.")
    if path == PIPE and os.isatty(0):
        raise UsageError("standard input is a terminal.", hint="Pipe a video into it, or name a file.")
    with open(0 if path == PIPE else path, "rb", buffering=0, closefd=path != PIPE) as raw:
        stream = _Sniffed(raw, stop)
        name = "standard input" if path == PIPE else str(path)
        if not stream.head:
            raise InputError(f"{name} is empty.", hint="Check what writes into the pipe.")
        if stream.head.startswith(MAGIC):
            source = Y4mSource(stream, name)
            try:
                yield source
            finally:
                source.close()
        else:
            with _spooled(stream, name) as file:
                yield file


def _is_closed(number: int, mode: int) -> bool:
    """Whether a descriptor is not open, or not for reading or writing, as `mode` says."""
    try:
        return fcntl.fcntl(number, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR) not in (mode, os.O_RDWR)
    except OSError:
        return True


class _Sniffed:
    """A stream of which the first bytes have been looked at; it has no seek, so that nobody tries."""

    def __init__(self, raw: RawReadable, stop: threading.Event | None = None) -> None:
        self._raw, self._stop = raw, stop or threading.Event()
        self.was_cut = False
        """Whether it was left before its end."""
        self.head = b""
        while len(self.head) < len(MAGIC) and (more := self._more(len(MAGIC) - len(self.head))):
            self.head += more
        self._left = self.head

    def read(self, size: int = -1, /) -> bytes:
        if self._left:
            size = len(self._left) if size < 0 else size
            part, self._left = self._left[:size], self._left[size:]
            return part
        return self._more(size)

    def _more(self, size: int) -> bytes:
        with watchdog.busy("read", patient=True):
            while not self._stop.is_set() and not select.select([self._raw], [], [], watchdog.POLL_S)[0]:
                watchdog.check()
            if self._stop.is_set():
                self.was_cut = True
                return b""
            return self._raw.read(size) or b""


@contextmanager
def _spooled(stream: _Sniffed, name: str) -> Iterator[Path]:
    """A temporary file with all that a stream holds: containers need going back, and their sound is read apart."""
    with tempfile.NamedTemporaryFile(prefix="stvsr-") as file:
        try:
            shutil.copyfileobj(stream, file, 1 << 20)
            file.flush()
        except OSError as error:
            raise InputError(
                f"{name} cannot be kept in {file.name}: {error.strerror}.", hint="Set TMPDIR to a larger disk."
            ) from error
        logger.info("%s: %.1f MiB are kept in %s", name, file.tell() / 2**20, file.name)
        yield Path(file.name)


class Y4mSource:
    """A YUV4MPEG2 stream: its description at once, and its frames as they come."""

    def __init__(self, stream: Readable, name: str) -> None:
        self._stream = stream
        try:
            self._container = av.open(stream, "r", format="yuv4mpegpipe")  # type: ignore[call-overload]
            video = self._container.streams.video[0]
            self._decoded = self._container.decode(video)
            self._first = next(self._decoded)
        except (av.error.FFmpegError, OSError, ValueError, StopIteration, IndexError) as error:
            raise InputError(f"{name} cannot be read as YUV4MPEG2.", hint="Check what writes into the pipe.") from error
        described = describe(Path(name), self._container, video, self._first)
        # Frames count from 0, and how many there will be nobody knows; a duration would be a guess from the bit rate.
        self.info: VideoInfo = replace(
            described, num_frames=None, duration=None, start_pts=0, origin=Fraction(0),
            time_base=1 / described.average_rate,
        )  # fmt: skip

    @property
    def first(self) -> Picture:
        """The first frame, which has come already."""
        return picture_of(self._first, self.info)

    def frames(self, start: Fraction | None = None, end: Fraction | None = None) -> Iterator[Frame]:
        """Yield the frames shown in [start, end), in seconds; once. Raises InputError if there is none."""
        rate = self.info.average_rate
        first = round((start or Fraction(0)) * rate)
        last = None if end is None else round(end * rate)
        number = index = 0
        frame: av.VideoFrame | None = self._first
        while frame is not None and (last is None or number < last):
            if number >= first:
                yield Frame(index, number, 1, picture_of(frame, self.info))
                index += 1
            number += 1
            frame = self._next()
        if index == 0:
            raise InputError(f"{self.info.path} has no frame at or after --start.", hint="Use an earlier --start.")

    def _next(self) -> av.VideoFrame | None:
        try:
            return next(self._decoded, None)
        except (av.error.FFmpegError, OSError) as error:
            if not self.was_cut:  # in the middle of a frame, then
                logger.warning("%s ends early: %s", self.info.path, error)
            return None

    @property
    def was_cut(self) -> bool:
        """Whether it was left before its end, as was asked for."""
        return bool(getattr(self._stream, "was_cut", False))

    def close(self) -> None:
        """Let go of the stream."""
        self._container.close()


@contextmanager
def named_output(path: Path) -> Iterator[int]:
    """Open a named pipe for writing; waits for a reader. Raises OutputError."""
    try:
        with watchdog.busy("write", patient=True):
            number = os.open(path, os.O_WRONLY)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.", hint="Check the pipe.") from error
    try:
        yield number
    finally:
        os.close(number)


@contextmanager
def data_output() -> Iterator[int]:
    """Keep standard output for data: a descriptor for it, while whatever else is printed goes to standard error.

    Raises UsageError if it is a terminal.
    """
    if _is_closed(1, os.O_WRONLY):
        raise OutputError("standard output is closed.", hint="Pipe it into something, or name a file.")
    if os.isatty(1):
        raise UsageError("standard output is a terminal.", hint="Pipe it into something, or name a file.")
    if sys.stdout is not None:
        sys.stdout.flush()
    number = os.dup(1)
    os.dup2(2, 1)
    try:
        yield number
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()
        os.dup2(number, 1)
        os.close(number)


class _Writer:
    """Writes to a descriptor; when the reader is gone it says so in `broken`, and swallows the rest."""

    name = "standard output"

    def __init__(self, number: int) -> None:
        self._number, self.broken = number, False

    def write(self, data: bytes | np.ndarray) -> int:
        """Write everything. Returns the number of bytes."""
        view = memoryview(cast(bytes, data)).cast("B")
        size = len(view)
        while len(view) and not self.broken:
            try:
                with watchdog.busy("write", patient=True):
                    view = view[os.write(self._number, view) :]
            except BrokenPipeError:
                self.broken = True
        return size


class PipeOutput(OutputFile):
    """A container written to a pipe, with everything beside the video as in a file."""

    def __init__(self, number: int, name: str, source: VideoInfo, spec: OutputSpec, encoder: EncoderConfig) -> None:
        target = Path("standard output")
        self.target, self.source, self.spec, self.encoder = target, source, spec, fitted(encoder, target)
        self._writer, self._name = _Writer(number), name
        self._origin = round((source.origin + spec.start) / spec.time_base)
        self._durations = {}
        self._count = self._end = 0
        self._begin: int | None = None

    def __enter__(self) -> "PipeOutput":
        self._open()
        self._worker = Worker(self._encode, "encode")
        return self

    def _create(self) -> "av.container.OutputContainer":
        return av.open(self._writer, "w", format=self._name)  # type: ignore[call-overload, no-any-return]

    def _encode(self, item: tuple[Picture, int, int]) -> None:
        super()._encode(item)
        if self._writer.broken:
            raise PipeClosed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._worker.abort()
            self._close()
            return
        try:
            self._worker.close()
        except BaseException:
            self._close()
            raise
        try:
            with watchdog.busy("encode"):
                self._container.mux(self._timed(self._stream.encode(None)))
                self._companions.finish()
                self._container.close()
        except (av.error.FFmpegError, OSError, ValueError) as failure:
            raise self._failure(failure, "writing standard output failed") from failure
        finally:
            self._companions.close()
        if self._writer.broken:
            raise PipeClosed


class Y4mOutput:
    """YUV4MPEG2 written to a descriptor. It has one frame rate only: frames are repeated or left out to keep time."""

    def __init__(self, number: int, source: VideoInfo, spec: OutputSpec, *, name: str = "standard output") -> None:
        self._name = name
        if spec.pix_fmt not in Y4M_SAMPLING:
            raise OutputError(
                f"YUV4MPEG2 holds no {spec.pix_fmt}.", hint=f"Use --pix-fmt with one of {', '.join(Y4M_SAMPLING)}."
            )
        self._writer, self._source, self._spec = _Writer(number), source, spec
        self._turns = rotation_turns(source, spec.pix_fmt)
        self._begin: int | None = None
        self._waiting: tuple[Picture, int, int] | None = None

    def __enter__(self) -> Self:
        spec, aspect = self._spec, self._source.sample_aspect_ratio
        width, height = spec.width, spec.height
        if self._turns % 2:
            width, height, aspect = height, width, 1 / aspect
        self._put(
            f"YUV4MPEG2 W{width} H{height} F{spec.rate.numerator}:{spec.rate.denominator} Ip "
            f"A{aspect.numerator}:{aspect.denominator} C{Y4M_SAMPLING[spec.pix_fmt]} "
            f"XCOLORRANGE={'FULL' if spec.color.is_full_range else 'LIMITED'}\n".encode()
        )
        return self

    def write(self, picture: Picture, pts: int, duration: int) -> None:
        """Take the next frame. pts, duration: ticks of the specification's time base. Raises PipeClosed."""
        self._begin = pts if self._begin is None else self._begin
        self._flush(pts)
        self._waiting = (picture, pts, duration)

    def _flush(self, until: int) -> None:
        """Write the waiting frame as often as it takes up to a moment."""
        if self._waiting is None or self._begin is None:
            return
        picture, pts, _ = self._waiting
        unit = self._spec.time_base * self._spec.rate
        count = round((until - self._begin) * unit) - round((pts - self._begin) * unit)
        planes = [np.ascontiguousarray(np.rot90(plane, self._turns)) for plane in picture.planes]
        for _ in range(count):
            self._put(b"FRAME\n")
            for plane in planes:
                self._put(plane)

    def _put(self, data: bytes | np.ndarray) -> None:
        try:
            self._writer.write(data)
        except OSError as error:
            raise OutputError(f"writing {self._name} failed: {error.strerror}.", hint="Check the disk.") from error
        if self._writer.broken:
            raise PipeClosed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._waiting is not None:
            self._flush(self._waiting[1] + self._waiting[2])


def rotation_turns(info: VideoInfo, pix_fmt: str) -> int:
    """Quarter turns counter-clockwise to turn pictures by, for formats that cannot say so themselves."""
    turns, rest = divmod(info.rotation % 360, 90)
    if rest or (turns % 2 and pix_fmt.startswith("yuv422")):
        logger.warning("%s: the rotation by %d degrees is dropped", info.path, info.rotation)
        return 0
    return turns
