"""Where a job's frames come from: a file, a pipe, or pictures. An input is opened and described once."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from stvsr_cli.durable.manifest import file_identity, files_identity
from stvsr_cli.errors import InputChanged, InputError, UsageError
from stvsr_cli.job.job import Job
from stvsr_cli.media.images import ImageSource, is_image, is_pattern, list_images
from stvsr_cli.media.pipes import Y4mSource, is_pipe, open_pipe
from stvsr_cli.media.read.bars import with_bars
from stvsr_cli.media.read.cadence import with_repeats
from stvsr_cli.media.read.decode import Frame, Picture, decode
from stvsr_cli.media.read.degradation import STRETCHES, estimated, with_degradation
from stvsr_cli.media.read.deinterlace import with_fields
from stvsr_cli.media.read.part import snapped
from stvsr_cli.media.read.probe import VIDEO_SUFFIXES, VideoInfo, check_local, check_size, is_url, probe
from stvsr_cli.models.catalogue import find_model
from stvsr_cli.runtime import watchdog

logger = logging.getLogger(__name__)


class Source(Protocol):
    """An open input."""

    @property
    def info(self) -> VideoInfo:
        """What it is."""
        ...

    @property
    def identity(self) -> dict[str, str] | None:
        """What it is known by when it is read again; None: it can be read only once."""
        ...

    @property
    def was_cut(self) -> bool:
        """Whether it was left before its end, as was asked for."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that the job is about. Raises InputError if there is none."""
        ...

    def check_unchanged(self) -> None:
        """Raise InputError if it is not what it was when it was opened."""
        ...


@dataclass(slots=True)
class VideoSource:
    """A video in a file, which may be a temporary one that holds what came through a pipe."""

    info: VideoInfo
    job: Job
    identity: dict[str, str] | None
    """What the file is known by; None for a URL and what came through a pipe."""
    stop: threading.Event | None = None
    """When set, the frames end; None: they all come."""
    was_cut: bool = False

    def frames(self) -> Iterator[Frame]:
        """Decode the part that is asked for, in whole frames."""
        start, end = snapped(self.info, self.job.start, self.job.end)
        for frame in decode(self.info, start=start, end=end, threads=self.job.threads):
            if self.stop is not None and self.stop.is_set():
                self.was_cut = True
                return
            yield frame

    def check_unchanged(self) -> None:
        """Look at the file again. Raises InputError."""
        check_same(self.job, self.identity, lambda: file_identity(self.job.input))


@dataclass(slots=True)
class StreamSource:
    """YUV4MPEG2 as it streams through a pipe."""

    stream: Y4mSource
    info: VideoInfo
    """As its header and its first frame say."""
    job: Job
    identity: dict[str, str] | None = None

    def frames(self) -> Iterator[Frame]:
        """The frames of the part that is asked for, once."""
        return self.stream.frames(self.job.start, self.job.end)

    @property
    def was_cut(self) -> bool:
        """Whether it was left before its end."""
        return self.stream.was_cut

    def check_unchanged(self) -> None:
        """It is read only once."""


@dataclass(slots=True)
class PictureSource:
    """A folder or a pattern of pictures, or one."""

    paths: Sequence[Path]
    images: ImageSource
    info: VideoInfo
    """As the first picture is, at the job's rate."""
    job: Job
    identity: dict[str, str] | None
    """What the files are known by."""
    was_cut: bool = False

    def frames(self) -> Iterator[Frame]:
        """The pictures of the part that is asked for."""
        return self.images.frames(self.job.start, self.job.end)

    def check_unchanged(self) -> None:
        """Look at the files again. Raises InputError."""
        check_same(self.job, self.identity, lambda: files_identity(self.paths))


def check_same(job: Job, before: dict[str, str] | None, look: Callable[[], dict[str, str]]) -> None:
    """Raise InputChanged if a job's input is not known by what it was before, and InputError if it has gone."""
    if before is None:
        return
    try:
        now = look()
    except OSError as error:
        raise InputError(f"{job.input} has gone while it was read: {error.strerror}.") from error
    if now != before:
        raise InputChanged(
            f"{job.input} has changed while it was read.", hint="Run the command again when it is written completely."
        )


@contextmanager
def open_source(job: Job, stop: threading.Event | None = None) -> Iterator[Source]:
    """Open a job's input. stop: when set, what comes through a pipe is taken to be at its end.

    Raises InputError if it cannot be read, UsageError if options do not suit it.
    """
    if reads_pictures(job.input):
        paths = list_images(job.input) if not is_single(job.input) else [job.input]
        images = ImageSource(paths, job.input, job.fps, job.crop_bars)
        info = _described(images.info, job, images.some(STRETCHES))
        yield PictureSource(paths, images, info, job, files_identity(paths))
        return
    if job.fps is not None:
        raise UsageError("--input-fps is for pictures; a video says its own rate.", hint="Leave it out.")
    if not is_pipe(job.input):
        identity = file_identity(job.input) if is_readable_again(job.input) else None
        yield VideoSource(_probed(job, job.input), job, identity)
        return
    with open_pipe(job.input, stop) as opened:
        if isinstance(opened, Y4mSource):
            check_size(opened.info.path, opened.info.width, opened.info.height, job.max_pixels)
            _check_stream(job)
            yield StreamSource(opened, _described(opened.info, job, [opened.first]), job)
            return
        try:
            info = _probed(job, opened)
        except InputError as error:
            raise InputError(error.message.replace(str(opened), "standard input"), hint=error.hint) from error
        yield VideoSource(info, job, None, stop)


def _check_stream(job: Job) -> None:
    """Say that bars are not looked for in what can be read only once. Raises UsageError where they are to go."""
    if job.crop_bars == "remove":
        raise UsageError(
            "--crop-bars remove needs to look ahead, and YUV4MPEG2 through a pipe is read only once.",
            hint="Name a file, or send another container, such as Matroska.",
        )
    if job.crop_bars == "auto":
        logger.info("black bars are not looked for: YUV4MPEG2 through a pipe is read only once")


def _probed(job: Job, path: Path) -> VideoInfo:
    with watchdog.busy("read"):
        info = probe(path, video_stream=job.video_stream, allow_url=job.allow_url, max_pixels=job.max_pixels)
        return looked_over(info, job)


def looked_over(info: VideoInfo, job: Job) -> VideoInfo:
    """A video's description with what a look at its frames says is to be done: about fields, bars, repeats and degradation."""
    info = with_repeats(with_bars(with_fields(info, job.deinterlace), job.crop_bars), job.repeats)
    return with_degradation(info) if _looks_at_degradation(job) else info


def _described(info: VideoInfo, job: Job, pictures: Iterable[Picture]) -> VideoInfo:
    """What is no video's file, with what the job says of repeats, and some of its pictures of degradation."""
    degradation = estimated([picture] for picture in pictures) if _looks_at_degradation(job) else None
    return replace(info, smooths_repeats=job.repeats == "smooth", degradation=degradation)


def _looks_at_degradation(job: Job) -> bool:
    return job.restore is None and "restore" in find_model(job.model).dials


def check_source(job: Job) -> None:
    """Raise InputError if there is nothing at a job's input that could be opened."""
    if not (is_pipe(job.input) or reads_pictures(job.input) or (job.allow_url and is_url(job.input))):
        check_local(job.input)


def is_readable_again(path: Path) -> bool:
    """Whether an input can be read a second time, so that a run can go on with it."""
    return path.is_file() or path.is_dir() or is_pattern(path)


def is_single(path: Path) -> bool:
    """Whether a path is one picture."""
    return is_image(path) and not is_pattern(path)


def reads_pictures(path: Path) -> bool:
    """Whether a path is a folder of pictures and no videos, a pattern of pictures, or a picture."""
    return is_image(path) or (path.is_dir() and bool(list_images(path)) and not _has_videos(path))


def _has_videos(path: Path) -> bool:
    return any(p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith(".") for p in path.iterdir())
