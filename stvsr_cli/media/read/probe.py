"""From a path to what is in it: a frozen description of the video and of everything that travels with it."""

import re
import struct
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.sidedata.sidedata import Type

from stvsr_cli.errors import InputError
from stvsr_cli.media.pyav import exact, side_data
from stvsr_cli.media.read.banner import Banner, read_banner
from stvsr_cli.media.read.clock import STEADY, Clock, read_clock
from stvsr_cli.media.read.decoder import lies_beside, open_decoder
from stvsr_cli.media.read.hdr import Hdr, read_hdr
from stvsr_cli.media.read.opening import check_local as check_local
from stvsr_cli.media.read.opening import is_url as is_url
from stvsr_cli.media.read.opening import location as location
from stvsr_cli.media.read.opening import open_input as open_input
from stvsr_cli.media.read.siting import DEFAULT
from stvsr_cli.media.read.tags import MATRIX_BT601 as MATRIX_BT601
from stvsr_cli.media.read.tags import MATRIX_BT709 as MATRIX_BT709
from stvsr_cli.media.read.tags import MATRIX_RGB as MATRIX_RGB
from stvsr_cli.media.read.tags import RANGE_FULL as RANGE_FULL
from stvsr_cli.media.read.tags import RANGE_LIMITED as RANGE_LIMITED
from stvsr_cli.media.read.tags import UNSPECIFIED as UNSPECIFIED
from stvsr_cli.media.read.tags import ColorTags as ColorTags

DURATION_TAG = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
VIDEO_SUFFIXES = frozenset(
    ".3gp .asf .avi .divx .dv .f4v .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut .ogv .rm .rmvb "
    ".ts .vob .webm .wmv .y4m".split()
)
"""Suffixes by which a video in a folder is known."""
UNKNOWN = "unknown"
"""Codec of a stream that cannot be told."""
DISPLAY_MATRIX = struct.Struct("=9i")
"""AV_FRAME_DATA_DISPLAYMATRIX, row by row."""
COUNTED = frozenset({"avi"})
"""Containers that keep no times of presentation, only the order of decoding."""
MOST_LATE = 8
"""Frames by which the second frame of such a file may come late because the first one was moved to 0."""
NO_BARS = (0, 0, 0, 0)
LARGEST_BASE = (1 << 31) - 1
"""Largest number of either part of a time base."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamInfo:
    """A stream beside the video."""

    index: int
    kind: str
    """audio, subtitle, data, attachment or video."""
    codec: str
    language: str | None
    title: str | None
    cover: bool = False
    """Whether this is a picture that belongs to the whole file."""
    tag: str = ""
    """What a data track is known by: four characters, or FFmpeg's name of its codec."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """How frames that hold two fields are made whole."""

    parity: str
    """The field that comes first: tff, bff, or auto for what each frame is marked with."""
    only_flagged: bool
    """Whether frames that are not marked as interlaced are left as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """A video file as probed. Times are ticks of `time_base`, sizes pixels after cropping and before rotation."""

    path: Path
    container: str
    stream_index: int
    width: int
    height: int
    sample_aspect_ratio: Fraction
    rotation: int
    """Degrees counter-clockwise a player turns the picture by."""
    time_base: Fraction
    average_rate: Fraction
    start_pts: int
    duration: int | None
    num_frames: int | None
    """Number of frames as the container says, or an estimate from duration and rate; None if neither is known."""
    pixel_format: str
    bit_depth: int
    color: ColorTags
    interlaced: bool
    codec: str
    streams: tuple[StreamInfo, ...]
    num_chapters: int
    origin: Fraction
    """The file's own start in seconds: all streams' times count from here."""
    hdr: Hdr | None = None
    """Static HDR metadata of the first frame."""
    remote: bool = False
    """Whether `path` is a URL that was allowed."""
    fields: Fields | None = None
    """How it is deinterlaced on decoding; None: not."""
    display: tuple[int, ...] | None = None
    """FFmpeg's 3 x 3 matrix that turns and mirrors the picture for show; None: it is shown as it is."""
    max_pixels: int | None = None
    """Most pixels that a frame may have, should the size change; None: any number."""
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Pixels that are left out, left, top, right and bottom: as the container says, and bars."""
    bars: tuple[int, int, int, int] = NO_BARS
    """Black bars among them, left, top, right and bottom."""
    puts_bars_back: bool = True
    """Whether what is made of the video has bars again."""
    smooths_repeats: bool = False
    """Whether frames that repeat the one before are to be made anew."""
    degradation: float | None = None
    """How strongly it was degraded by noise, coding and blur, in [0, 1]; None: it was not looked at."""
    has_alpha: bool = False
    """Whether transparency lies beside the pictures of VP8 or VP9."""
    clock: Clock = STEADY
    """When packets come, where their stamps start over."""
    delay: int = 0
    """By how much a decoder holds the first frame back, in ticks of the stream."""
    stream_base: Fraction | None = None
    """Ticks of the stream's own stamps, where they are finer than `time_base`."""

    @property
    def duration_s(self) -> Fraction | None:
        """Duration in seconds."""
        return None if self.duration is None else self.duration * self.time_base

    @property
    def raw_size(self) -> tuple[int, int]:
        """Width and height as decoded, before cropping."""
        left, top, right, bottom = self.crop
        return self.width + left + right, self.height + top + bottom

    @property
    def whole_size(self) -> tuple[int, int]:
        """Width and height with the bars."""
        left, top, right, bottom = self.bars
        return self.width + left + right, self.height + top + bottom

    @property
    def returned_bars(self) -> tuple[int, int, int, int]:
        """The bars that are put back."""
        return self.bars if self.puts_bars_back else NO_BARS

    @property
    def shown_size(self) -> tuple[Fraction, Fraction]:
        """Width and height as players show what is made of it: with bars that are put back, rotated, of square pixels."""
        whole = self.whole_size if self.puts_bars_back else (self.width, self.height)
        width, height = whole[0] * self.sample_aspect_ratio, Fraction(whole[1])
        return (height, width) if self.rotation % 180 else (width, height)

    @property
    def frame_ticks(self) -> int:
        """Nominal duration of one frame, at least 1."""
        return max(1, round(1 / (self.average_rate * self.time_base)))

    @property
    def ticks_before(self) -> int:
        """How much before a frame must be read: deinterlacing looks at the field before it."""
        return 0 if self.fields is None else 2 * self.frame_ticks


def check_size(path: Path | str, width: int, height: int, max_pixels: int | None) -> None:
    """Raise InputError if a frame of this size is larger than allowed."""
    if max_pixels is not None and width * height > max_pixels:
        raise InputError(
            f"{path} has frames of {width}x{height}, more than {max_pixels} pixels.",
            hint="Raise --max-pixels if the file is what it should be.",
        )


def probe(
    path: Path | str, *, video_stream: int | None = None, allow_url: bool = False, max_pixels: int | None = None
) -> VideoInfo:
    """Describe the video in a file.

    video_stream: which of several video streams, counted from 0. allow_url: whether a URL may be read as well.
    max_pixels: most pixels of a frame. Raises InputError if there is no such video.
    """
    remote = allow_url and is_url(path)
    local = Path(path) if remote else check_local(path)
    with open_input(path, remote=remote) as container:
        videos = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not videos:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
            raise InputError(f"{path} has no video stream, only {kinds}.", hint="Name a file with a video.")
        number = video_stream or 0
        if number >= len(videos):
            raise InputError(
                f"{path} has {len(videos)} video streams, no number {number}.", hint="Lower --video-stream."
            )
        stream = videos[number]
        context = stream.codec_context
        if context is None or not context.width or not context.height or context.pix_fmt is None:
            raise InputError(f"{path}: the video stream cannot be decoded.", hint="Check that it plays.")
        check_size(path, context.width, context.height, max_pixels)
        has_alpha = lies_beside(stream)
        decoder = open_decoder(stream, has_alpha=has_alpha, max_pixels=max_pixels)
        first, delay = first_frame(container, stream, local, decoder)
        info = describe(local, container, stream, first)
        info = replace(info, remote=remote, max_pixels=max_pixels, has_alpha=has_alpha, delay=delay)
    check_size(path, info.width, info.height, max_pixels)
    if info.container in COUNTED:
        info = replace(info, start_pts=_counted_start(info))
    if remote:
        return info
    return _on_clock(_as_said(info, read_banner(local)), read_clock(local, info.container, info.stream_index))


def _counted_start(info: VideoInfo) -> int:
    """Where the first frame lies: FFmpeg writes it at 0 whatever it was, and the next ones where they belong."""
    stamps: list[int] = []
    with open_input(info.path, remote=info.remote) as container:
        try:
            for packet in container.demux(container.streams[info.stream_index]):
                stamps += [packet.dts] if packet.dts is not None and packet.size else []
                if len(stamps) == 3:
                    break
        except (av.error.FFmpegError, OSError):
            return info.start_pts
    if len(stamps) < 3 or stamps[0] != info.start_pts:
        return info.start_pts
    step = stamps[2] - stamps[1]
    return stamps[1] - step if step < stamps[1] - stamps[0] <= MOST_LATE * step else info.start_pts


def _as_said(info: VideoInfo, banner: Banner) -> VideoInfo:
    """The description with what the ffmpeg binary adds to it."""
    streams = tuple(replace(s, tag=banner.data.get(s.index, s.tag)) for s in info.streams)
    info = replace(info, streams=streams)
    if any(name in info.pixel_format for name in ("420", "422")):
        info = replace(info, color=replace(info.color, siting=banner.siting.get(info.stream_index, DEFAULT)))
    crop = banner.crops.get(info.stream_index, info.crop)
    width, height = info.width - crop[0] - crop[2], info.height - crop[1] - crop[3]
    return info if min(width, height) < 1 else replace(info, crop=crop, width=width, height=height)


def _on_clock(info: VideoInfo, clock: Clock) -> VideoInfo:
    """The description with the clock, and what reading all packets has shown."""
    info = replace(info, clock=clock)
    if clock.end is None or not clock.num_frames:
        return info
    duration = round(clock.end * (info.stream_base or info.time_base) / info.time_base) - info.start_pts
    return replace(info, duration=max(duration, 1), num_frames=clock.num_frames)


def first_frame(
    container: "av.container.InputContainer", stream: av.VideoStream, path: Path, context: av.VideoCodecContext
) -> tuple[av.VideoFrame, int]:
    """Return the first frame that decodes, since the rotation and the colour of a file show there.

    Returns as well by how many ticks of its stream the decoder holds it back.
    """
    context.thread_count = 1  # one picture is no work for several
    begin: int | None = None
    try:
        for packet in container.demux(stream):
            begin = packet.dts if begin is None else begin
            try:
                for frame in context.decode(packet):
                    return frame, 0 if begin is None or frame.dts is None else frame.dts - begin
            except av.error.InvalidDataError:
                continue
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{path}: no frame can be decoded: {error}.", hint="Check that it plays.") from error
    raise InputError(f"{path}: no frame can be decoded.", hint="Check that it plays.")


def describe(
    path: Path, container: "av.container.InputContainer", stream: av.VideoStream, first: av.VideoFrame
) -> VideoInfo:
    """Describe an open file's video by its headers and its first frame."""
    context = stream.codec_context
    stream_base = exact(stream.time_base) or Fraction(1, 90000)
    time_base = held_base(stream_base)
    rate = _rate(stream)
    start = stream.start_time if stream.start_time is not None else (first.pts or 0)
    duration = stream.duration
    if duration is None and container.duration is not None:
        whole = Fraction(container.duration, av.time_base)
        duration = int(min(whole, _tagged_duration(stream) or whole) / stream_base)
    frames = stream.frames if container.format.name != "avi" else 0  # which counts the empty ones
    num_frames = frames or (round(duration * stream_base * rate) if duration else None)
    start = round(start * stream_base / time_base)
    duration = None if duration is None else round(duration * stream_base / time_base)
    components = first.format.components
    origin = Fraction(container.start_time, av.time_base) if container.start_time is not None else start * time_base
    return VideoInfo(
        path=path,
        container=container.format.name,
        stream_index=stream.index,
        width=first.width,
        height=first.height,
        sample_aspect_ratio=exact(stream.sample_aspect_ratio) or Fraction(1),
        rotation=int(first.rotation),
        time_base=time_base,
        average_rate=rate,
        start_pts=start,
        duration=duration,
        num_frames=num_frames,
        pixel_format=first.format.name,
        bit_depth=max((c.bits for c in components), default=8),
        color=ColorTags(
            matrix=matrix_of(first) or (MATRIX_RGB if first.format.is_rgb else UNSPECIFIED),
            range=range_of(first),
            primaries=int(first.color_primaries),
            transfer=int(first.color_trc),
        ),
        interlaced=bool(first.interlaced_frame),
        hdr=read_hdr(first),
        display=_display(first),
        codec=context.name,
        streams=tuple(_stream_info(s) for s in container.streams if s.index != stream.index),
        num_chapters=len(container.chapters()),
        origin=min(origin, start * time_base),
        stream_base=stream_base,
    )


def held_base(base: Fraction) -> Fraction:
    """A time base, made coarser where four times as many ticks would be more than the 31 bits of FFmpeg's numbers."""
    by = -(-4 * base.denominator // LARGEST_BASE)
    return base if by <= 1 else Fraction(base.numerator * by, base.denominator)


def _rate(stream: av.VideoStream) -> Fraction:
    """Frames per second: on average, unless the container counts ticks that show nothing."""
    average, guessed = exact(stream.average_rate), exact(stream.guessed_rate)
    if average and guessed and average >= 2 * guessed:
        return guessed
    return average or guessed or Fraction(25)


def matrix_of(frame: av.VideoFrame) -> int:
    """The matrix that a frame is tagged with; 0 for unspecified, and for RGB's where the frame is none."""
    matrix = int(frame.colorspace)
    return 0 if matrix == UNSPECIFIED else matrix


def range_of(frame: av.VideoFrame) -> int:
    """The range that a frame is tagged with; full for gray that does not say, as FFmpeg reads it."""
    if frame.format.name.startswith("yuvj"):
        return RANGE_FULL
    untagged = RANGE_FULL if len(frame.format.components) <= 2 and frame.format.name != "pal8" else 0
    return int(frame.color_range) or untagged


def _tagged_duration(stream: av.VideoStream) -> Fraction | None:
    """Seconds by the tag that Matroska's writers give a stream, where the container knows only its longest stream's."""
    found = DURATION_TAG.fullmatch(stream.metadata.get("DURATION", ""))
    return None if found is None else int(found[1]) * 3600 + int(found[2]) * 60 + Fraction(found[3])


def _display(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """The display matrix that comes with a frame, without its shift, which counts in pixels of this size."""
    for data in side_data(frame):
        if data.type == Type.DISPLAYMATRIX and data.buffer_size >= DISPLAY_MATRIX.size:
            matrix = DISPLAY_MATRIX.unpack(bytes(data)[: DISPLAY_MATRIX.size])
            return (*matrix[:6], 0, 0, matrix[8])
    return None


def _is_empty(context: av.AudioCodecContext | None) -> bool:
    """Whether sound is announced, but nothing of it was found."""
    return (
        context is None
        or not context.sample_rate
        or (context.name == "aac" and not context.extradata and context.profile is None)
    )


def _stream_info(stream: av.stream.Stream) -> StreamInfo:
    codec = stream.codec_context.name if stream.codec_context is not None else UNKNOWN
    if isinstance(stream, av.AudioStream) and _is_empty(stream.codec_context):
        codec = UNKNOWN
    metadata = stream.metadata
    return StreamInfo(
        index=stream.index,
        kind=stream.type or "data",
        codec=codec,
        language=metadata.get("language"),
        title=metadata.get("title") or metadata.get("name"),
        cover=bool(stream.disposition & av.stream.Disposition.attached_pic),
    )
