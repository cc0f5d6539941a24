"""Frames known by their moments, so that a stretch of a video can be read again elsewhere, the same to the bit."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from io import RawIOBase

import av
import numpy as np

from stvsr_cli.errors import InputError
from stvsr_cli.media.read.decode import Frame, Picture, as_stored, decode, picture_of
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.read.repeats import groups
from stvsr_cli.media.read.shots import mark_cuts


@dataclass(frozen=True, slots=True)
class Moment:
    """What is known of a frame without its pixels."""

    pts: int
    """Ticks of the input's time base."""
    duration: int
    cut: bool
    """Whether a new shot begins here."""
    check: int
    """CRC-32 of the pixels."""
    nth: int = 0
    """Which of the frames with one picture this is: 0 has its own, the others are made anew towards the next of them."""


class Differs(Exception):
    """A stretch, read by itself, does not give the frames that the whole video gave there."""


def moments(
    info: VideoInfo, *, start: Fraction | None, end: Fraction | None, threads: int, mode: str, repeats: bool = False
) -> Iterator[Moment]:
    """Yield the moments of a video's frames. Arguments as of `decode` and `mark_cuts`; raises InputError.

    repeats: whether to find those that are to be made anew.
    """
    frames = mark_cuts(decode(info, start=start, end=end, threads=threads), mode=mode)
    for group, following in groups(frames) if repeats else (([frame], None) for frame in frames):
        for number, frame in enumerate(group):
            nth = number if following is not None else 0
            yield Moment(frame.pts, frame.duration, frame.cut, checksum(frame.picture), nth)


def checksum(picture: Picture) -> int:
    """CRC-32 of a picture's samples."""
    value = 0
    for plane in picture.planes:
        value = zlib.crc32(np.ascontiguousarray(plane).data, value)
    return value


def stretch_frames(
    info: VideoInfo, known: Sequence[Moment], first: int, *, threads: int = 0, seek: int, file: RawIOBase | None = None
) -> Iterator[Frame]:
    """Yield the frames that lie at known moments, read from the keyframe before a moment on.

    known: of the frames from number `first` on, one after the other. seek: that moment, at or before the first of them.
    file: what to read in place of the file at the video's path. Raises Differs where a frame is not what it was.
    """
    shown = _shown_from(as_stored(info, seek, threads, file), known[0].pts)
    for number, moment in enumerate(known):
        frame = next(shown, None)
        if frame is None:
            raise Differs(f"frame {first + number} is not there")
        picture = picture_of(frame, info)
        if checksum(picture) != moment.check:
            raise Differs(f"frame {first + number} has other pixels")
        yield Frame(first + number, moment.pts, moment.duration, picture, moment.cut)


def _shown_from(frames: Iterator[av.VideoFrame], pts: int) -> Iterator[av.VideoFrame]:
    """The frame that is shown at a moment, and all after it. Raises Differs if there is none."""
    held: av.VideoFrame | None = None
    for frame in frames:
        if frame.pts is None:
            raise Differs("frames have no time")
        if frame.pts > pts:
            if held is None:
                raise Differs("the first frame is not there")
            yield held
            yield frame
            yield from frames
            return
        held = frame
    if held is not None:
        yield held


def all_frames(
    info: VideoInfo,
    known: Sequence[Moment],
    first: int,
    *,
    start: Fraction | None,
    end: Fraction | None,
    threads: int = 0,
    file: RawIOBase | None = None,
) -> Iterator[Frame]:
    """Yield the frames that lie at known moments, by reading the video from its start.

    Arguments as of `stretch_frames` and `decode`. Raises InputError where a frame is not what it was.
    """
    for frame in decode(info, start=start, end=end, threads=threads, file=file):
        number = frame.index - first
        if number < 0:
            continue
        if number == len(known):
            return
        if checksum(frame.picture) != known[number].check:
            raise InputError(
                f"{info.path} does not give the same frames twice.",
                hint="See that it does not change, and that all machines have the same version of PyAV.",
            )
        moment = known[number]
        yield replace(frame, pts=moment.pts, duration=moment.duration, cut=moment.cut)
