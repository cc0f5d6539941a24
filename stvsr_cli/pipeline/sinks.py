"""Where a job's frames go: a file, a pipe, or pictures."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from stvsr_cli.durable.journal import MADE, Journal, journal_folder
from stvsr_cli.durable.picture_segments import PictureSegment, are_whole
from stvsr_cli.durable.recorder import Writer
from stvsr_cli.durable.segments import Segment, SegmentWriter, is_whole
from stvsr_cli.errors import OutputError, UsageError
from stvsr_cli.job.job import IMAGE_FORMATS, Job
from stvsr_cli.media.images import ImageOutput, image_pix_fmt, is_image, is_pattern, list_images, numbered
from stvsr_cli.media.pipes import PIPE, PIPE_FORMATS, Y4M, PipeOutput, Y4mOutput, data_output, is_pipe, named_output
from stvsr_cli.media.read.probe import VideoInfo, probe
from stvsr_cli.media.write.encode import Output, find_encoder
from stvsr_cli.media.write.mux import FORMATS, OutputFile, OutputSpec, check_target, container_format
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.media.y4m import Y4mFile
from stvsr_cli.pipeline.sources import is_single, reads_pictures

IMAGE_NAME = "%06d"
"""Of pictures in a folder, without the suffix."""


class Sink(Protocol):
    """An output that is not open yet."""

    @property
    def target(self) -> Path:
        """Its full name: of a folder of pictures, the pattern of their names in it."""
        ...

    @property
    def keeps_journal(self) -> bool:
        """Whether what is finished of it can be kept, and gone on with."""
        ...

    def check(self) -> None:
        """Raise OutputError if it cannot or must not be written there."""
        ...

    def reserved(self) -> AbstractContextManager[object]:
        """Get hold of its place for the whole run."""
        ...

    def encoder(self, info: VideoInfo) -> EncoderConfig:
        """How frames are encoded; where they are in no video, only the pixel format counts."""
        ...

    def open(self, info: VideoInfo, spec: OutputSpec, journal: Journal | None) -> AbstractContextManager[Output]:
        """Open it for the frames of an input, going on where its journal ends, if it keeps one."""
        ...

    def is_whole(self, folder: Path, segment: Segment) -> bool:
        """Whether all that a segment in a journal's folder stands for is there."""
        ...

    def segments(self, out: Output, info: VideoInfo, spec: OutputSpec) -> Callable[[Path], Writer]:
        """What makes the writer of a segment at a path of the journal."""
        ...

    def join(self, out: Output, journal: Journal) -> None:
        """Put finished segments together into the open output."""
        ...

    def described(self, made: VideoInfo) -> VideoInfo:
        """What it has become. made: what was planned, with the frames counted."""
        ...


@dataclass(slots=True)
class _Once:
    """What outputs have in common that keep no journal."""

    job: Job

    @property
    def target(self) -> Path:
        """Its full name."""
        return self.job.output

    @property
    def keeps_journal(self) -> bool:
        """Nothing of it can be gone on with."""
        return False

    def check(self) -> None:
        """Nothing is in its way."""

    def reserved(self) -> AbstractContextManager[object]:
        """Nothing to get hold of."""
        return nullcontext()

    def is_whole(self, folder: Path, segment: Segment) -> bool:
        """There are no segments."""
        raise NotImplementedError

    def segments(self, out: Output, info: VideoInfo, spec: OutputSpec) -> Callable[[Path], Writer]:
        """There are no segments."""
        raise NotImplementedError

    def join(self, out: Output, journal: Journal) -> None:
        """There are no segments."""
        raise NotImplementedError

    def described(self, made: VideoInfo) -> VideoInfo:
        """As was planned: it is gone, or nothing that is worth reading again."""
        return made


@dataclass(slots=True)
class FileSink(_Once):
    """A video file."""

    @property
    def keeps_journal(self) -> bool:
        """Its segments; a GIF has none, as its packets are no pictures of their own."""
        return self.target.suffix.lower() != ".gif"

    def check(self) -> None:
        """Raise OutputError for an unknown suffix, a file that exists, or a folder that is not to be written in."""
        if self.job.format is not None:
            raise UsageError("--format is for standard output and pictures.", hint="The output's suffix says it.")
        container_format(self.target)
        find_encoder(self.job.encoder.codec)
        check_target(self.target, self.job.input, overwrite=self.job.overwrite)

    def encoder(self, info: VideoInfo) -> EncoderConfig:
        """As the job says."""
        return self.job.encoder

    def open(self, info: VideoInfo, spec: OutputSpec, journal: Journal | None) -> OutputFile:
        """The file, which is put together in the journal's folder where there is one."""
        part = None if journal is None else journal.part
        return OutputFile(self.target, info, spec, self.job.encoder, overwrite=self.job.overwrite, part=part)

    def is_whole(self, folder: Path, segment: Segment) -> bool:
        """Whether the segment's file is there, byte for byte."""
        return is_whole(folder, segment)

    def segments(self, out: Output, info: VideoInfo, spec: OutputSpec) -> Callable[[Path], Writer]:
        """Encoders whose packets fit into the file."""
        return lambda path: SegmentWriter(path, self.target, info, spec, self.job.encoder)

    def join(self, out: Output, journal: Journal) -> None:
        """Copy their packets into the file."""
        if isinstance(out, OutputFile):
            journal.join_into(out)

    def described(self, made: VideoInfo) -> VideoInfo:
        """The finished file, read again."""
        return probe(self.target)


@dataclass(slots=True)
class PictureSink(_Once):
    """Numbered pictures in a folder, or one picture."""

    makes_folder: bool = False

    @property
    def keeps_journal(self) -> bool:
        """One picture is made or not."""
        return is_pattern(self.target)

    def check(self) -> None:
        """Raise OutputError if the folder is not to be written in, or the first picture exists and is not our own."""
        if self.job.format not in (None, *IMAGE_FORMATS):
            raise UsageError(f"{self.target} is a picture, not {self.job.format}.", hint="Leave --format out.")
        target = self.target.parent if self.makes_folder else numbered(self.target, 1)
        ours = self.makes_folder or journal_folder(self.target).is_dir()
        check_target(target, self.job.input, overwrite=self.job.overwrite or ours)

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Make the folder, where it is not there yet."""
        if self.makes_folder:
            try:
                self.target.parent.mkdir(exist_ok=True)
            except OSError as error:
                raise OutputError(f"the folder {self.target.parent} cannot be made: {error.strerror}.") from error
        yield

    def encoder(self, info: VideoInfo) -> EncoderConfig:
        """RGB, of as many bits as the pictures hold."""
        return EncoderConfig(codec="rawvideo", pix_fmt=image_pix_fmt(self.target, info.bit_depth))

    def open(self, info: VideoInfo, spec: OutputSpec, journal: Journal | None) -> AbstractContextManager[Output]:
        """The pictures after those that are finished."""
        made = None if journal is None else journal.folder / MADE
        out = ImageOutput(self.target, info, spec, self.job.overwrite, made)
        if journal is not None:
            out.skip(journal.frames_out)
            if journal.totals is not None:
                return nullcontext(out)
        return out

    def is_whole(self, folder: Path, segment: Segment) -> bool:
        """Whether the pictures that a segment lists are there, byte for byte."""
        return are_whole(folder, segment, self.target.parent)

    def segments(self, out: Output, info: VideoInfo, spec: OutputSpec) -> Callable[[Path], Writer]:
        """Lists of pictures, which are written where they belong."""
        if not isinstance(out, ImageOutput):
            raise TypeError(f"{out!r} writes no pictures")
        return lambda path: PictureSegment(path, out)

    def join(self, out: Output, journal: Journal) -> None:
        """They lie where they belong."""


@dataclass(slots=True)
class Y4mSink(_Once):
    """A file of YUV4MPEG2."""

    def check(self) -> None:
        """Raise OutputError if the file exists, or its folder is not to be written in."""
        if self.job.format not in (None, Y4M):
            raise UsageError(f"{self.target} is YUV4MPEG2, not {self.job.format}.", hint="Name another file.")
        check_target(self.target, self.job.input, overwrite=self.job.overwrite)

    def encoder(self, info: VideoInfo) -> EncoderConfig:
        """None."""
        return EncoderConfig(codec="rawvideo", pix_fmt=self.job.encoder.pix_fmt)

    def open(self, info: VideoInfo, spec: OutputSpec, journal: Journal | None) -> Y4mFile:
        """The file."""
        return Y4mFile(self.target, info, spec, overwrite=self.job.overwrite)


@dataclass(slots=True)
class PipeSink(_Once):
    """Standard output, or a named pipe."""

    number: int = -1
    """Of the descriptor, once it is reserved."""

    def check(self) -> None:
        """Raise UsageError for pictures, of which it takes none."""
        if self.job.format in IMAGE_FORMATS:
            raise UsageError(f"--format {self.job.format} needs a folder.", hint="Name one in place of -.")

        if self.target != PIPE and self._format not in PIPE_FORMATS:
            raise OutputError(
                f"a pipe such as {self.target} cannot hold {self._format}.",
                hint=f"Pass --format with one of {', '.join(PIPE_FORMATS)}.",
            )

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Keep it for data alone."""
        with data_output() if self.target == PIPE else named_output(self.target) as self.number:
            yield

    @property
    def _format(self) -> str:
        """What is written: as the job says, or a named pipe's suffix."""
        suffix = "" if self.target == PIPE else self.target.suffix.lower()
        return self.job.format or FORMATS.get(suffix) or (Y4M if is_y4m(self.target) else PIPE_FORMATS[0])

    def encoder(self, info: VideoInfo) -> EncoderConfig:
        """As the job says; none for YUV4MPEG2."""
        if self._format == Y4M:
            return EncoderConfig(codec="rawvideo", pix_fmt=self.job.encoder.pix_fmt)
        return self.job.encoder

    def open(self, info: VideoInfo, spec: OutputSpec, journal: Journal | None) -> AbstractContextManager[Output]:
        """A stream in the job's format."""
        if self._format == Y4M:
            return Y4mOutput(self.number, info, spec)
        return PipeOutput(self.number, self._format, info, spec, self.job.encoder)


def choose_sink(job: Job) -> Sink:
    """Where a job's frames go, by its output's name."""
    if is_pipe(job.output):
        return PipeSink(job)
    if is_y4m(job.output):
        return Y4mSink(job)
    if is_image(job.output):
        return PictureSink(job)
    is_folder = job.output.suffix == "" or job.output.is_dir()
    if is_folder and (job.format in IMAGE_FORMATS or reads_pictures(job.input)):
        name = job.input.stem if is_single(job.input) else IMAGE_NAME
        target = job.output / f"{name}{_image_suffix(job)}"
        return PictureSink(replace(job, output=target), makes_folder=not job.output.is_dir())
    return FileSink(job)


def is_y4m(target: Path) -> bool:
    """Whether a path names a file of YUV4MPEG2."""
    return target.suffix.lower() == f".{Y4M}"


def _image_suffix(job: Job) -> str:
    if job.format in IMAGE_FORMATS:
        return IMAGE_FORMATS[job.format]
    return (job.input if is_image(job.input) else list_images(job.input)[0]).suffix.lower()
