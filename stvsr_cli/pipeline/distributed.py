"""A job on many workers: a scan finds its stretches, workers make them in any order, the journal holds what is made."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

from stvsr_cli.durable.journal import Journal, settle
from stvsr_cli.durable.manifest import file_identity
from stvsr_cli.durable.segments import is_whole
from stvsr_cli.engine.ray.cluster import RayConfig, workers_of
from stvsr_cli.engine.ray.looks import looks
from stvsr_cli.engine.ray.pieces import Made, Piece, Tools
from stvsr_cli.engine.ray.pool import Pool, Seat, Task, batch_of
from stvsr_cli.engine.repeats import tell
from stvsr_cli.errors import Interrupted, OutputError, UsageError
from stvsr_cli.job.cutter import Cutter, Totals
from stvsr_cli.job.disk import check_space, warn_of_limits
from stvsr_cli.job.job import Job
from stvsr_cli.job.plan import Plan
from stvsr_cli.job.rates import multiple_of, taken_steadily
from stvsr_cli.job.report import Progress, Report
from stvsr_cli.job.stretches import Stretch, Stretches
from stvsr_cli.media.images import is_image
from stvsr_cli.media.read.clip import Part, cut_clip, whole_clip
from stvsr_cli.media.read.glances import Chunk, Glance
from stvsr_cli.media.read.moments import Moment
from stvsr_cli.media.read.probe import VideoInfo, probe
from stvsr_cli.media.write.mux import OutputFile, check_target
from stvsr_cli.pipeline import upscale as local
from stvsr_cli.pipeline.loading import load, plan_on
from stvsr_cli.pipeline.scan import Scan
from stvsr_cli.pipeline.sources import check_same, looked_over
from stvsr_cli.pipeline.work import as_begun, settings
from stvsr_cli.runtime.parts import part_path, publish, write_whole

logger = logging.getLogger(__name__)

TICK_S = 0.2
"""How often a job looks for its stop, and tells how far it is."""
MANY = 4
"""Segments that a file of a batch may have and still be one piece."""
FIRST = 1 << 62
"""Cost of what goes before everything else."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers of a run, for any number of jobs with one model."""

    pool: Pool
    ship: str
    looks: Callable[..., Iterator[list[Glance]]] = looks
    """Looks over chunks of a video; see `engine.ray.looks`."""
    _shared: dict[tuple[str, Path, Path], bool] = field(default_factory=dict)

    @property
    def num_workers(self) -> int:
        """How many workers there are, or will be."""
        return len(self.pool.seats)

    def share(self, seat: Seat, job: Job, identity: dict[str, str]) -> bool:
        """Whether a worker has this machine's disk, as far as a job needs it."""
        if self.ship != "auto" or seat.facts is None:
            return self.ship == "never"
        key = (seat.facts.node, job.input.resolve().parent, job.output.resolve().parent)
        if key not in self._shared:
            token, content = part_path(job.output).resolve(), secrets.token_hex(16)
            token.write_text(content)
            try:
                asked = seat.actor.sees.options(concurrency_group="tell")
                self._shared[key] = self.pool.get(asked.remote(job.input.resolve(), identity, token, content))
            finally:
                token.unlink(missing_ok=True)
        return self._shared[key]


@contextmanager
def workers(config: RayConfig, job: Job) -> Iterator[Workers]:
    """Workers on a cluster, as long as the block runs; see `engine.ray.cluster.workers_of`."""
    tools = Tools(load=load, plan=plan_on, upscale=local.upscale)
    with workers_of(config, _resolved(job), tools) as pool:
        yield Workers(pool, config.ship)


def distribute(
    job: Job,
    crew: Workers,
    *,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    many: bool = False,
) -> Report:
    """Upscale one video on many workers, or go on with it; the result is the local engine's, bit for bit.

    many: whether there are other jobs to keep the workers busy, so that longer files stay in one piece. Other arguments
    and errors as of `pipeline.upscale`; UsageError for what is no file.
    """
    begin = time.perf_counter()
    if is_image(job.input) or is_image(job.output) or not job.input.is_file():
        raise UsageError("--engine ray takes video files.", hint="Leave it out for pictures and pipes.")
    if job.resume == "never":
        raise UsageError("--engine ray keeps a journal.", hint="Leave out --resume never.")
    if job.resume == "auto" and (done := settle(job.output)) is not None:
        logger.info("%s was finished already", job.output)
        return Report(output=probe(job.output), seconds={"model": 0.0, "total": 0.0}, peak_bytes=0, **asdict(done))
    info = probe(job.input, video_stream=job.video_stream, allow_url=job.allow_url, max_pixels=job.max_pixels)
    check_target(job.output, job.input, overwrite=job.overwrite)
    film = Film(job, crew, info, progress, stop or threading.Event(), begin)
    most = job.segment_frames * (MANY if many else 1)
    is_short = info.num_frames is not None and info.num_frames * multiple_of(job, info) <= most
    if is_short or taken_steadily(job, info) is not None:  # whose frames are counted from the start
        return film.whole()
    return film.in_pieces()


@dataclass(slots=True)
class Film:
    """The state of one job while it runs."""

    job: Job
    crew: Workers
    info: VideoInfo
    progress: Callable[[Progress], None] | None
    stop: threading.Event
    begin: float
    _tasks: dict[Any, tuple[Task, Stretch | None]] = field(default_factory=dict)
    """What is not finished, by its future."""
    _seconds: dict[str, float] = field(default_factory=dict)
    _peak: int = 0
    _identity: dict[str, str] = field(default_factory=dict)
    _before: int = 0
    _heads: dict[tuple[Part, ...], Any] = field(default_factory=dict)
    _all: Any = None

    def whole(self) -> Report:
        """Have the file made in one piece, by one worker."""
        self._identity = file_identity(self.job.input)
        job = _resolved(self.job)
        total = ceil((self.info.num_frames or 0) * multiple_of(job, self.info))

        def send(seat: Seat, task: Task) -> Any:
            shares = self.crew.share(seat, job, self._identity)
            return seat.actor.whole.remote(job, None if shares else self.crew.pool.put(job.input.read_bytes()))

        task = self.crew.pool.submit(max(1, self.info.num_frames or 1), send)
        self._tasks[task.future] = (task, None)
        while not task.future.done():
            self._tell("upscale", 0, total)
            self._heed_stop()
            wait([task.future], TICK_S)
        if task.future.cancelled():
            raise Interrupted("stopped before a worker began.", hint="Run the same command to start again.")
        made = task.future.result()
        if made.report is None:
            raise OutputError(f"a worker has not made {self.job.output}.")
        if made.data is not None:
            _write(self.job, made.data)
        report = replace(made.report, output=probe(self.job.output))
        self._tell("finish", report.frames_out, total)
        return report

    def in_pieces(self) -> Report:
        """Have the file made in stretches, by all workers."""
        job, pool = self.job, self.crew.pool
        self._tell("load", 0, None)
        info = replace(looked_over(self.info, job), path=job.input.resolve())
        facts = pool.facts()
        self._seconds["load"] = facts.load_s
        self._identity = file_identity(job.input)
        known = settings(job, self._identity, weights=facts.weights, device=facts.device, precision=facts.precision)
        with Journal(job.output, known, resume=job.resume, in_order=False) as journal:
            job = as_begun(job, journal)
            planned = pool.submit(FIRST, lambda seat, _: seat.actor.plan.remote(job, info)).future.result().planned
            if planned is None:
                raise ValueError("a worker has made no plan")
            check_space(job, planned, journal=journal.folder)
            warn_of_limits(job, planned)
            pinned = {"tile": planned.tile.size_px, "window": planned.windows.size, "batch": planned.batch}
            journal.pin(**({**pinned, "call": planned.batch, "longest": 0} | journal.pinned))
            like = (job.output, planned.info, planned.spec, job.encoder)
            with OutputFile(*like, overwrite=job.overwrite, part=journal.part) as out:
                totals = journal.totals or self._made(_resolved(job), planned, journal)
                self._tell("finish", totals.frames_out, planned.num_frames)
                journal.join_into(out)
                check_same(job, self._identity, lambda: file_identity(job.input))
        return Report(
            output=probe(job.output),
            seconds={**{n: round(s, 3) for n, s in self._seconds.items()}, "total": time.perf_counter() - self.begin},
            peak_bytes=self._peak,
            **asdict(totals),
        )

    def _made(self, job: Job, planned: Plan, journal: Journal) -> Totals:
        """Make all stretches that the journal does not hold yet."""
        cutter = Cutter(windows=planned.windows, batch=planned.batch, num_frames=job.segment_frames)
        stretches = Stretches(cutter, planned.timeline)
        known: list[Moment] = []
        self._before = journal.frames_out
        part = replace(job, start=planned.start, end=planned.end)
        scan = Scan(part, planned.info, stretches, known, self._look)
        try:
            while not (scan.is_done and not self._tasks):
                for stretch in scan.found():
                    if stretch.number not in journal.finished:
                        self._submit(job, planned, journal, stretch, known)
                self._tell("upscale", journal.frames_out, planned.num_frames)
                if self._heed_stop():
                    scan.end()
                self._accept(journal)
            scan.check()
            if planned.info.smooths_repeats:
                tell(job, sum(moment.nth > 0 for moment in known), len(known))
        finally:
            scan.end()
            self.crew.pool.cancel(task for task, _ in self._tasks.values())
        if self.stop.is_set() and (stretches.totals is None or len(journal.finished) <= scan.last_number):
            raise Interrupted(
                f"stopped after {journal.frames_out} frames, which are kept in {journal.folder}.",
                hint="Run the same command to continue from there.",
            )
        if stretches.totals is None:
            raise ValueError("the scan has not come to its end")
        journal.complete(stretches.totals)
        self._seconds["decode"] = scan.seconds
        return stretches.totals

    def _submit(self, job: Job, planned: Plan, journal: Journal, stretch: Stretch, known: list[Moment]) -> None:
        first = stretch.begin.context - known[stretch.begin.context].nth
        beyond = stretch.seen
        while known[beyond - 1].nth:  # as far as the frame that the last repeats move towards
            beyond += 1
        needed, info = tuple(known[first:beyond]), planned.info

        def send(seat: Seat, task: Task) -> Any:
            shares = self.crew.share(seat, job, self._identity)
            piece = Piece(
                job=job, planned=planned, stretch=stretch, first=first, moments=needed,
                call=batch_of(journal.pinned["call"], seat, task), longest=journal.pinned["longest"],
                folder=journal.folder.resolve() if shares else None,
            )  # fmt: skip
            if shares:
                return seat.actor.make.remote(piece)
            return seat.actor.make.remote(piece, *self._sent(info, needed[0].pts, needed[-1].pts, whole=task.whole))

        task = self.crew.pool.submit(stretch.num_seen, send)
        self._tasks[task.future] = (task, stretch)

    def _look(self, info: VideoInfo, chunks: Sequence[Chunk]) -> Iterator[list[Glance]]:
        """Have a video looked over by cores of the cluster. Raises Differs where they cannot."""
        ready = [seat for seat in self.crew.pool.seats if seat.facts is not None]
        sees = all(self.crew.share(seat, self.job, self._identity) for seat in ready)

        def send(chunk: Chunk) -> tuple[Any, ...]:
            return () if sees else self._sent(info, chunk.stamps[0], chunk.stamps[-1], whole=False)

        return self.crew.looks(info, chunks, self._identity, send)

    def _sent(self, info: VideoInfo, first: int, last: int, *, whole: bool) -> tuple[Any, ...]:
        """What a machine that does not have this one's disk is to read for frames from one moment to another.

        Returns Ray's references.
        """
        cut = None if whole else cut_clip(info, first, last)
        if cut is None:
            if self._all is None:
                self._all = self.crew.pool.put(whole_clip(info))
            return (self._all,)
        head, clip = cut
        if head not in self._heads:
            self._heads = {head: self.crew.pool.put(head)}
        return self.crew.pool.put(clip), self._heads[head]

    def _accept(self, journal: Journal) -> None:
        """Wait a moment for what is in work, and keep what is finished; then raise what failed."""
        done, _ = wait(self._tasks, TICK_S, FIRST_COMPLETED) if self._tasks else (set(), None)
        if not self._tasks:
            time.sleep(TICK_S / 4)
        for future in sorted(done, key=_has_failed):
            _, stretch = self._tasks.pop(future)
            if future.cancelled() or stretch is None:
                continue
            made = future.result()
            keep(made, stretch, journal)
            for name, seconds in made.seconds.items():
                self._seconds[name] = self._seconds.get(name, 0.0) + seconds
            self._peak = max(self._peak, made.peak_bytes)

    def _heed_stop(self) -> bool:
        """Whether the run is to stop: what no worker has begun is then left."""
        if self.stop.is_set():
            self.crew.pool.cancel(task for task, _ in self._tasks.values())
        return self.stop.is_set()

    def _tell(self, phase: str, done: int, total: int | None) -> None:
        if self.progress is not None:
            going = done + sum(task.frames for task, _ in self._tasks.values())
            spent = time.perf_counter() - self.begin
            rates = self.crew.pool.rates()
            fps = (going - self._before) / max(spent, 1e-9)
            self.progress(Progress(phase, going, total, fps, workers=rates))


def _has_failed(future: Future[Made]) -> bool:
    return not future.cancelled() and future.exception() is not None


def _resolved(job: Job) -> Job:
    """The job with paths that hold wherever a worker runs."""
    weights = job.weights.resolve() if job.weights is not None else None
    return replace(job, input=job.input.resolve(), output=job.output.resolve(), weights=weights)


def keep(made: Made, stretch: Stretch, journal: Journal) -> None:
    """Put a segment into the journal, on disk to stay. Raises OutputError if it is not what the worker made."""
    if made.segment is None:
        raise OutputError(f"a worker has made no segment of {journal.target}.")
    path = journal.path_of(stretch.number)
    try:
        if made.data is None:
            publish(journal.folder / made.segment.name, path)
        else:
            write_whole(path, made.data)
    except OSError as error:
        raise OutputError(f"writing {path} failed: {error.strerror}.", hint="Free space and run it again.") from error
    segment = replace(made.segment, name=path.name)
    if not is_whole(journal.folder, segment):
        raise OutputError(f"{path} is not what a worker has made.", hint="Run the command again, with --ship always.")
    journal.add_ahead(stretch.number, segment, stretch.after)


def _write(job: Job, data: bytes) -> None:
    """Write a finished file, all at once."""
    try:
        check_target(job.output, job.input, overwrite=job.overwrite)
        write_whole(job.output, data)
    except OSError as error:
        raise OutputError(f"writing {job.output} failed: {error.strerror}.", hint="Free space.") from error
