"""From a path to what is in it: a frozen description of the video and of everything that travels with it."""

import re
import stat
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error

from stvsr_cli.errors import InputError

UNSPECIFIED = 2
"""FFmpeg's number for an unspecified matrix, primaries or transfer function (ISO/IEC 23091-2)."""
MATRIX_BT709, MATRIX_BT601 = 1, 6
RANGE_LIMITED, RANGE_FULL = 1, 2
HIGH_DEFINITION_PX = 720
URL = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*:(//)?[^\\]")


@dataclass(frozen=True, kw_only=True, slots=True)
class ColorTags:
    """Colour description by the numbers of ISO/IEC 23091-2, which FFmpeg uses; 2 is unspecified."""

    matrix: int = UNSPECIFIED
    range: int = 0
    """0 unspecified, 1 limited, 2 full."""
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

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

    @property
    def duration_s(self) -> Fraction | None:
        """Duration in seconds."""
        return None if self.duration is None else self.duration * self.time_base

    @property
    def frame_ticks(self) -> int:
        """Nominal duration of one frame, at least 1."""
        return max(1, round(1 / (self.average_rate * self.time_base)))


def check_local(path: Path | str, *, allow_url: bool = False) -> Path:
    """Return the path of a regular local file or a pipe. Raises InputError for anything else."""
    text = str(path)
    if not allow_url and URL.match(text) and not Path(text).exists():
        raise InputError(f"{text} is not a local file.", hint="Download it first, or pass --allow-url.")
    local = Path(path)
    try:
        mode = local.stat().st_mode
    except OSError as error:
        raise InputError(f"{text}: {error.strerror}.", hint="Check the path.") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{text} is a folder.", hint="Name a video file.")
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise InputError(f"{text} is a device, not a file.", hint="Name a video file.")
    if stat.S_ISREG(mode) and local.stat().st_size == 0:
        raise InputError(f"{text} is empty.", hint="Check that it was copied completely.")
    return local


def open_input(path: Path) -> "av.container.InputContainer":
    """Open a file for reading. Raises InputError if it is no media file.

    Only the file protocol is allowed, so that a playlist or a script in it cannot pull in other things.
    """
    try:
        container = av.open(
            str(path), "r", container_options={"protocol_whitelist": "file,pipe"}, metadata_errors="replace"
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} cannot be read as a video: {reason}.", hint="Check that it plays.") from error
    if container.format.name in ("hls", "concat", "dash", "image2", "tty"):
        container.close()
        raise InputError(f"{path} is a list of other files, not a video.", hint="Name the video itself.")
    return container


def probe(path: Path | str, *, video_stream: int | None = None, allow_url: bool = False) -> VideoInfo:
    """Describe the video in a file.

    video_stream: which of several video streams, counted from 0. Raises InputError if there is no such video.
    """
    local = check_local(path, allow_url=allow_url)
    with open_input(local) as container:
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
        first = first_frame(container, stream, local)
        return describe(local, container, stream, first)


def first_frame(container: "av.container.InputContainer", stream: av.VideoStream, path: Path) -> av.VideoFrame:
    """Return the first frame that decodes: the rotation and the colour of a file show there."""
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
    time_base = stream.time_base or Fraction(1, 90000)
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    start = stream.start_time if stream.start_time is not None else (first.pts or 0)
    duration = stream.duration
    if duration is None and container.duration is not None:
        duration = int(Fraction(container.duration, av.time_base) / time_base)
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
        sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(1),
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
        codec=context.name,
        streams=tuple(_stream_info(s) for s in container.streams if s.index != stream.index),
        num_chapters=len(container.chapters()),
        origin=min(origin, start * time_base),
    )


def _stream_info(stream: av.stream.Stream) -> StreamInfo:
    codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
    metadata = stream.metadata
    return StreamInfo(
        index=stream.index,
        kind=stream.type or "data",
        codec=codec,
        language=metadata.get("language"),
        title=metadata.get("title"),
    )
