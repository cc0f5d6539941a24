"""A video in a form that browsers play: the file itself where they do, else made anew."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av.error

from stvsr_cli.errors import InputError
from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.probe import VideoInfo, open_input
from stvsr_cli.media.write.mux import OutputFile, OutputSpec
from stvsr_cli.media.write.settings import EncoderConfig

CODECS = {"h264": "mp4", "vp8": "webm", "libvpx": "webm", "vp9": "webm", "libvpx-vp9": "webm"}
"""Decoders of what every browser plays, and the container they are played from."""
FORMATS = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "webm"}
"""FFmpeg's names of containers."""
PIXELS = frozenset({"yuv420p", "yuvj420p"})
TYPES = {".mp4": "video/mp4", ".webm": "video/webm"}
H264 = EncoderConfig(codec="libx264", crf=12, preset="veryfast", pix_fmt="yuv420p", options=(("g", "30"),))
VP9 = EncoderConfig(
    codec="libvpx-vp9", crf=18, pix_fmt="yuv420p", options=(("deadline", "realtime"), ("cpu-used", "6"), ("g", "30"))
)
"""For odd sizes, which H.264 has not."""


@dataclass(frozen=True, slots=True)
class Playable:
    """A file that browsers play."""

    path: Path
    mime: str
    times: tuple[Fraction, ...]
    """When each frame is shown, in seconds; the first at 0."""
    end: Fraction
    """When the last frame ends."""
    remade: str | None
    """The codec it was encoded anew with, or None: the file itself."""


def plays_as_it_is(info: VideoInfo) -> bool:
    """Whether browsers play a file, from its first frame at 0."""
    codec = CODECS.get(info.codec)
    return (
        codec is not None
        and info.pixel_format in PIXELS
        and FORMATS.get(info.container) == codec
        and (codec == "mp4" or info.path.suffix.lower() == ".webm")
        and info.fields is None
        and info.start_pts * info.time_base == info.origin
    )


def make_playable(
    info: VideoInfo,
    folder: Path,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    step: Callable[[], None] | None = None,
    name: str = "video",
) -> Playable:
    """Return a video, or the part of it in [start, end), in a form that browsers play.

    folder: for what must be made. step: called for each frame that is encoded. Raises InputError or OutputError.
    """
    if start is None and end is None and plays_as_it_is(info):
        times, last = frame_times(info.path, info.stream_index)
        return Playable(info.path, TYPES[f".{CODECS[info.codec]}"], times, last, None)
    encoder = VP9 if info.width % 2 or info.height % 2 else H264
    suffix = ".webm" if encoder is VP9 else ".mp4"
    target = folder / f"{name}{suffix}"
    frames = decode(info, start=start, end=end)
    first = next(frames)
    base = replace(
        info, streams=(), num_chapters=0, origin=first.pts * info.time_base, pixel_format="yuv420p", hdr=None
    )
    spec = OutputSpec(
        width=info.width, height=info.height, pix_fmt="yuv420p", time_base=info.time_base, rate=info.average_rate,
        color=info.color,
    )  # fmt: skip
    stamps, finish = [], first.pts
    with OutputFile(target, base, spec, encoder) as out:
        for frame in chain([first], frames):
            out.write(frame.picture, frame.pts, frame.duration)
            stamps.append(frame.pts - first.pts)
            finish = frame.pts + frame.duration
            if step is not None:
                step()
    times = tuple(stamp * info.time_base for stamp in stamps)
    return Playable(target, TYPES[suffix], times, (finish - first.pts) * info.time_base, encoder.codec)


def frame_times(path: Path, index: int) -> tuple[tuple[Fraction, ...], Fraction]:
    """When the frames of a stream are shown, in seconds from the first, and when the last one ends; by its packets."""
    with open_input(path) as container:
        stream = container.streams[index]
        try:
            found = sorted((p.pts, p.duration or 0) for p in container.demux(stream) if p.pts is not None)
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{path} ends unexpectedly: {error}.", hint="Check that it plays.") from error
        if not found:
            raise InputError(f"{path} has no frames.", hint="Check that it plays.")
        base, first = stream.time_base or Fraction(1), found[0][0]
        usual = (found[-1][0] - first) // (len(found) - 1) if len(found) > 1 else 1
        return tuple((pts - first) * base for pts, _ in found), (sum(found[-1]) - first + (0 if found[-1][1] else usual)) * base  # fmt: skip
