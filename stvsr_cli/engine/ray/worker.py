"""A worker: a process with a model, on some machine, that makes segments and small files. It knows nothing of Ray."""

import logging
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from stvsr_cli import __version__
from stvsr_cli.durable.manifest import file_identity
from stvsr_cli.durable.segments import Segment, SegmentWriter
from stvsr_cli.engine.local import Run
from stvsr_cli.engine.ray.pieces import Facts, Made, Outcome, Piece, Tools
from stvsr_cli.engine.repeats import Insert, inserter, remade
from stvsr_cli.errors import DeviceError, StvsrError
from stvsr_cli.job.job import Job
from stvsr_cli.job.report import Loaded, Progress
from stvsr_cli.job.timeline import Slot
from stvsr_cli.media.read.clip import Clip, ClipFile, Part, seeks
from stvsr_cli.media.read.decode import Frame, Picture
from stvsr_cli.media.read.moments import Differs, all_frames, stretch_frames
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.runtime.watchdog import Watch
from stvsr_cli.runtime.workers import Worker as Thread

logger = logging.getLogger(__name__)

QUIET = ("stvsr_cli.media",)
"""Rooms whose warnings the program gives itself, once a file."""


class OutOfMemory(DeviceError):
    """A worker has too little memory for its batch."""


class Worker:
    """Keeps a model, and makes with it what it is given, one piece after the other."""

    def __init__(self, tools: Tools, job: Job, *, node: str = "", threads: int = 0) -> None:
        """job: says which model. node: name of the machine. threads: compute threads; 0: as the job says."""
        self._tools, self._job, self._node, self._threads = tools, job, node, threads
        self._model: Loaded | None = None
        self._insert: Insert | None = None
        self._frames = 0

    def prepare(self) -> Facts | StvsrError:
        """Load the model. Returns what this worker is, or why it cannot be one."""
        try:
            loaded = self._loaded()
        except StvsrError as error:
            return error
        return Facts(
            host=socket.gethostname(),
            node=self._node,
            pid=os.getpid(),
            version=__version__,
            device=loaded.device.type,
            precision=loaded.precision,
            weights=loaded.weights,
            load_s=loaded.seconds,
        )

    def _loaded(self) -> Loaded:
        if self._model is None:
            self._model = self._tools.load(self._job)
            if self._threads:
                torch.set_num_threads(self._threads)
        return self._model

    def _inserter(self) -> Insert:
        """What makes frames that repeat others anew."""
        if self._insert is None:
            self._insert = inserter(self._loaded())
        return self._insert

    def plan(self, job: Job, info: VideoInfo) -> Outcome:
        """Plan a job for the device here."""

        def made() -> Made:
            loaded = self._loaded()
            if loaded.device.type == "cuda":
                torch.cuda.empty_cache()  # what earlier pieces have left is free
            return Made(planned=self._tools.plan(job, info, loaded))

        return self._outcome(made)

    def sees(self, source: Path, identity: dict[str, str], token: Path, content: str) -> bool:
        """Whether the program's disk is here, too: its input, and a file it has just written beside its output."""
        try:
            return token.read_text() == content and file_identity(source) == identity
        except (OSError, ValueError):
            return False

    def status(self) -> int:
        """Output frames of the piece in work; may be asked for meanwhile."""
        return self._frames

    def make(self, piece: Piece, clip: Clip | None = None, head: tuple[Part, ...] = ()) -> Outcome:
        """Make a segment.

        clip, head: what to read of the input, where it is not on a disk of this machine.
        """

        def made() -> Made | Outcome:
            with tempfile.TemporaryDirectory(prefix="stvsr-") as scratch:
                folder = piece.folder or Path(scratch)
                try:
                    run, segment = self._read_and_made(piece, folder, clip, head)
                except Differs as difference:
                    return Outcome(differs=str(difference))
                data = None if piece.folder else (folder / segment.name).read_bytes()
            info = piece.planned.info
            report = run.report(info, time.perf_counter())
            seconds = {name: spent for name, spent in report.seconds.items() if name not in ("load", "total")}
            return Made(segment=segment, data=data, seconds=seconds, peak_bytes=report.peak_bytes)

        return self._outcome(made, quiet=QUIET)

    def _read_and_made(
        self, piece: Piece, folder: Path, clip: Clip | None, head: tuple[Part, ...]
    ) -> tuple[Run, Segment]:
        """Make a stretch by reading no more than it needs; where that does not do, by reading the whole video.

        Raises Differs where a clip, which is not the whole video, does not do.
        """
        file = None if clip is None else ClipFile(clip, head)
        for seek in seeks(piece.planned.info, piece.moments[0].pts) if clip is None else clip.seeks:
            try:
                return self._segment(piece, folder, seek, file)
            except Differs as difference:
                logger.debug("segment %d: %s", piece.stretch.number, difference)
        if clip is not None and not clip.is_whole:
            raise Differs(f"segment {piece.stretch.number} cannot be read from its packets")
        return self._segment(piece, folder, None, file)

    def whole(self, job: Job, video: bytes | None = None) -> Outcome:
        """Make a whole file as the local engine does. video: the input, where it is not on a disk of this machine."""

        def made() -> Made:
            with tempfile.TemporaryDirectory(prefix="stvsr-") as scratch:
                here = job
                if video is not None:
                    (folder := Path(scratch, "out")).mkdir()
                    here = replace(job, input=Path(scratch, job.input.name), output=folder / job.output.name)
                    here.input.write_bytes(video)
                report = self._tools.upscale(here, loaded=self._loaded(), progress=self._count)
                data = None if video is None else here.output.read_bytes()
            return Made(report=report, data=data)

        return self._outcome(made)

    def _count(self, progress: Progress) -> None:
        self._frames = progress.done

    def _outcome(self, make: Callable[[], Made | Outcome], quiet: tuple[str, ...] = ()) -> Outcome:
        """What came of making something, with the warnings that were given."""
        self._frames = 0
        with _heard(quiet) as notes:
            try:
                made = make()
            except OutOfMemory:
                return Outcome(no_memory=True, notes=tuple(notes))
            except StvsrError as error:
                return Outcome(error=error, notes=tuple(notes))
        return (
            replace(made, notes=tuple(notes)) if isinstance(made, Outcome) else Outcome(made=made, notes=tuple(notes))
        )

    def _segment(self, piece: Piece, folder: Path, seek: int | None, file: ClipFile | None) -> tuple[Run, Segment]:
        """Make and encode a stretch.

        seek: moment to read the input from; None: its start. file: what to read in place of it. Raises Differs.
        """
        job, plan, stretch = piece.job, piece.planned, piece.stretch
        known, first = piece.moments, piece.first

        def source() -> Iterator[Frame]:
            if seek is None:
                frames = all_frames(
                    plan.info, known, first, start=plan.start, end=plan.end, threads=job.threads, file=file
                )
            else:
                frames = stretch_frames(plan.info, known, first, threads=job.threads, seek=seek, file=file)
            if not plan.info.smooths_repeats:
                return frames
            made = remade(frames, known, first, self._inserter(), self._loaded().device)
            return (frame for frame in made if frame.index < stretch.seen)

        run = Run(plan, self._loaded(), source, is_marked=True)
        run.remember({"call": piece.call, "longest": piece.longest}, _gives_way_from(piece))
        run.go_on(stretch.begin, 0)
        path = folder / f"{stretch.number:06d}.{secrets.token_hex(4)}.segment"
        writer = SegmentWriter(path, job.output, plan.info, plan.spec, job.encoder)

        def encode(item: tuple[Picture, Slot]) -> None:
            picture, slot = item
            writer.write(picture, slot.pts, slot.duration)
            self._frames += 1

        def write(picture: Picture, slot: Slot, _: int) -> None:
            if slot.source < stretch.stop:
                encoder.put((picture, slot))

        with Watch(job.stall_timeout_s, last_resort=lambda _: os._exit(1)):
            encoder: Thread[tuple[Picture, Slot]] = Thread(encode, "encode")
            try:
                run.into(write)
                encoder.close()
                return run, writer.finish()
            except BaseException:
                encoder.abort()
                writer.discard()
                raise


def _gives_way_from(piece: Piece) -> Callable[..., None]:
    """What a run is to do when memory runs out: give way only where a smaller batch cannot help.

    Else another worker may have the memory, and the batch here is smaller next time.
    """

    def pin(*, call: int, **_: int) -> None:
        if call < piece.call:
            raise OutOfMemory("out of memory.", hint="Lower --batch.")

    return pin


class _Notes(logging.Handler):
    def __init__(self, quiet: tuple[str, ...]) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._quiet, self._thread = quiet, threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(self._quiet):
            with self._thread:
                self.lines.append(record.getMessage())


@contextmanager
def _heard(quiet: tuple[str, ...]) -> Iterator[list[str]]:
    """The warnings that are given inside, but those of some rooms."""
    handler, logger = _Notes(quiet), logging.getLogger("stvsr_cli")
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
