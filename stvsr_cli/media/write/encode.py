"""Frames to packets: the encoder's configuration, its stream, and the thread it works in."""

import logging
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

import av
import av.error
import numpy as np
from av.filter import Graph

from stvsr_cli.errors import OutputError
from stvsr_cli.media.read.decode import PLANAR, Picture
from stvsr_cli.media.read.hdr import PARAMETERS, Hdr
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.read.siting import DEFAULT, siting_options
from stvsr_cli.media.write.settings import (
    AUTO,
    CARD_FORMATS,
    DEFAULT_CODEC,
    ENCODERS,
    EncoderConfig,
    quality_options,
)

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
PALETTE = "gif"
"""The encoder that takes pictures of few colours, chosen anew for each."""
PACKED = {"gbrp": "bgr0", **CARD_FORMATS}
"""Formats with the same samples in another order, for encoders that take only that one (ffv1, cards)."""
LOSSLESS = frozenset({"ffv1", "rawvideo"})
"""Encoders whose files players of everything read, gray ones too."""
CPU_INFO = Path("/proc/cpuinfo")
"""What Linux says of the processor."""
THREADS = {"libx265": ("x265-params", "pools"), "libsvtav1": ("svtav1-params", "lp")}
"""Of encoders that heed FFmpeg's number of threads only in part: the parameter that bounds them all."""


@dataclass(frozen=True, slots=True)
class Packet:
    """An encoded frame and its times, in ticks of the encoder's time base."""

    pts: int
    dts: int
    duration: int
    keyframe: bool
    data: bytes


class Output(Protocol):
    """Takes frames: a context manager that finishes on leaving."""

    def __enter__(self) -> Self:
        """Open it."""
        ...

    def write(self, picture: Picture, pts: int, duration: int) -> None:
        """Take the next frame. pts, duration: ticks of the specification's time base."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish it, or give it up after an error."""
        ...


def encoders() -> list[str]:
    """Names of all video encoders that there are here."""
    names = []
    for name in sorted(av.codec.codecs_available):
        try:
            codec = av.codec.Codec(name, "w")
        except (av.error.FFmpegError, ValueError):
            continue
        if codec.type == "video":
            names.append(codec.name)
    return sorted(set(names))


def find_encoder(name: str) -> av.codec.Codec:
    """Return an encoder; auto is the default one. Raises OutputError that names some that exist."""
    try:
        codec = av.codec.Codec(DEFAULT_CODEC if name == AUTO else name, "w")
        if codec.type == "video":
            return codec
    except (av.error.FFmpegError, ValueError):
        logger.debug("no encoder %s", name)
    known = [n for n in ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks") if n in encoders()]
    raise OutputError(f"no video encoder is called {name!r}.", hint=f"Use --codec with one of {', '.join(known)}.")


def choose_pix_fmt(config: EncoderConfig, info: VideoInfo) -> str:
    """The pixel format to write: the one asked for, or the nearest to the input's that the encoder takes.

    Raises OutputError if the one asked for is not to be had.
    """
    codec = find_encoder(config.codec)
    if codec.name == PALETTE:
        return "gbrp"
    offered = [f.name for f in codec.video_formats or ()] or sorted(PLANAR)
    usable = [name for name in sorted(PLANAR) if name in offered or PACKED.get(name) in offered]
    if config.pix_fmt is not None:
        if config.pix_fmt not in usable:
            raise OutputError(
                f"{config.codec} does not take --pix-fmt {config.pix_fmt}.", hint=f"Use one of {', '.join(usable)}."
            )
        return config.pix_fmt
    if not usable:
        raise OutputError(f"{config.codec} takes none of the pixel formats written here.", hint="Use another --codec.")
    known = ENCODERS.get(codec.name)
    deep = "10le" if info.bit_depth > 8 and (known is None or known.is_deep) else ""
    if info.pixel_format.startswith("gray") and codec.name in LOSSLESS and f"gray{deep}" in usable:
        return f"gray{deep}"
    sampling = next(
        (s for s in ("yuv444p", "yuv422p") if info.pixel_format.startswith((s, s.replace("yuv", "yuvj")))), "yuv420p"
    )
    for name in (f"{sampling}{deep}", f"yuv420p{deep}", "yuv420p10le", "yuv420p"):
        if name in usable:
            return name
    return usable[0]


def encoder_format(codec: str, pix_fmt: str) -> str:
    """The format in which an encoder takes pictures of a format of `PLANAR`: the same, or its packed twin."""
    if codec == PALETTE:
        return "pal8"
    offered = [f.name for f in find_encoder(codec).video_formats or ()]
    return PACKED[pix_fmt] if offered and pix_fmt not in offered and pix_fmt in PACKED else pix_fmt


def encoder_options(config: EncoderConfig, hdr: Hdr | None = None, siting: str = DEFAULT) -> dict[str, str]:
    """The options of a configuration as the encoder wants them.

    hdr: metadata it is to write, where it can; siting: where chroma lies, likewise.
    """
    options = quality_options(config.codec, config.crf)
    known = ENCODERS.get(config.codec)
    preset = config.preset or (known.preset if known is not None else None)
    if preset is not None:
        options["preset"] = preset
    options.update(config.options)
    if hdr is not None and config.codec in PARAMETERS:
        name = PARAMETERS[config.codec][0]
        given = options.get(name, "")
        added = [f"{key}={value}" for key, value in hdr.parameters(config.codec).items() if f"{key}=" not in given]
        options[name] = ":".join([given, *added] if given else added)
    for name, value in siting_options(config.codec, siting).items():
        if "chromaloc=" not in options.get(name, ""):
            options[name] = ":".join(filter(None, [options.get(name), value]))
    name, bound = THREADS.get(config.codec, ("", ""))
    if config.threads and name and f"{bound}=" not in options.get(name, ""):
        options[name] = ":".join(filter(None, [options.get(name), f"{bound}={config.threads}"]))
    if config.codec == "libx265" and "log-level=" not in options.get("x265-params", ""):
        options["x265-params"] = ":".join(filter(None, [options.get("x265-params"), "log-level=none"]))
    if config.codec == "libx264" and "asm=" not in options.get("x264-params", "") and has_avx512():
        options["x264-params"] = ":".join(filter(None, [options.get("x264-params"), "asm=avx2"]))
    return options


@cache
def has_avx512() -> bool:
    """Whether x264 would use AVX-512, with which its macroblock tree reads past the end of a row.

    At widths that are no multiple of 128 pixels two runs then differ: what lies there is anything.
    """
    return CPU_INFO.exists() and "avx512bw" in CPU_INFO.read_text().split()


class Feeder:
    """Makes frames for an encoder out of pictures."""

    def __init__(self, codec: str, pix_fmt: str, time_base: Fraction) -> None:
        """codec: the encoder's name. pix_fmt: in which it takes them. time_base: of their times."""
        self._codec, self._pix_fmt, self._time_base = codec, pix_fmt, time_base
        self._is_told = False

    def frame(self, picture: Picture, pts: int, duration: int) -> av.VideoFrame:
        """A picture as the encoder takes it, with what goes beside it."""
        if picture.beside is not None and not self._is_told and not takes_captions(self._codec):
            self._is_told = True
            logger.warning("closed captions are dropped: %s does not write them", self._codec)
        frame = to_av(picture, pts, duration, self._time_base)
        if frame.format.name == self._pix_fmt:
            return frame
        if self._pix_fmt == "pal8":
            return _in_few_colors(frame)
        return frame.reformat(format=self._pix_fmt, threads=1)  # the same samples, packed


@cache
def takes_captions(codec: str) -> bool:
    """Whether an encoder writes closed captions into its stream."""
    context = av.CodecContext.create(codec, "w")
    return any(option.name == "a53cc" for option in context.supported_options.private)


def _in_few_colors(frame: av.VideoFrame) -> av.VideoFrame:
    """A frame in the 256 colours that suit it best."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    split, sink = graph.add("split"), graph.add("buffersink")
    palette, use = graph.add("palettegen", "stats_mode=single"), graph.add("paletteuse", "new=1")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    graph.vpush(frame)
    graph.vpush(None)
    few = graph.vpull()
    few.pts, few.duration, few.time_base = frame.pts, frame.duration, frame.time_base
    return few


def to_av(picture: Picture, pts: int, duration: int, time_base: Fraction) -> av.VideoFrame:
    """A picture as a frame for the encoder, without any conversion."""
    height, width = picture.planes[0].shape
    if picture.beside is None:
        frame = av.VideoFrame(width, height, picture.pix_fmt)
    else:  # a frame of its own whatever its size is, as the carrier is gray and no picture is so small and gray
        frame = picture.beside.reformat(width=width, height=height, format=picture.pix_fmt, threads=1)
        frame.pict_type = 0
    for plane, source in zip(frame.planes, picture.planes, strict=True):
        row = plane.line_size // source.itemsize
        target = np.frombuffer(memoryview(plane), dtype=source.dtype)[: row * plane.height].reshape(plane.height, row)
        target[:, : plane.width] = source
        target[:, plane.width :] = source[:, -1:]  # encoders may look beyond the border; what is there must not vary
    frame.pts, frame.duration, frame.time_base = pts, duration, time_base
    frame.color_range = picture.color.range
    frame.colorspace = picture.color.matrix
    return frame
