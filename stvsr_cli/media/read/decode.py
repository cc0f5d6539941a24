"""From a described video to frames with exact timestamps."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from io import RawIOBase
from typing import cast

import av
import av.error
import numpy as np

from stvsr_cli.errors import InputError
from stvsr_cli.media.read.continuity import Continuity
from stvsr_cli.media.read.deinterlace import deinterlaced
from stvsr_cli.media.read.hdr import dynamic_kinds
from stvsr_cli.media.read.probe import ColorTags, VideoInfo, check_size, limit_decoder, open_input

logger = logging.getLogger(__name__)

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


SEQUENCE_HEADER = b"\x00\x00\x01\xb3"
"""Begins a header of MPEG-1 and 2 video; 12 bits each of width and height follow (ISO/IEC 13818-2, 6.2.2.1)."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The pixels of one frame."""

    planes: tuple[np.ndarray, ...]
    """[H, W] each, uint8 or uint16; chroma planes smaller as the format says; gbrp in that order."""
    pix_fmt: str
    """One of `PLANAR`."""
    color: ColorTags

    @property
    def bit_depth(self) -> int:
        """Bits per sample."""
        return 10 if self.pix_fmt.endswith("10le") else 8


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
    for pts, picture, nominal in _timed(info, first, threads, file):
        if previous is not None:
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
        raise InputError(f"{info.path} ends before --start.", hint="Lower --start.")


def _from(frame: Frame, first: int) -> Frame:
    """The frame, shortened if it began before the first moment asked for."""
    if frame.pts >= first:
        return frame
    return replace(frame, pts=first, duration=frame.pts + frame.duration - first)


def _ticks(seconds: Fraction, info: VideoInfo) -> int:
    return round(seconds / info.time_base)


def _timed(info: VideoInfo, first: int, threads: int, file: RawIOBase | None) -> Iterator[tuple[int, Picture, int]]:
    """Pictures with repaired timestamps and nominal durations."""
    clock = Continuity(info.time_base)
    last: int | None = None
    repaired = resized = False
    for frame in as_stored(info, first, threads, file):
        if last is None:
            _tell_losses(frame, info)
        if not resized and (frame.width, frame.height) != (info.width, info.height):
            logger.warning(
                "%s changes to %dx%d on its way; all is scaled to %dx%d",
                info.path, frame.width, frame.height, info.width, info.height,
            )  # fmt: skip
            resized = True
        duration = frame.duration or info.frame_ticks
        starts_over = frame.pts is not None and clock.restarts(frame.pts)
        pts = None if frame.pts is None else clock.follow(frame.pts, duration)
        is_wrong = pts is None or (last is not None and pts <= last)
        if (is_wrong or starts_over) and not repaired:
            logger.warning("%s: timestamps are missing or run backwards; frames go on evenly there", info.path)
            repaired = True
        if pts is None or is_wrong:
            pts = info.start_pts if last is None else last + info.frame_ticks
            clock.reach(pts + duration)
        last = pts
        yield pts, picture_of(frame, info), duration


def as_stored(info: VideoInfo, first: int, threads: int, file: RawIOBase | None = None) -> Iterator[av.VideoFrame]:
    """Decoded frames, made whole where they hold two fields, from the keyframe before a moment on.

    first: ticks of the input's time base. file: what to read in place of the file at the video's path. Times are those
    of the file; nothing is repaired.
    """
    frames = _raw(info, first, threads, file)
    return frames if info.fields is None else deinterlaced(frames, info.fields)


def _tell_losses(frame: av.VideoFrame, info: VideoInfo) -> None:
    """Say what comes with the video that is not kept."""
    if is_transparent(frame):
        logger.warning("%s: what is transparent is laid over black", info.path)
    for kind in dynamic_kinds(frame):
        logger.warning("%s: the %s metadata is dropped; it describes another picture", info.path, kind)


def _raw(info: VideoInfo, first: int, threads: int, file: RawIOBase | None = None) -> Iterator[av.VideoFrame]:
    """Decoded frames; what cannot be decoded is left out, a damaged picture replaced by the one before it."""
    damaged = 0
    with open_input(info.path, remote=info.remote, file=file) as container:
        stream = container.streams[info.stream_index]
        assert_video(stream, info)
        limit_decoder(cast(av.VideoStream, stream), info.max_pixels)
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        if first > info.start_pts:
            container.seek(first - info.ticks_before, stream=stream, backward=True)
        packets = container.demux(stream)
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
            try:
                frames = [*held_before(packet, sizes), *cast(list[av.VideoFrame], packet.decode())]
            except av.error.FFmpegError:
                damaged += 1
                continue
            for frame in frames:
                check_size(info.path, frame.width, frame.height, info.max_pixels)
                if frame.is_corrupt and good is not None:
                    damaged += 1
                    good.pts, good.duration = frame.pts, frame.duration
                    yield good
                else:
                    good = frame
                    yield frame
    if damaged:
        logger.warning("%s: %d frames are damaged; the frame before each is held", info.path, damaged)


def held_before(packet: av.Packet, sizes: list[int]) -> list[av.VideoFrame]:
    """Frames that the decoder holds back and would lose at this packet, where the size of MPEG-1 or 2 video changes.

    sizes: those seen so far, as their sequence headers write them; added to.
    """
    context = packet.stream.codec_context
    if context.name not in ("mpeg1video", "mpeg2video"):
        return []
    data = bytes(packet)
    at = data.find(SEQUENCE_HEADER)
    if at < 0 or len(data) < at + 7:
        return []
    size = int.from_bytes(data[at + 4 : at + 7])
    held: list[av.VideoFrame] = []
    if sizes and sizes[-1] != size:
        held = cast(list[av.VideoFrame], context.decode(None))
        context.flush_buffers()
    sizes.append(size)
    del sizes[:-1]
    return held


def assert_video(stream: object, info: VideoInfo) -> None:
    """Raise InputError if the file changed since it was probed."""
    if not isinstance(stream, av.VideoStream):
        raise InputError(f"{info.path} changed while it was read.", hint="Start again when it is complete.")


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
    """The frame's pixels as planes; laid over black, converted and brought to the video's size where they differ."""
    target = nearest_planar(frame)
    color = replace(info.color, matrix=0, range=2) if target.startswith("gbrp") else info.color
    # FFmpeg has no planar gray with transparency; for gray, green is the same.
    has_alpha, read = is_transparent(frame), target.replace("gray", "gbrp")
    needed = read.replace("yuv", "yuva").replace("gbrp", "gbrap") if has_alpha else target
    size = (info.width, info.height)
    if frame.format.name.replace("yuvj", "yuv") != needed or (frame.width, frame.height) != size:
        # libswscale's own threads now and then spoil a few pixels between two slices, and save no time.
        frame = frame.reformat(width=size[0], height=size[1], format=needed, threads=1)
    planes = _planes(frame)
    if has_alpha:
        planes = _on_black(planes[:1] if target.startswith("gray") else planes[:3], planes[3], target, color)
    return Picture(tuple(planes), target, color)


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
