"""Frames to RGB tensors and back: bit depth, matrix, range, chroma.

Chroma is enlarged linearly and reduced by the filter that undoes exactly that, so that nothing is lost on the way.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli.media.read.decode import Picture
from stvsr_cli.media.read.probe import MATRIX_BT601, ColorTags, VideoInfo

logger = logging.getLogger(__name__)

LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
"""Kr and Kb by matrix number (ISO/IEC 23091-2, table 4)."""


@lru_cache
def luma_weights(matrix: int) -> tuple[float, float]:
    """Kr and Kb of a matrix; BT.601's, with one warning, for one that is not known."""
    if matrix not in LUMA_WEIGHTS:
        logger.warning("colour matrix %d is not known; taken for BT.601 both ways", matrix)
        matrix = MATRIX_BT601
    return LUMA_WEIGHTS[matrix]


def to_rgb(pictures: Sequence[Picture]) -> Tensor:
    """Convert pictures of one size to RGB.

    Returns [T, 3, H, W], float32; black is 0 and white is 1, and what the input holds beyond them is kept.
    """
    return torch.stack([codes_to_rgb(plane_tensors(picture), picture) for picture in pictures])


def plane_tensors(picture: Picture) -> list[Tensor]:
    """A picture's planes as tensors of integers that any device takes; 8-bit ones share the arrays' memory."""
    wide = (plane.astype(np.int32) if plane.dtype == np.uint16 else plane for plane in picture.planes)
    return [torch.from_numpy(plane) for plane in wide]


def from_rgb(frames: Tensor, pix_fmt: str, color: ColorTags) -> list[Picture]:
    """Convert RGB frames to pictures.

    frames: [T, 3, H, W], float; pix_fmt: one of `media.decode.PLANAR`; color: tags of the result.
    """
    return [_rgb_to_picture(frame, pix_fmt, color) for frame in frames.float().cpu()]


def levels(depth: int, full: bool) -> tuple[float, float, float, float]:
    """Black and span of luma, centre and span of chroma, in code values (ITU-R BT.709, BT.2100)."""
    unit = 2 ** (depth - 8)
    if full:
        top = 2**depth - 1
        return 0.0, float(top), float(2 ** (depth - 1)), float(top)
    return 16.0 * unit, 219.0 * unit, 128.0 * unit, 224.0 * unit


def halved(pix_fmt: str) -> tuple[bool, bool]:
    """Whether chroma has half the rows, and half the columns."""
    return "420" in pix_fmt, "420" in pix_fmt or "422" in pix_fmt


def cosited(siting: str) -> tuple[bool, bool]:
    """Whether chroma lies on the first row of each pair, and on its first column; else midway.

    The rare bottom places are taken for midway between the rows, both ways.
    """
    return siting.startswith("top"), siting.endswith("left")


def codes_to_rgb(codes: Sequence[Tensor], picture: Picture) -> Tensor:
    """Convert planes of codes, on any device, to RGB [3, H, W] there. picture: says what the codes mean."""
    depth, color = picture.bit_depth, picture.color
    planes = [plane.float() for plane in codes]
    height, width = planes[0].shape
    if picture.pix_fmt.startswith("gbrp"):
        return torch.stack([planes[2], planes[0], planes[1]]) / (2**depth - 1)
    black, span, centre, chroma_span = levels(depth, color.is_full_range)
    y = (planes[0] - black) / span
    if picture.pix_fmt.startswith("gray"):
        return y.expand(3, -1, -1).clone()
    chroma = (torch.stack(planes[1:]) - centre) / chroma_span
    rows, columns = halved(picture.pix_fmt)
    top, left = cosited(color.siting)
    if columns:
        chroma = _enlarge_cosited(chroma, width) if left else _enlarge_centred(chroma.mT, width).mT
    if rows:
        chroma = _enlarge_cosited(chroma.mT, height).mT if top else _enlarge_centred(chroma, height)
    cb, cr = chroma
    kr, kb = luma_weights(color.resolved_matrix(width, height))
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    return torch.stack([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue])


def _rgb_to_picture(rgb: Tensor, pix_fmt: str, color: ColorTags) -> Picture:
    depth = 10 if pix_fmt.endswith("10le") else 8
    if pix_fmt.startswith("gbrp"):
        planes = [_codes(rgb[i] * (2**depth - 1), depth) for i in (1, 2, 0)]
        return Picture(tuple(planes), pix_fmt, color)
    black, span, centre, chroma_span = levels(depth, color.is_full_range)
    kr, kb = luma_weights(color.resolved_matrix(rgb.shape[2], rgb.shape[1]))
    to_yuv = torch.tensor(
        [[kr, 1 - kr - kb, kb], [-kr, kr + kb - 1, 1 - kb], [1 - kr, kr + kb - 1, -kb]], dtype=torch.float32
    )
    to_yuv *= torch.tensor([span, chroma_span / (2 * (1 - kb)), chroma_span / (2 * (1 - kr))])[:, None]
    if pix_fmt.startswith("gray"):
        to_yuv = to_yuv[:1]
    yuv = (to_yuv @ rgb.flatten(1)).unflatten(1, rgb.shape[1:])
    luma = _codes(yuv[0].add_(black), depth)
    if pix_fmt.startswith("gray"):
        return Picture((luma,), pix_fmt, color)
    chroma = reduced(yuv[1:], pix_fmt, color.siting) + centre
    return Picture((luma, _codes(chroma[0], depth), _codes(chroma[1], depth)), pix_fmt, color)


def reduced(chroma: Tensor, pix_fmt: str, siting: str) -> Tensor:
    """Chroma at the size a format has it, [..., 2, H, W] -> [..., 2, H', W']."""
    rows, columns = halved(pix_fmt)
    top, left = cosited(siting)
    if rows:
        chroma = _reduce_cosited(chroma.mT).mT if top else _reduce_centred(chroma)
    if columns:
        chroma = _reduce_cosited(chroma) if left else _reduce_centred(chroma.mT).mT
    return chroma


def _codes(values: Tensor, depth: int) -> np.ndarray:
    rounded = values.round_().clamp_(0, 2**depth - 1)
    return rounded.byte().numpy() if depth == 8 else rounded.int().numpy().astype(np.uint16)


def _padded(x: Tensor, before: int, after: int, dim: int) -> Tensor:
    """Repeat the border along rows (dim -2) or columns (dim -1). x: [2, H, W] or [T, 2, H, W]."""
    amounts = (0, 0, before, after) if dim == -2 else (before, after, 0, 0)
    if x.ndim == 4:
        return functional.pad(x, amounts, mode="replicate")
    return functional.pad(x[None], amounts, mode="replicate")[0]


def _enlarge_cosited(x: Tensor, width: int) -> Tensor:
    """Double the columns of samples that lie on every other pixel, the first included (H.264's default place)."""
    right = _padded(x, 0, 1, -1)[..., 1:]
    return torch.stack([x, (x + right) / 2], -1).flatten(-2)[..., :width]


def _enlarge_centred(x: Tensor, height: int) -> Tensor:
    """Double the rows of samples that lie midway between two rows."""
    wide = _padded(x, 1, 1, -2)
    above = 0.75 * x + 0.25 * wide[..., :-2, :]
    below = 0.75 * x + 0.25 * wide[..., 2:, :]
    return torch.stack([above, below], -2).flatten(-3, -2)[..., :height, :]


def _reduce_cosited(x: Tensor) -> Tensor:
    """Halve the columns; undoes `_enlarge_cosited` (the 5/3 filter of Le Gall and Tabatabai)."""
    count = (x.shape[-1] + 1) // 2
    wide = _padded(x, 2, 2, -1)

    def at(offset: int) -> Tensor:
        return wide[..., 2 + offset :: 2][..., :count]

    return 0.75 * at(0) + 0.25 * (at(-1) + at(1)) - 0.125 * (at(-2) + at(2))


def _reduce_centred(x: Tensor) -> Tensor:
    """Halve the rows; undoes `_enlarge_centred`."""
    count = (x.shape[-2] + 1) // 2
    if x.shape[-2] % 2 and x.shape[-2] > 1:  # the row that would pair the last one, as enlarging would have made it
        x = torch.cat([x, 1.5 * x[..., -1:, :] - 0.5 * x[..., -2:-1, :]], -2)
    wide = _padded(x, 1, 2, -2)

    def at(offset: int) -> Tensor:
        return wide[..., 1 + offset :: 2, :][..., :count, :]

    return 0.75 * (at(0) + at(1)) - 0.25 * (at(-1) + at(2))


def output_color(info: VideoInfo, pix_fmt: str) -> ColorTags:
    """The output's colour tags: the input's, with what was assumed of it written down.

    An untagged small video is taken for BT.601, and an untagged large one would be taken for BT.709 by players.
    """
    if pix_fmt.startswith("gbrp"):
        return replace(info.color, matrix=0, range=2)
    matrix = info.color.resolved_matrix(info.width, info.height)
    if matrix == 0 or info.pixel_format.startswith(("gbr", "rgb", "bgr", "pal", "argb", "abgr")):
        matrix = ColorTags().resolved_matrix(info.width, info.height)
        return replace(info.color, matrix=matrix, range=1)
    return replace(info.color, matrix=matrix)
