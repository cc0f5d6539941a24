"""From a path to what is in it: a frozen description of the video and of everything that travels with it."""

import os
import re
import stat
import struct
from dataclasses import dataclass, replace
from fractions import Fraction
from io import RawIOBase
from pathlib import Path

import av
import av.error
from av.sidedata.sidedata import Type

from stvsr_cli.errors import InputError
from stvsr_cli.media.pyav import exact, open_lenient, side_data
from stvsr_cli.media.read.hdr import Hdr, read_hdr
from stvsr_cli.media.read.siting import DEFAULT, read_siting

UNSPECIFIED = 2
"""FFmpeg's number for an unspecified matrix, primaries or transfer function (ISO/IEC 23091-2)."""
MATRIX_BT709, MATRIX_BT601 = 1, 6
RANGE_LIMITED, RANGE_FULL = 1, 2
HIGH_DEFINITION_PX = 720
URL = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*:(//)?[^\\]")
DURATION_TAG = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
COLLAPSED = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*):/(?!/)")
"""A URL that has been a `Path`, which makes one slash of two."""
FORMATS_READ = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,live_flv,kux,asf,asf_o,rm,ogg,nut,mxf,gxf,dv,wtv,nuv,nsv,swf,ivf,obu,"
    "av1,h261,h263,h264,hevc,vvc,evc,vc1,vc1test,dirac,cavsvideo,avs2,avs3,dnxhd,ingenient,mjpeg,mjpeg_2000,gif,apng,"
    "yuv4mpegpipe,lvf,ty,vivo,pva,dhav,cine,mlv,moflex,amv,bink,smk,flic,4xm,film_cpk,roq,thp,aac,ac3,eac3,aiff,amr,caf,"
    "dts,truehd,mlp,flac,mp3,wav,w64,au,ape,wv,tta"
)
"""FFmpeg's names of the formats that are opened: what holds its own media. A playlist, a script or a description of
a session names other files and machines; text is drawn as a video; none of them is opened."""
VIDEO_SUFFIXES = frozenset(
    ".3gp .asf .avi .divx .dv .f4v .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut .ogv .rm .rmvb "
    ".ts .vob .webm .wmv .y4m".split()
)
"""Suffixes by which a video in a folder is known."""
UNKNOWN = "unknown"
"""Codec of a stream that cannot be told."""
LOCAL_PROTOCOLS = "file"
DISPLAY_MATRIX = struct.Struct("=9i")
"""AV_FRAME_DATA_DISPLAYMATRIX, row by row."""
SMALL_PX = 1 << 16
"""Pixels that a decoder may always take: it works in whole blocks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColorTags:
    """Colour description by the numbers of ISO/IEC 23091-2, which FFmpeg uses; 2 is unspecified."""

    matrix: int = UNSPECIFIED
    range: int = 0
    """0 unspecified, 1 limited, 2 full."""
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    siting: str = DEFAULT
    """Where chroma samples of 4:2:0 and 4:2:2 lie: one of `siting.LOCATIONS`."""

    def resolved_matrix(self, height_px: int) -> int:
        """The matrix, or what players assume without one: BT.709 from 720 lines up, BT.601 below."""
        if self.matrix != UNSPECIFIED:
            return self.matrix
        return MATRIX_BT709 if height_px >= HIGH_DEFINITION_PX else MATRIX_BT601

    @property
    def is_full_range(self) -> bool:
        """Whether code values span all bits; unspecified means limited."""
        return self.range == RANGE_FULL


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """How frames that hold two fields are made whole."""

    parity: str
    """The field that comes first: tff, bff, or auto for what each frame is marked with."""
    only_flagged: bool
    """Whether frames that are not marked as interlaced are left as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """A video file as probed. Times are ticks of `time_base`, sizes pixels before rotation."""

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

    @property
    def duration_s(self) -> Fraction | None:
        """Duration in seconds."""
        return None if self.duration is None else self.duration * self.time_base

    @property
    def frame_ticks(self) -> int:
        """Nominal duration of one frame, at least 1."""
        return max(1, round(1 / (self.average_rate * self.time_base)))

    @property
    def ticks_before(self) -> int:
        """How much before a frame must be read: deinterlacing looks at the field before it."""
        return 0 if self.fields is None else 2 * self.frame_ticks


def check_local(path: Path | str) -> Path:
    """Return the path of a regular local file. Raises InputError for anything else."""
    text = str(path)
    local = Path(path)
    if is_url(path):
        raise InputError(f"{text} is not a local file.", hint="Download it first, or pass --allow-url.")
    try:
        mode = local.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{text}: {reason}.", hint="Check the path.") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{text} is a folder.", hint="Name a video file.")
    if stat.S_ISFIFO(mode):
        raise InputError(f"{text} is a pipe, which can be read only once.", hint="Write it to a file first.")
    if not stat.S_ISREG(mode):
        raise InputError(f"{text} is a device, not a file.", hint="Name a video file.")
    if local.stat().st_size == 0:
        raise InputError(f"{text} is empty.", hint="Check that it was copied completely.")
    return local


def is_url(path: Path | str) -> bool:
    """Whether a path names a protocol, and no file of that name exists."""
    return bool(URL.match(str(path))) and not os.path.lexists(path)


def location(path: Path | str, *, remote: bool = False) -> str:
    """What FFmpeg is to open: an absolute path, so that a colon in a name stands for no protocol, or the URL."""
    return COLLAPSED.sub(r"\1://", str(path)) if remote else os.path.abspath(path)


def open_input(
    path: Path | str, *, remote: bool = False, file: RawIOBase | None = None
) -> "av.container.InputContainer":
    """Open a file for reading. Raises InputError if it is no media file.

    Only `FORMATS_READ` are opened, and of local files only through the file system, so that what a file says can
    pull in nothing else. remote: `path` is a URL. file: what to read in place of the file there.
    """
    options = {"format_whitelist": FORMATS_READ}
    if not remote:
        options["protocol_whitelist"] = LOCAL_PROTOCOLS
    try:
        return open_lenient(file or location(path, remote=remote), options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        refused = isinstance(error, av.error.ArgumentError)
        reason = "" if refused else f": {getattr(error, 'strerror', None) or error}"
        hint = "Playlists, scripts and text are refused; name the video itself." if refused else "Check that it plays."
        raise InputError(f"{path} cannot be read as a video{reason}.", hint=hint) from error


def check_size(path: Path | str, width: int, height: int, max_pixels: int | None) -> None:
    """Raise InputError if a frame of this size is larger than allowed."""
    if max_pixels is not None and width * height > max_pixels:
        raise InputError(
            f"{path} has frames of {width}x{height}, more than {max_pixels} pixels.",
            hint="Raise --max-pixels if the file is what it should be.",
        )


def limit_decoder(stream: av.VideoStream, max_pixels: int | None) -> None:
    """Make a stream's decoder refuse sizes far beyond the limit before it takes memory for them."""
    if max_pixels is not None:
        stream.codec_context.options = {"max_pixels": str(max(4 * max_pixels, SMALL_PX))}


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
        limit_decoder(stream, max_pixels)
        first = first_frame(container, stream, local)
        info = replace(describe(local, container, stream, first), remote=remote, max_pixels=max_pixels)
    check_size(path, info.width, info.height, max_pixels)
    if remote or not any(name in info.pixel_format for name in ("420", "422")):
        return info
    return replace(info, color=replace(info.color, siting=read_siting(local, info.stream_index)))


def first_frame(container: "av.container.InputContainer", stream: av.VideoStream, path: Path) -> av.VideoFrame:
    """Return the first frame that decodes: the rotation and the colour of a file show there."""
    stream.codec_context.thread_count = 1  # one picture is no work for several
    try:
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    return frame  # type: ignore[return-value]
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
    time_base = exact(stream.time_base) or Fraction(1, 90000)
    rate = exact(stream.average_rate) or exact(stream.guessed_rate) or Fraction(25)
    start = stream.start_time if stream.start_time is not None else (first.pts or 0)
    duration = stream.duration
    if duration is None and container.duration is not None:
        whole = Fraction(container.duration, av.time_base)
        duration = int(min(whole, _tagged_duration(stream) or whole) / time_base)
    num_frames = stream.frames or (round(duration * time_base * rate) if duration else None)
    components = first.format.components
    full = first.format.name.startswith("yuvj")
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
            matrix=int(first.colorspace),
            range=RANGE_FULL if full else int(first.color_range),
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
    )


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
