"""A part of a video: where it begins and ends by whole frames, and how to come to it in the file."""

import logging
from bisect import bisect_left, bisect_right
from fractions import Fraction

import av
import av.error

from stvsr_cli.media.read.clock import CUT
from stvsr_cli.media.read.probe import COUNTED, VideoInfo, open_input

logger = logging.getLogger(__name__)

BACK_S = (0, 1, 4, 16, 64)
"""Seconds before a moment at which a seek is tried, one after another, until what comes begins early enough."""
BEYOND_S = 2
"""Seconds past a moment up to which packets are looked at: none is shown later than it is decoded by so much."""
CLOSE = Fraction(1, 10)
"""Part of a frame by which a moment may miss a frame's begin, since people write few digits."""
LONG = 2
"""Frames that last more times as long as the average are cut in their middle; others are taken as a whole."""
NO_VIDEO_FILE = frozenset({"yuv4mpegpipe", "image2"})
"""Inputs that are cut by the number of a frame."""


def seek_video(
    container: "av.container.InputContainer",
    stream: "av.stream.Stream",
    info: VideoInfo,
    place: int,
    *,
    by_time: bool = False,
) -> None:
    """Go to a keyframe at or before a place, in ticks of the video's time base; what comes must be looked at.

    Where a clock was read, the place in the file is known; else, or with `by_time`, the container is asked.
    """
    stamp = round(place * info.time_base / (info.stream_base or info.time_base))
    position = None if by_time else info.clock.keyframe_before(stamp)
    try:
        if position is not None:
            container.seek(position, unsupported_byte_offset=True)
            return
    except av.error.FFmpegError as error:
        logger.debug("%s: no seek by bytes: %s", info.path, error)
    if not by_time and (info.clock.breaks or (info.clock.keyframes and position is None)):
        return
    try:
        container.seek(stamp, stream=stream, backward=True)
    except av.error.FFmpegError as error:
        logger.debug("%s: no seek: %s", info.path, error)


def snapped(info: VideoInfo, start: Fraction | None, end: Fraction | None) -> tuple[Fraction | None, Fraction | None]:
    """Start and end of a part, in seconds from the file's start, moved to where frames begin.

    The part begins with the frame that is shown at `start`, and ends with the one that is shown just before `end`.
    A frame that is shown for long is cut where asked.
    """
    if info.container in NO_VIDEO_FILE:
        return start, end
    return (
        None if start is None else _moved(info, start, is_end=False),
        None if end is None else _moved(info, end, is_end=True),
    )


def _moved(info: VideoInfo, moment: Fraction, *, is_end: bool) -> Fraction:
    ticks = (moment + info.origin) / info.time_base
    stamps = _stamps_near(info, ticks)
    close = ticks + info.frame_ticks * CLOSE
    if is_end:
        at = bisect_left(stamps, 2 * ticks - close)
    else:
        at = bisect_right(stamps, close) - 1
    if not 0 <= at < len(stamps) or abs(stamps[at] - ticks) >= LONG * info.frame_ticks:
        return moment
    return max(Fraction(0), stamps[at] * info.time_base - info.origin)


def _stamps_near(info: VideoInfo, ticks: Fraction) -> list[int]:
    """When frames around a moment are shown, in order, from before it to after it. ticks: the moment."""
    scale = (info.stream_base or info.time_base) / info.time_base
    for back in (*BACK_S[1:], None):
        with open_input(info.path, remote=info.remote) as container:
            stream = container.streams[info.stream_index]
            place = None if back is None else round(ticks - back / info.time_base)
            if place is not None and place > info.start_pts:
                seek_video(container, stream, info, place)
            stamps = []
            try:
                for packet in info.clock.followed(container.demux(stream)):
                    shown, read = _times(packet, info)
                    if shown is None or read is None or shown == CUT:
                        continue
                    stamps.append(round(shown * scale))
                    if (read * scale - ticks) * info.time_base > BEYOND_S:
                        break
            except (av.error.FFmpegError, OSError) as error:
                logger.debug("%s ends early: %s", info.path, error)
        if stamps and (min(stamps) <= ticks or place is None or place <= info.start_pts):
            break
    return sorted(set(stamps))


def _times(packet: av.Packet, info: VideoInfo) -> tuple[int | None, int | None]:
    """When a packet is shown and when it is decoded; one for the other where one is missing."""
    pts, dts = packet.pts, packet.dts
    if info.container in COUNTED or pts is None:
        return dts, dts
    return pts, dts if dts is not None else pts
