"""Decoded frames as planes of one of a few formats: cropped, laid over black, in the colours that they are tagged with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import av
import numpy as np
from av.sidedata.sidedata import Type

from stvsr_cli.media.pyav import side_data
from stvsr_cli.media.read.black import has_picture
from stvsr_cli.media.read.hdr import dynamic_kinds
from stvsr_cli.media.read.probe import UNSPECIFIED, ColorTags, VideoInfo, matrix_of, range_of

Beside = av.VideoFrame
"""A tiny frame that carries metadata."""
PLANAR = frozenset(
    f"{name}{depth}"
    for name, depths in {
        "yuv420p": ("", "10le"),
        "yuv422p": ("", "10le"),
        "yuv444p": ("", "10le"),
        "gbrp": ("", "10le"),
        "gray": ("", "10le"),
    }.items()
    for depth in depths
)
"""Formats that `color` reads and writes; every other is converted to the nearest of these on decoding."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The pixels of one frame."""

    planes: tuple[np.ndarray, ...]
    """[H, W] each, uint8 or uint16; chroma planes smaller as the format says; gbrp in that order."""
    pix_fmt: str
    """One of `PLANAR`."""
    color: ColorTags
    beside: Beside | None = None
    """A tiny frame that carries what goes to the encoder with the picture, such as closed captions."""
    around: "Picture | None" = None
    """The whole frame, where bars that were left out of this picture are not black for once."""

    @property
    def bit_depth(self) -> int:
        """Bits per sample."""
        return 10 if self.pix_fmt.endswith("10le") else 8


def nearest_planar(frame: av.VideoFrame) -> str:
    """The format of `PLANAR` that holds a frame with the least loss."""
    name = frame.format.name
    known = name.replace("yuvj", "yuv")
    if known in PLANAR:
        return known
    deep = "10le" if max((c.bits for c in frame.format.components), default=8) > 8 else ""
    if frame.format.is_rgb or name == "pal8" or name.startswith("xyz"):
        return f"gbrp{deep}"
    if len(frame.format.components) <= 2:
        return f"gray{deep}"
    chroma = frame.format.components[1]
    if chroma.height < frame.format.height:
        return f"yuv420p{deep}"
    return f"{'yuv422p' if chroma.width < frame.format.width else 'yuv444p'}{deep}"


def picture_of(frame: av.VideoFrame, info: VideoInfo) -> Picture:
    """The frame's pixels as planes; laid over black, converted and brought to the video's size where they differ.

    Where the frame is tagged with another range or matrix than the video, the picture says so.
    """
    target = nearest_planar(frame)
    color = replace(info.color, matrix=0, range=2) if target.startswith("gbrp") else tags_of(frame, info)
    # FFmpeg has no planar gray with transparency; for gray, green is the same.
    has_alpha, read = is_transparent(frame), target.replace("gray", "gbrp")
    needed = read.replace("yuv", "yuva").replace("gbrp", "gbrap") if has_alpha else target
    size = info.raw_size
    if frame.format.name.replace("yuvj", "yuv") != needed or (frame.width, frame.height) != size:
        # libswscale's own threads now and then spoil a few pixels between two slices, and save no time.
        frame = frame.reformat(width=size[0], height=size[1], format=needed, threads=1)
    planes = _planes(frame)
    if has_alpha:
        planes = _on_black(planes[:1] if target.startswith("gray") else planes[:3], planes[3], target, color)
    around = None
    if any(info.bars):
        whole = Picture(_cropped(planes, info.crop[0] - info.bars[0], info.crop[1] - info.bars[1], info.whole_size),
                        target, color)  # fmt: skip
        around = whole if has_picture(whole, info.bars) else None
    if any(info.crop):
        planes = list(_cropped(planes, *info.crop[:2], (info.width, info.height)))
    return Picture(tuple(planes), target, color, _carrier(frame), around)


def tags_of(frame: av.VideoFrame, info: VideoInfo) -> ColorTags:
    """The video's tags, with the frame's own range and matrix where it is tagged with them."""
    matrix = matrix_of(frame) if info.color.matrix != UNSPECIFIED else 0
    return replace(info.color, range=range_of(frame) or info.color.range, matrix=matrix or info.color.matrix)


def _cropped(planes: Sequence[np.ndarray], left: int, top: int, size: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """What is left of planes. Where chroma has no sample at the border asked for, the one before it is taken.

    size: width and height of what is left.
    """
    found = []
    for plane in planes:
        tall, wide = (-(-side // part) for side, part in zip(planes[0].shape, plane.shape, strict=True))
        rows, columns = -(-size[1] // tall), -(-size[0] // wide)
        found.append(plane[top // tall :, left // wide :][:rows, :columns])
    return tuple(found)


def _carrier(frame: av.VideoFrame) -> av.VideoFrame | None:
    """A tiny frame with the closed captions of this one; None without any.

    It carries all other metadata too, so it is left out where that holds of the old picture only.
    """
    kinds = {data.type for data in side_data(frame)}
    if Type.A53_CC not in kinds or dynamic_kinds(frame):
        return None
    return frame.reformat(width=16, height=16, format="gray", threads=1)


def is_transparent(frame: av.VideoFrame) -> bool:
    """Whether the frame's format has room for transparency."""
    return any(component.is_alpha for component in frame.format.components)


def _planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """Copies of a frame's planes, [H, W] each."""
    wide = frame.format.components[0].bits > 8
    planes = []
    for plane in frame.planes:
        row = plane.line_size // (2 if wide else 1)
        data = np.frombuffer(memoryview(plane), dtype=np.uint16 if wide else np.uint8)
        planes.append(data[: row * plane.height].reshape(plane.height, row)[:, : plane.width].copy())
    return planes


def _on_black(planes: list[np.ndarray], alpha: np.ndarray, pix_fmt: str, color: ColorTags) -> list[np.ndarray]:
    """Lay planes of a format of `PLANAR` over black, in code values. alpha: [H, W], all bits set where opaque."""
    depth = 10 if pix_fmt.endswith("10le") else 8
    black = 0 if color.is_full_range else 16 << (depth - 8)
    neutral = 1 << (depth - 1)
    share = alpha.astype(np.float32) / (2**depth - 1)
    flat = []
    for number, plane in enumerate(planes):
        empty = neutral if number and pix_fmt.startswith("yuv") else black
        steps = [-(-whole // part) for whole, part in zip(share.shape, plane.shape, strict=True)]
        margins = [(0, part * step - whole) for whole, part, step in zip(share.shape, plane.shape, steps, strict=True)]
        blocks = np.pad(share, margins, mode="edge").reshape(plane.shape[0], steps[0], plane.shape[1], steps[1])
        flat.append((empty + (plane.astype(np.float32) - empty) * blocks.mean((1, 3))).round().astype(plane.dtype))
    return flat
