"""From a described video to frames with exact timestamps."""

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from io import RawIOBase
from typing import cast

import av
import av.error

from stvsr_cli.errors import InputError
from stvsr_cli.media.pyav import exact
from stvsr_cli.media.read.clock import CUT
from stvsr_cli.media.read.decoder import open_decoder
from stvsr_cli.media.read.deinterlace import deinterlaced
from stvsr_cli.media.read.losses import Watcher
from stvsr_cli.media.read.part import BACK_S, seek_video
from stvsr_cli.media.read.picture import PLANAR as PLANAR
from stvsr_cli.media.read.picture import Picture as Picture
from stvsr_cli.media.read.picture import nearest_planar as nearest_planar
from stvsr_cli.media.read.picture import picture_of as picture_of
from stvsr_cli.media.read.probe import VideoInfo, check_size, open_input
from stvsr_cli.media.read.stamps import Stamps

logger = logging.getLogger(__name__)

SEQUENCE_HEADER = b"\x00\x00\x01\xb3"
"""Begins a header of MPEG-1 and 2 video; 12 bits each of width and height follow (ISO/IEC 13818-2, 6.2.2.1)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded frame and when it is shown."""

    index: int
    pts: int
    """Ticks of the input's time base."""
    duration: int
    """Ticks of the input's time base, at least 1."""
    picture: Picture
    cut: bool = False
    """Whether a new shot begins here."""


def decode(
    info: VideoInfo,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    threads: int = 0,
    file: RawIOBase | None = None,
) -> Iterator[Frame]:
    """Yield the frames of a video in order of presentation.

    start, end: seconds from the file's start; frames shown in [start, end) come. threads: 0 is one a core. file: what
    to read in place of the file at the video's path.
    A frame that cannot be decoded leaves the one before it in place, with one warning for the file; a file that ends
    too early ends there, with a warning. Timestamps that are missing or run backwards are repaired.
    Raises InputError if no frame comes at all.
    """
    first = info.start_pts if start is None else _ticks(start + info.origin, info)
    last = None if end is None else _ticks(end + info.origin, info)
    previous: Frame | None = None
    kept = 0
    """Frames that lasted as long as they said, less those that did not: whether the last one is believed."""
    for pts, picture, nominal in _timed(info, first, threads, file):
        if previous is not None:
            holds = abs(pts - previous.pts - previous.duration) <= max(1, previous.duration // 8)
            kept += 1 if holds else -1
            nominal = nominal if kept >= 0 else pts - previous.pts
            frame = replace(previous, duration=(pts if last is None else min(pts, last)) - previous.pts)
            if frame.pts + frame.duration > first:
                yield _from(frame, first)
                previous = Frame(frame.index + 1, pts, nominal, picture)
            else:
                previous = Frame(0, pts, nominal, picture)
        else:
            previous = Frame(0, pts, nominal, picture)
        if last is not None and pts >= last:
            previous = None
            return
    if previous is None:
        raise InputError(f"{info.path}: no frame can be decoded.", hint="Check that it plays.")
    if last is not None:
        previous = replace(previous, duration=min(previous.duration, last - previous.pts))
    if previous.pts + previous.duration > first:
        yield _from(previous, first)
    elif previous.index == 0:
        raise InputError(f"{info.path} has no frame at or after --start.", hint="Use an earlier --start.")


def _from(frame: Frame, first: int) -> Frame:
    """The frame, shortened if it began before the first moment asked for."""
    if frame.pts >= first:
        return frame
    return replace(frame, pts=first, duration=frame.pts + frame.duration - first)


def _ticks(seconds: Fraction, info: VideoInfo) -> int:
    return round(seconds / info.time_base)


def _timed(info: VideoInfo, first: int, threads: int, file: RawIOBase | None) -> Iterator[tuple[int, Picture, int]]:
    """Pictures with repaired timestamps and nominal durations."""
    last: int | None = None
    step = info.frame_ticks
    repaired = False
    for frame in as_stored(info, first, threads, file):
        pts = frame.pts
        if pts is None or (last is not None and pts <= last):
            if not repaired:
                logger.warning("%s: timestamps are missing or run backwards; frames are spaced evenly there", info.path)
                repaired = True
            pts = info.start_pts if last is None else last + step
        step = pts - last if last is not None else step
        last = pts
        yield pts, picture_of(frame, info), frame.duration or info.frame_ticks


def as_stored(info: VideoInfo, first: int, threads: int, file: RawIOBase | None = None) -> Iterator[av.VideoFrame]:
    """Decoded frames, made whole where they hold two fields, from the keyframe before a moment on.

    first: ticks of the input's time base. file: what to read in place of the file at the video's path. Times are
    those of the video's clock; nothing is repaired.
    """
    frames = _raw(info, first, threads) if file is None else _raw_of(file, info, first, threads)
    return frames if info.fields is None else deinterlaced(frames, info.fields)


def _raw_of(file: RawIOBase, info: VideoInfo, first: int, threads: int) -> Iterator[av.VideoFrame]:
    """Decoded frames of a file that may be there in parts, where whoever cut them has looked for the place."""
    return _decoded(info, first - info.ticks_before if first > info.start_pts else None, threads, Watcher(info), file)


def _raw(info: VideoInfo, first: int, threads: int) -> Iterator[av.VideoFrame]:
    """Decoded frames, the first no later than asked for, with their stamps in ticks of the video's time base.

    A seek is checked: where the first frame that decodes comes too late, it is begun further before.
    """
    watcher = Watcher(info)
    asked = first - info.ticks_before
    places = [asked - round(back / info.time_base) for back in BACK_S] if first > info.start_pts else []
    for place in [place for place in places if place > info.start_pts]:
        frames = _decoded(info, place, threads, watcher)
        head = next(frames, None)
        if head is not None and head.pts is not None and head.pts <= asked and not head.is_corrupt:
            yield head
            yield from frames
            return
        frames.close()
    yield from _decoded(info, None, threads, watcher)


def _decoded(
    info: VideoInfo, place: int | None, threads: int, watcher: Watcher, file: RawIOBase | None = None
) -> Generator[av.VideoFrame, None, None]:
    """Decoded frames from about a place on; None: from the begin.

    What cannot be decoded is left out, a damaged picture replaced by the one before it.
    """
    damaged = 0
    with open_input(info.path, remote=info.remote, file=file) as container:
        stream = cast(av.VideoStream, container.streams[info.stream_index])
        assert_video(stream, info)
        context = open_decoder(stream, has_alpha=info.has_alpha, max_pixels=info.max_pixels)
        context.thread_type = "AUTO"
        context.thread_count = threads
        if place is not None:
            seek_video(container, stream, info, place, by_time=file is not None)
        stamps = Stamps(info, from_start=place is None)
        packets = info.clock.followed(container.demux(stream))
        good: av.VideoFrame | None = None
        sizes: list[int] = []
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except (av.error.FFmpegError, OSError) as error:
                logger.warning("%s ends early: %s", info.path, error)
                break
            stamps.note(packet)
            try:
                frames = [*held_before(packet, context, sizes), *context.decode(packet)]
            except av.error.FFmpegError:
                damaged += 1
                continue
            for frame in frames:
                check_size(info.path, frame.width, frame.height, info.max_pixels)
                frame.pts, frame.duration = stamps.of(frame), stamps.length(frame)
                if frame.pts == CUT:
                    continue
                watcher.see(frame, exact(context.sample_aspect_ratio))
                if frame.is_corrupt and good is not None:
                    damaged += 1
                    good.pts, good.duration = frame.pts, frame.duration
                    yield good
                else:
                    good = frame
                    yield frame
    if damaged:
        logger.warning("%s: %d frames are damaged; the frame before each is held", info.path, damaged)


def held_before(packet: av.Packet, context: av.VideoCodecContext, sizes: list[int]) -> list[av.VideoFrame]:
    """Frames that the decoder holds back and would lose at this packet, where the size of MPEG-1 or 2 video changes.

    sizes: those seen so far, as their sequence headers write them; added to.
    """
    if context.name not in ("mpeg1video", "mpeg2video"):
        return []
    data = bytes(packet)
    at = data.find(SEQUENCE_HEADER)
    if at < 0 or len(data) < at + 7:
        return []
    size = int.from_bytes(data[at + 4 : at + 7])
    held: list[av.VideoFrame] = []
    if sizes and sizes[-1] != size:
        held = context.decode(None)
        context.flush_buffers()
    sizes.append(size)
    del sizes[:-1]
    return held


def assert_video(stream: object, info: VideoInfo) -> None:
    """Raise InputError if the file changed since it was probed."""
    if not isinstance(stream, av.VideoStream):
        raise InputError(f"{info.path} changed while it was read.", hint="Start again when it is complete.")
