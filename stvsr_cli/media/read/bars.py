"""Black bars around a picture: found by a look at frames all over a video, and left out of its frames."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import cast

import av
import av.error
import numpy as np

from stvsr_cli.errors import InputError
from stvsr_cli.media.read.black import ABOVE_BLACK, SEGMENT_PX, SOFT_LINES, Sides, lit
from stvsr_cli.media.read.picture import Picture
from stvsr_cli.media.read.probe import NO_BARS, VideoInfo, open_input
from stvsr_cli.media.read.sampler import Sampler

logger = logging.getLogger(__name__)

MODES = ("auto", "off", "remove")
MEAN_ABOVE_BLACK = 4
"""How far a whole line may be above black."""
FULL_LINE = 0.6
"""Share of a line that must not be black for a bar to end there: else it is the edge of something dark, or round."""
MOST_SPREAD = 0.3
"""How bright the brightest of the lines before that may be, of its brightness."""
LEAST_LINES, LEAST_SHARE = 4, 1 / 64
"""Bars must have so many lines, and this share of the side."""
MOST_SHARE = 3 / 4
"""Bars of a larger share, both together, are none: the picture would be a stamp."""
MOST_LOOKS = 96
"""Frames that are looked at."""
OTHERWISE = 0.05
"""Share of the frames that may have picture where the others have bars, such as an intro."""
EVIDENCE = 0.05
"""Share of the frames, and no fewer than two, that must show where a bar ends."""
IN_ORDER, MOST_READ = 300, 1500
"""Frames of a video that is read in order in place of here and there, and the most that are read so."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one frame shows."""

    black: Sides
    """Black lines at each side."""
    full: tuple[int | None, int | None, int | None, int | None]
    """The first line at each side that has picture along most of it, where that is next to them; else None."""


def with_bars(info: VideoInfo, mode: str = "auto") -> VideoInfo:
    """Return the description with its bars left out, and say so.

    mode: auto leaves them out of the frames and has them put back around the result, remove leaves them out for good,
    off does not look for any. Bars that are put back may hold picture in a few frames; those that are removed in none
    of the frames looked at. Raises ValueError.
    """
    if mode not in MODES:
        raise ValueError(f"{mode = } must be one of {', '.join(MODES)}")
    if mode == "off":
        return info
    state = info.path.stat() if info.path.is_file() else None
    version = None if state is None else (state.st_size, state.st_mtime_ns)
    return leaving_out(info, _found(_Asked(info.path, version, info.stream_index, info.crop, mode, info)), mode)


def with_removed_bars(info: VideoInfo, mode: str) -> VideoInfo:
    """Return the description of what stays in the end: bars that are put back change no size, and are not looked for here."""
    return with_bars(info, mode) if mode == "remove" else info


def leaving_out(info: VideoInfo, bars: Sides, mode: str) -> VideoInfo:
    """The description with bars left out, and a line about it. mode: auto or remove."""
    if not any(bars):
        if mode == "remove":
            logger.warning("%s: no black bars were found, so that none are removed", info.path)
        return info
    logger.log(
        logging.WARNING if mode == "remove" else logging.INFO, "%s: black bars of %s %s",
        info.path, in_words(bars), "are removed" if mode == "remove" else "are left out of the model and put back",
    )  # fmt: skip
    left, top, right, bottom = bars
    width, height = info.width - left - right, info.height - top - bottom
    color = info.color
    if color.resolved_matrix(width, height) != (matrix := color.resolved_matrix(info.width, info.height)):
        color = replace(color, matrix=matrix)  # what was assumed of the whole frame
    crop = cast(Sides, tuple(a + b for a, b in zip(info.crop, bars, strict=True)))
    return replace(info, width=width, height=height, crop=crop, bars=bars, puts_bars_back=mode == "auto", color=color)


def in_words(bars: Sides) -> str:
    """Bars as text: 132 and 132 px above and below."""
    left, top, right, bottom = bars
    parts = []
    if top or bottom:
        parts.append(f"{top} and {bottom} px above and below")
    if left or right:
        parts.append(f"{left} and {right} px left and right")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the answer is known by, when it is asked for again."""

    path: Path
    version: tuple[int, int] | None
    stream_index: int
    crop: Sides
    mode: str
    info: VideoInfo = field(compare=False)


@lru_cache(maxsize=64)
def _found(asked: _Asked) -> Sides:
    return find_bars(_pictures(asked.info), asked.mode)


def find_bars(pictures: Iterable[Picture], mode: str = "auto") -> Sides:
    """The bars that pictures of one video share, even numbers of lines; looks at no more than `MOST_LOOKS`.

    mode: auto or remove, as of `with_bars`. Ends early where there are none.
    """
    otherwise = OTHERWISE if mode == "auto" else 0.0
    looks: list[Look] = []
    size = (0, 0)
    few = int(otherwise * MOST_LOOKS)
    without = np.zeros(4, int)
    for picture in islice(pictures, MOST_LOOKS):
        size = (picture.planes[0].shape[0], picture.planes[0].shape[1])
        look = look_at(picture)
        if look is not None:
            looks.append(look)
            without += np.array(look.black) < _least(size)
        if without.min() > few:
            return NO_BARS
    bars = _shared(looks, size, otherwise)
    if mode == "auto":  # a line too few, so that all of the picture stays
        return cast(Sides, tuple(lines // 2 * 2 for lines in bars))
    return cast(Sides, tuple(-(-lines // 2) * 2 for lines in bars))


def _least(size: tuple[int, int]) -> np.ndarray:
    """Fewest lines of a bar at each side. size: height and width."""
    tall, wide = (max(LEAST_LINES, round(side * LEAST_SHARE)) for side in size)
    return np.array([wide, tall, wide, tall])


def _shared(looks: Sequence[Look], size: tuple[int, int], otherwise: float) -> Sides:
    if not looks:
        return NO_BARS
    number = len(looks)
    enough = max(min(2, number), EVIDENCE * number)
    found = []
    for side, least in enumerate(_least(size)):
        black = sorted(look.black[side] for look in looks)[int(otherwise * number)]
        ends = sorted(full for look in looks if (full := look.full[side]) is not None)
        ends = [end for end in ends if black <= end <= black + SOFT_LINES]
        found.append(ends[int(otherwise * len(ends))] if black >= least and len(ends) >= enough else 0)
    left, top, right, bottom = found
    if left + right > MOST_SHARE * size[1] or top + bottom > MOST_SHARE * size[0]:
        return NO_BARS
    return left, top, right, bottom


def look_at(picture: Picture) -> Look | None:
    """What a picture shows; None where all of it is black, which says nothing."""
    rows, columns = _Lines(*lit(picture, axis=1)), _Lines(*(found.T for found in lit(picture, axis=0)))
    if not rows.any.any() or not columns.any.any():
        return None
    top, bottom = int(rows.any.argmax()), int(rows.any[::-1].argmax())
    left, right = int(columns.any.argmax()), int(columns.any[::-1].argmax())
    height, width = len(rows.any), len(columns.any)
    rows, columns = rows.within(left, width - right), columns.within(top, height - bottom)
    full = (columns.full(left), rows.full(top), columns.reversed().full(right), rows.reversed().full(bottom))
    return Look((left, top, right, bottom), full)


@dataclass(frozen=True, slots=True)
class _Lines:
    """Lines from one side on."""

    lit: np.ndarray
    """[lines, segments] of bool."""
    above: np.ndarray
    """[lines, segments]: above black, in codes of 8 bits."""

    @property
    def any(self) -> np.ndarray:
        """Which lines are not black, [lines]."""
        return self.lit.any(1) | (self.above.mean(1) > MEAN_ABOVE_BLACK)

    def within(self, begin: int, end: int) -> "_Lines":
        """What of them lies between two samples."""
        part = slice(begin // SEGMENT_PX, -(-end // SEGMENT_PX))
        return _Lines(self.lit[:, part], self.above[:, part])

    def reversed(self) -> "_Lines":
        """Lines from the other side on."""
        return _Lines(self.lit[::-1], self.above[::-1])

    def full(self, begin: int) -> int | None:
        """The first line that is bright along most of it, with nothing before it but what a codec spreads of it.

        begin: the first line that is not black.
        """
        near = (self.above[begin : begin + SOFT_LINES + 1] > ABOVE_BLACK).mean(1) >= FULL_LINE
        end = begin + int(near.argmax())
        spread = self.above[begin:end].max(initial=0.0)
        return end if near.any() and spread <= MOST_SPREAD * self.above[end].mean() else None


def _pictures(info: VideoInfo) -> Iterator[Picture]:
    """Frames of a video, from all over it where it is long and can be sought in, or else the first ones in order."""
    count = info.num_frames or 0
    try:
        with open_input(info.path, remote=info.remote) as container:
            reader = Sampler(info, container)
            if (
                count > IN_ORDER
                and info.duration
                and (yield from reader.here_and_there(MOST_LOOKS, count, info.duration))
            ):
                return
            step = max(1, min(count or MOST_READ, MOST_READ) // MOST_LOOKS)
            yield from islice(reader.in_order(), 0, MOST_READ, step)
    except (av.error.FFmpegError, OSError, InputError) as error:
        logger.debug("%s: bars are looked for no further: %s", info.path, error)
