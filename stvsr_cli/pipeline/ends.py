"""Jobs that read or write something else than a video file: standard input and output, pictures."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from stvsr_cli.errors import InputError, OutputError, StallError, UsageError
from stvsr_cli.job.job import Job
from stvsr_cli.job.report import Loaded, Progress, Report
from stvsr_cli.media import images
from stvsr_cli.media.images import ImageOutput, ImageSource, image_pix_fmt, list_images
from stvsr_cli.media.pipes import (
    PIPE,
    PIPE_FORMATS,
    Y4M,
    PipeOutput,
    Y4mOutput,
    Y4mSource,
    data_output,
    is_pipe,
    open_pipe,
)
from stvsr_cli.media.read.decode import Frame
from stvsr_cli.media.read.deinterlace import with_fields
from stvsr_cli.media.read.probe import VIDEO_SUFFIXES, VideoInfo, check_size, probe
from stvsr_cli.media.write.encode import EncoderConfig, Output
from stvsr_cli.media.write.mux import OutputFile, OutputSpec, check_target, container_format
from stvsr_cli.media.y4m import Y4mFile
from stvsr_cli.pipeline import upscale as pipeline
from stvsr_cli.pipeline.pictures import is_sequence, upscale_sequence
from stvsr_cli.runtime import watchdog
from stvsr_cli.runtime.watchdog import Watch

logger = logging.getLogger(__name__)

IMAGE_FORMATS = {"png": ".png", "jpg": ".jpg", "jpeg": ".jpg"}
"""Formats of pictures, and their suffixes."""
IMAGE_NAME = "%06d"


@dataclass(frozen=True, kw_only=True, slots=True)
class EndsConfig:
    format: str | None = None
    """Of what goes to standard output, one of `PIPE_FORMATS`, or of pictures in a folder, one of `IMAGE_FORMATS`."""
    rate: Fraction | None = None
    """Frames per second of pictures that are read; None: 25."""

    def __post_init__(self) -> None:
        known = (*PIPE_FORMATS, *IMAGE_FORMATS)
        if self.format is not None and self.format not in known:
            raise UsageError(f"--format {self.format!r} is not known.", hint=f"Use one of {', '.join(known)}.")
        if self.rate is not None and not 0 < self.rate <= 1000:
            raise UsageError(f"fps={float(self.rate):g} must lie in (0, 1000].")


def reads_images(path: Path) -> bool:
    """Whether a path is a folder of pictures and no videos, a pattern of pictures, or a picture."""
    if images.is_image(path):
        return True
    return path.is_dir() and bool(list_images(path)) and not _has_videos(path)


def _has_videos(path: Path) -> bool:
    return any(p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith(".") for p in path.iterdir())


def is_between(source: Path, target: Path, config: EndsConfig) -> bool:
    """Whether a job has an end that is no video file, so that `upscale_between` here must do it."""
    if is_pipe(source) or target == PIPE or images.is_image(target) or is_y4m(target):
        return True
    return reads_images(source) or config.format in IMAGE_FORMATS


def is_y4m(target: Path) -> bool:
    """Whether a path names a file of YUV4MPEG2."""
    return target.suffix.lower() == f".{Y4M}"


def upscale(
    job: Job,
    config: EndsConfig | None = None,
    *,
    loaded: Loaded | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    last_resort: Callable[[StallError], None] | None = None,
) -> Report:
    """Upscale one video from anywhere to anywhere: files, "-" for standard input and output, pictures.

    Arguments and errors as of `pipeline.upscale` and `upscale_between`.
    """
    config = config or EndsConfig()
    if is_between(job.input, job.output, config):
        return upscale_between(job, config, loaded=loaded, progress=progress, stop=stop, last_resort=last_resort)
    return pipeline.upscale(job, loaded=loaded, progress=progress, stop=stop, last_resort=last_resort)


def makes_sequence(job: Job, config: EndsConfig) -> bool:
    """Whether a job between such ends makes numbered pictures that it keeps a journal of."""
    into_folder = config.format in IMAGE_FORMATS or (job.output != PIPE and job.output.suffix == "")
    return is_sequence(replace(job, output=job.output / f"{IMAGE_NAME}.png") if into_folder else job)


def upscale_between(
    job: Job,
    config: EndsConfig,
    *,
    loaded: Loaded | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    last_resort: Callable[[StallError], None] | None = None,
) -> Report:
    """Upscale one video whose input or output is a pipe ("-"), or pictures.

    Numbered pictures keep a journal, as a video file does. stop, last_resort: as for `pipeline.upscale`. Raises StvsrError of the kind that fits, and `media.pipes.PipeClosed` if the
    reader of the output has gone.
    """
    with ExitStack() as stack:
        hint = "Check the other end of the pipe, the disk and the device."
        stack.enter_context(Watch(job.stall_timeout_s, hint=hint, last_resort=last_resort))
        number = stack.enter_context(data_output()) if job.output == PIPE else -1
        job = _early(job, config)
        info, frames = _source(job, config, stack)
        if images.is_image(job.input) and not images.is_pattern(job.input) and images.is_image(job.output):
            job = replace(job, fps_factor=1)
        job = replace(job, encoder=_encoder(job, info, config))
        if is_sequence(job):
            return _sequence(job, info, frames, loaded, progress, stop)
        return pipeline.upscale_between(
            job, info, lambda spec: _output(job, info, spec, config, number), source=frames, loaded=loaded, progress=progress
        )  # fmt: skip


def _sequence(
    job: Job,
    info: VideoInfo,
    frames: Callable[[], Iterator[Frame]] | None,
    loaded: Loaded | None,
    progress: Callable[[Progress], None] | None,
    stop: threading.Event | None,
) -> Report:
    begin = time.perf_counter()
    if progress is not None:
        progress(Progress("load", 0, None, 0.0))
    loaded = loaded or pipeline.load(job)
    run = upscale_sequence(job, info, frames, loaded=loaded, progress=progress, stop=stop)
    return run.report(run.made(job.output), begin)


def _early(job: Job, config: EndsConfig) -> Job:
    """The job with its output's full name, when that can be written. Raises OutputError or UsageError."""
    if job.output == PIPE:
        if config.format in IMAGE_FORMATS:
            raise UsageError(f"--format {config.format} needs a folder.", hint="Name one in place of -.")
        return job
    if is_y4m(job.output):
        if config.format not in (None, Y4M):
            raise UsageError(f"{job.output} is YUV4MPEG2, not {config.format}.", hint="Name another file.")
        check_target(job.output, job.input, overwrite=job.overwrite)
        return job
    if not images.is_image(job.output) and (job.output.suffix == "" or job.output.is_dir()):
        suffix = _image_suffix(job.input, config)
        if not job.output.is_dir():
            try:
                job.output.mkdir()
            except OSError as error:
                raise OutputError(f"the folder {job.output} cannot be made: {error.strerror}.") from error
        single = images.is_image(job.input) and not images.is_pattern(job.input)
        name = job.input.stem if single else IMAGE_NAME
        return replace(job, output=job.output / f"{name}{suffix}")
    if not images.is_image(job.output):
        container_format(job.output)
        check_target(job.output, job.input, overwrite=job.overwrite)
    elif images.is_pattern(job.output):
        check_target(job.output, job.input, overwrite=True)  # of the folder; each picture is checked by itself
    return job


def _image_suffix(source: Path, config: EndsConfig) -> str:
    if config.format in IMAGE_FORMATS:
        return IMAGE_FORMATS[config.format]
    if images.is_image(source):
        return source.suffix.lower()
    found = list_images(source) if source.is_dir() else []
    if not found:
        raise UsageError("a folder of pictures needs to know their kind.", hint="Pass --format png or jpg.")
    return found[0].suffix.lower()


def _source(job: Job, config: EndsConfig, stack: ExitStack) -> tuple[VideoInfo, Callable[[], Iterator[Frame]] | None]:
    """What the input is, and its frames where it is no video file."""
    if reads_images(job.input):
        single = images.is_image(job.input) and not images.is_pattern(job.input)
        source = ImageSource([job.input] if single else list_images(job.input), job.input, config.rate)
        return source.info, lambda: source.frames(job.start, job.end)
    if config.rate is not None:
        raise UsageError("--fps is for pictures; a video says its own rate.", hint="Leave it out.")
    if not is_pipe(job.input):
        with watchdog.busy("read"):
            info = probe(job.input, video_stream=job.video_stream, allow_url=job.allow_url, max_pixels=job.max_pixels)
            return with_fields(info, job.deinterlace), None
    opened = stack.enter_context(open_pipe(job.input))
    if isinstance(opened, Y4mSource):
        check_size(opened.info.path, opened.info.width, opened.info.height, job.max_pixels)
        return opened.info, lambda: opened.frames(job.start, job.end)
    try:
        info = probe(opened, video_stream=job.video_stream, max_pixels=job.max_pixels)
        return with_fields(info, job.deinterlace), None
    except InputError as error:
        raise InputError(error.message.replace(str(opened), "standard input"), hint=error.hint) from error


def _encoder(job: Job, info: VideoInfo, config: EndsConfig) -> EncoderConfig:
    """The encoder's configuration; frames that are not encoded in a video only need a pixel format."""
    if images.is_image(job.output):
        return EncoderConfig(codec="rawvideo", pix_fmt=image_pix_fmt(job.output, info.bit_depth))
    if is_y4m(job.output) or (job.output == PIPE and config.format == Y4M):
        return EncoderConfig(codec="rawvideo", pix_fmt=job.encoder.pix_fmt)
    return job.encoder


def _output(job: Job, info: VideoInfo, spec: OutputSpec, config: EndsConfig, number: int) -> Output:
    if images.is_image(job.output):
        return ImageOutput(job.output, info, spec, job.overwrite)
    if is_y4m(job.output):
        return Y4mFile(job.output, info, spec, overwrite=job.overwrite)
    if job.output != PIPE:
        return OutputFile(job.output, info, spec, job.encoder, overwrite=job.overwrite)
    if config.format == Y4M:
        return Y4mOutput(number, info, spec)
    return PipeOutput(number, config.format or PIPE_FORMATS[0], info, spec, job.encoder)
