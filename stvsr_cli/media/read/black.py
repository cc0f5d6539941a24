"""Which lines of a picture are black, whatever its range, its bits and the noise in it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from stvsr_cli.media.read.picture import Picture

Sides = tuple[int, int, int, int]
"""Lines at the left, the top, the right and the bottom."""
SEGMENT_PX = 8
"""Samples of a line that are averaged, so that noise is no picture, and a stroke of a letter is."""
ABOVE_BLACK, BESIDE_NEUTRAL = 10, 8
"""How far a segment of luma, and of chroma, may be from black, in codes of 8 bits. FFmpeg's cropdetect takes whole
lines, and 24 from 0: 8 above black in limited range."""
SOFT_LINES = 8
"""Lines beside a picture into which a codec spreads it: a block of MPEG-4's."""


def black_codes(pix_fmt: str, *, is_full_range: bool) -> tuple[int, int]:
    """The codes of black: of the first plane, and of the others. pix_fmt: one of `picture.PLANAR`."""
    unit = 4 if pix_fmt.endswith("10le") else 1
    if pix_fmt.startswith("gbrp"):
        return 0, 0
    return (0 if is_full_range else 16 * unit), 128 * unit


def lit(picture: "Picture", *, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Which segments of lines are not black, and how far they are above black, in codes of 8 bits.

    axis: along which lines run: 1 for rows, 0 for columns. Returns twice [H, segments], or [segments, W].
    """
    return _lit(picture, picture.planes, axis)


def has_picture(picture: "Picture", bars: Sides) -> bool:
    """Whether there is anything in the bars of a whole frame, further from the picture than a codec spreads it."""
    height, width = picture.planes[0].shape
    left, top, right, bottom = (max(0, lines - SOFT_LINES) for lines in bars)
    strips = ((0, top, 0, width), (height - bottom, height, 0, width),
              (top, height - bottom, 0, left), (top, height - bottom, width - right, width))  # fmt: skip
    return any(_holds_any(picture, strip) for strip in strips if strip[0] < strip[1] and strip[2] < strip[3])


def _holds_any(picture: "Picture", strip: tuple[int, int, int, int]) -> bool:
    planes = [_part(plane, picture.planes[0].shape, strip) for plane in picture.planes]
    unit = 2 ** (picture.bit_depth - 8)
    codes = black_codes(picture.pix_fmt, is_full_range=picture.color.is_full_range)
    margins = (ABOVE_BLACK, BESIDE_NEUTRAL if not picture.pix_fmt.startswith("gbrp") else ABOVE_BLACK)
    for number, plane in enumerate(planes):
        code, margin = codes[number > 0], margins[number > 0] * unit
        if plane.max() > code + margin or (number and plane.min() < code - margin):
            return bool(_lit(picture, planes, 1)[0].any())
    return False


def _part(plane: np.ndarray, whole: tuple[int, ...], strip: tuple[int, int, int, int]) -> np.ndarray:
    """What of a plane lies in a strip of the frame: from a row to a row, from a column to a column."""
    tall, wide = (-(-side // part) for side, part in zip(whole, plane.shape, strict=True))
    return plane[strip[0] // tall : -(-strip[1] // tall), strip[2] // wide : -(-strip[3] // wide)]


def _lit(picture: "Picture", planes: Sequence[np.ndarray], axis: int) -> tuple[np.ndarray, np.ndarray]:
    unit = 2.0 ** (picture.bit_depth - 8)
    is_rgb = picture.pix_fmt.startswith("gbrp")
    black, _ = black_codes(picture.pix_fmt, is_full_range=picture.color.is_full_range)
    first = np.maximum(np.maximum(planes[0], planes[1]), planes[2]) if is_rgb else planes[0]
    above = (_averaged(first, axis, SEGMENT_PX) - black) / unit
    found = above > ABOVE_BLACK
    for plane in () if is_rgb else planes[1:]:
        steps = [-(-side // part) for side, part in zip(first.shape, plane.shape, strict=True)]
        beside = np.abs(_averaged(plane, axis, max(1, SEGMENT_PX // steps[axis])) / unit - 128) > BESIDE_NEUTRAL
        beside = beside.repeat(steps[1 - axis], 1 - axis)
        found = found | beside[: found.shape[0], : found.shape[1]]
    return found, above


def _averaged(plane: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Means of segments of a plane [H, W] along an axis; the last one has its last sample more than once."""
    margins = [(0, 0), (0, 0)]
    margins[axis] = (0, -plane.shape[axis] % length)
    whole = np.pad(plane, margins, mode="edge") if any(margins[axis]) else plane
    total = np.zeros(
        (whole.shape[0] // (length if axis == 0 else 1), whole.shape[1] // (length if axis else 1)), np.uint32
    )
    for number in range(length):  # adding planes is much faster than reducing along a short axis
        total += whole[number::length] if axis == 0 else whole[:, number::length]
    return total / length
