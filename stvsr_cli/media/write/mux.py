"""The output file: encoded video and everything beside it, written under a temporary name, checked, then renamed."""

import errno
import io
import logging
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import av.error

from stvsr_cli.errors import OutputError
from stvsr_cli.media.pyav import exact
from stvsr_cli.media.read.decode import Picture
from stvsr_cli.media.read.probe import ColorTags, VideoInfo, location, open_input
from stvsr_cli.media.record import Record, sign
from stvsr_cli.media.write.choice import fitted
from stvsr_cli.media.write.companions import Companions
from stvsr_cli.media.write.encode import Feeder, Packet, encoder_format, encoder_options, find_encoder
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.runtime import watchdog
from stvsr_cli.runtime.parts import part_path, publish, remove_orphans
from stvsr_cli.runtime.workers import Worker

logger = logging.getLogger(__name__)

FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".ts": "mpegts",
    ".nut": "nut",
    ".gif": "gif",
}
"""Containers by suffix."""
SILENCE = ("SVT_LOG", "0")
"""By which SVT-AV1 is kept from writing to the terminal, past FFmpeg and us."""
FRAME_DURATION = 1 << 8
"""AV_CODEC_FLAG_FRAME_DURATION: frames say how long they are shown."""
CONSTANT_RATE = frozenset({"avi"})
"""Containers that count frames instead of keeping times."""
FRAME_THREADED = frozenset({"libx264", "libx264rgb"})
"""Encoders that work at several frames at once if told to. PyAV has them cut each frame into slices instead, which keeps few
cores busy and makes files larger."""
INTERLEAVE_S = Fraction(1, 2)
"""How far sound and the rest are written ahead of the video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputSpec:
    """What the video stream of the output is."""

    width: int
    height: int
    pix_fmt: str
    time_base: Fraction
    """Ticks in which `OutputFile.write` takes times."""
    rate: Fraction
    """Average frame rate."""
    color: ColorTags
    start: Fraction = Fraction(0)
    """Seconds from the input's start at which the output begins, stretched as `slower` says."""
    end: Fraction | None = None
    """Seconds from the input's start at which the output ends, as the input counts."""
    counted: bool = False
    """Whether times count from the output's start, and not as in the source."""
    slower: Fraction = Fraction(1)
    """By how much time is stretched, for what goes along beside the video, too."""
    drops_sound: bool = False
    """Whether sound is left out."""
    record: Record | None = None
    """How it is made, for its metadata; None: nothing is said of that."""


class OutputFile:
    """Writes an output; a context manager that leaves either the whole file or none.

    Encoding and writing happen in a thread behind a bounded queue. On leaving without an exception the file is
    finished, read again, compared with what was written, and renamed to its target; otherwise it is removed.
    """

    def __init__(
        self,
        target: Path,
        source: VideoInfo,
        spec: OutputSpec,
        encoder: EncoderConfig,
        *,
        overwrite: bool = False,
        part: Path | None = None,
    ) -> None:
        self.target, self.source, self.spec, self.encoder = target, source, spec, fitted(encoder, target)
        self._overwrite = overwrite
        check_target(target, source.path, overwrite=overwrite)
        container_format(target)
        find_encoder(encoder.codec)
        remove_orphans(target)
        self._part = part or part_path(target)
        self._origin = round((source.origin + spec.start) / spec.time_base)
        if spec.counted or container_format(target) in CONSTANT_RATE:
            self._origin = 0
        self._durations: dict[int, int] = {}
        self._count = 0
        self._copies = False
        self._end = 0
        self._begin: int | None = None

    def __enter__(self) -> "OutputFile":
        try:
            self._open()
        except BaseException:
            self._part.unlink(missing_ok=True)
            raise
        self._worker: Worker[tuple[Picture, int, int]] = Worker(self._encode, "encode")
        return self

    def _open(self) -> None:
        try:
            self._container = self._create()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._failure(error, f"{self.target} cannot be written") from error
        spec = self.spec
        try:
            self._stream = add_video(self._container, self.source, spec, self.encoder)
            self._feeder = Feeder(self.encoder.codec, self._stream.pix_fmt or "", spec.time_base)
            self._companions = Companions(
                self.source,
                self._container,
                start=(self.source.origin + spec.start) / spec.slower - self.source.origin,
                end=spec.end,
                slower=spec.slower,
                drops_sound=spec.drops_sound,
            )
            try:
                sign(self._container.metadata, self._container.format.name, spec.record)
                self._stream.codec_context.open()
                self._container.start_encoding()
            except BaseException:
                self._companions.close()
                raise
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise self._failure(error, f"{self.encoder.codec} in {self.target.suffix} cannot be set up") from error

    def _create(self) -> "av.container.OutputContainer":
        form, options = container_format(self.target), _muxer_options(self.target)
        return av.open(location(self._part), "w", format=form, options=options)

    def write(self, picture: Picture, pts: int, duration: int) -> None:
        """Hand over the next frame. pts, duration: ticks of `spec.time_base`, counted as in the source."""
        self._worker.put((picture, pts - self._origin, duration))

    def _encode(self, item: tuple[Picture, int, int]) -> None:
        picture, pts, duration = item
        self._durations[pts] = duration
        try:
            packets = self._timed(self._stream.encode(self._feeder.frame(picture, pts, duration)))
            with watchdog.busy("write"):
                self._container.mux(packets)
                self._companions.copy_until((pts + duration) * self.spec.time_base + INTERLEAVE_S)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._failure(error, f"writing {self.target} failed") from error
        self._written(pts)

    def _timed(self, packets: list[av.Packet]) -> list[av.Packet]:
        """Packets with the durations of their frames, which not all encoders pass on."""
        for packet in packets:
            packet.duration = self._durations.pop(cast(int, packet.pts), packet.duration or 0)
        return packets

    @property
    def extradata(self) -> bytes:
        """The headers of the video stream, which packets from elsewhere must share."""
        return self._stream.codec_context.extradata or b""

    def write_packet(self, packet: Packet) -> None:
        """Write a frame encoded elsewhere with the same settings, instead of a picture; packets in order of decoding.

        The packet's times are ticks of `spec.time_base`, counted as in the source.
        """
        self._copies = True
        pts = packet.pts - self._origin
        coded = av.Packet(packet.data)
        coded.pts, coded.dts, coded.duration = pts, packet.dts - self._origin, packet.duration
        coded.time_base, coded.is_keyframe, coded.stream = self.spec.time_base, packet.keyframe, self._stream
        try:
            with watchdog.busy("write"):
                self._container.mux(coded)
                self._companions.copy_until((pts + packet.duration) * self.spec.time_base + INTERLEAVE_S)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._failure(error, f"writing {self.target} failed") from error
        self._written(pts)

    def _written(self, pts: int) -> None:
        self._begin = pts if self._begin is None else min(self._begin, pts)
        self._count += 1
        self._end = max(self._end, pts)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
            elif self._worker.abort():
                self._close()
        finally:
            self._part.unlink(missing_ok=True)

    def _finish(self) -> None:
        try:
            self._worker.close()
        except BaseException:
            self._close()
            raise
        try:
            with watchdog.busy("encode"):
                packets = [] if self._copies else self._timed(self._stream.encode(None))
            with watchdog.busy("write"):
                self._container.mux(packets)
                self._companions.finish()
                self._container.close()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._failure(error, f"writing {self.target} failed") from error
        finally:
            self._companions.close()
        try:
            with watchdog.busy("write"):
                self._verify()
                publish(self._part, self.target, overwrite=self._overwrite)
        except FileExistsError as error:
            raise existing(self.target) from error
        except OSError as error:
            raise self._failure(error, f"{self.target} cannot be finished") from error

    def _close(self) -> None:
        if not self._worker.has_ended:  # it hangs, and what it holds cannot be closed
            return
        self._companions.close()
        try:
            self._container.close()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            logger.debug("closing an unfinished file: %s", error)

    def _verify(self) -> None:
        """Read the file again. Raises OutputError if frames are missing or lie elsewhere in time.

        Durations of single frames are not looked at: MP4 keeps the distances of decoding times in their place.
        """
        with open_input(self._part) as container:
            stream = container.streams.video[0]
            stamps = [p.pts for p in container.demux(stream) if p.pts is not None]
            base = exact(stream.time_base) or Fraction(1)
        if len(stamps) != self._count:
            raise OutputError(
                f"{self.target} holds {len(stamps)} frames instead of {self._count}.",
                hint="Try another container or --codec.",
            )
        planned = (self._end - (self._begin or 0)) * self.spec.time_base
        found = (max(stamps) - min(stamps)) * base if stamps else Fraction(0)
        if abs(found - planned) > max(1 / self.spec.rate, 2 * base):
            raise OutputError(
                f"{self.target} spans {float(found):.3f} s instead of {float(planned):.3f} s.",
                hint="Try another container.",
            )

    def _failure(self, error: BaseException, what: str) -> OutputError:
        code = getattr(error, "errno", None)
        if code == errno.ENOSPC:
            return OutputError(f"{what}: the disk is full.", hint=f"Free space in {self.target.parent}.")
        reason = getattr(error, "strerror", None) or str(error)
        if code == errno.EINVAL and what.endswith("set up"):
            reason = "it does not take this size, frame rate, pixel format or option"
        return OutputError(f"{what}: {reason}.", hint="Check --codec, its options and the output's suffix.")


def add_video(
    container: "av.container.OutputContainer", source: VideoInfo, spec: OutputSpec, encoder: EncoderConfig
) -> av.VideoStream:
    """Add the output's video stream to a container, its encoder set up but not yet open."""
    stream = cast(av.VideoStream, container.add_stream(encoder.codec, rate=spec.rate))
    context = stream.codec_context
    stream.width, stream.height = spec.width, spec.height
    stream.pix_fmt = encoder_format(encoder.codec, spec.pix_fmt)
    context.time_base = spec.time_base
    stream.time_base = 1 / spec.rate if container.format.name in CONSTANT_RATE else spec.time_base
    context.sample_aspect_ratio = source.sample_aspect_ratio
    context.color_range, context.colorspace = spec.color.range, spec.color.matrix
    context.color_primaries, context.color_trc = spec.color.primaries, spec.color.transfer
    context.options = encoder_options(encoder, source.hdr, spec.color.siting)
    context.thread_count = encoder.threads
    if encoder.codec in FRAME_THREADED:
        context.thread_type = "FRAME"
    if encoder.codec == "libsvtav1":
        os.environ.setdefault(*SILENCE)
    context.flags |= FRAME_DURATION
    if find_encoder(encoder.codec).canonical_name == "hevc" and container.format.name in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # the only kind that Apple's players take
    if source.display is not None:
        stream.set_display_matrix(source.display)
    elif source.rotation:
        stream.set_display_rotation(source.rotation)
    return stream


def supported_codecs(target: Path) -> tuple[str, frozenset[str]]:
    """The name of the format that a path's suffix chooses, and the codecs it can hold. Raises OutputError."""
    name = container_format(target)
    with av.open(io.BytesIO(), "w", format=name) as container:
        return name, frozenset(container.supported_codecs)


def container_format(target: Path) -> str:
    """FFmpeg's name of the container that a path's suffix chooses. Raises OutputError for an unknown one."""
    name = FORMATS.get(target.suffix.lower())
    if name is None:
        raise OutputError(
            f"no container is known by the suffix {target.suffix!r}.", hint=f"Use one of {', '.join(FORMATS)}."
        )
    return name


def _muxer_options(target: Path) -> dict[str, str]:
    suffix = target.suffix.lower()
    if suffix in (".mp4", ".mov", ".m4v"):
        return {"movflags": "+faststart"}
    return {"avoid_negative_ts": "disabled"} if suffix == ".avi" else {}  # which keeps no times, and would show gaps


def existing(target: Path) -> OutputError:
    """What is said of an output that is there already."""
    return OutputError(f"{target} exists already.", hint="Pass --overwrite, or name another output.")


def check_target(target: Path, source: Path, *, overwrite: bool) -> None:
    """Raise OutputError if an output cannot or must not be written there."""
    if not target.parent.is_dir():
        raise OutputError(f"the folder {target.parent} does not exist.", hint="Create it first.")
    if target.is_dir():
        raise OutputError(f"{target} is a folder.", hint="Name a file in it.")
    if target.exists():
        if source.exists() and target.samefile(source):
            raise OutputError(f"{target} is the input itself.", hint="Name another output.")
        if not overwrite:
            raise existing(target)
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"the folder {target.parent} is not writable.", hint="Choose another folder.")
