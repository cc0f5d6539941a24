"""Frames of a variable rate at a constant one, for containers that count frames and keep no times."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

from stvsr_cli.media.read.decode import Frame
from stvsr_cli.media.read.probe import VideoInfo

logger = logging.getLogger(__name__)


def steady(frames: Iterable[Frame], info: VideoInfo, rate: Fraction, start: Fraction | None) -> Iterator[Frame]:
    """Yield frames at a constant rate by repeating and leaving out; frame n is shown n / rate seconds after the start.

    info: describes the frames that come. start: seconds from its begin at which they begin. The frames that are
    yielded count in ticks of 1 / rate.
    """
    begin = info.origin + (start or 0)
    count, is_even, cut = 0, True, False
    for frame in frames:
        cut = cut or frame.cut  # one that is left out leaves its cut to the next
        finish = round(((frame.pts + frame.duration) * info.time_base - begin) * rate)
        if is_even and finish != count + 1:
            is_even = False
            logger.warning(
                "%s has no constant frame rate, and the output can have no other: frames are repeated or left out to "
                "keep time at %.6g fps",
                info.path, float(rate),
            )  # fmt: skip
        while count < finish:
            yield replace(frame, index=count, pts=count, duration=1, cut=cut)
            count, cut = count + 1, False
