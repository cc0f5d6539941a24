"""An open job's frames through the model, with a journal or without one."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, replace

from stvsr_cli import __version__
from stvsr_cli.durable.journal import Journal
from stvsr_cli.durable.recorder import Recorder
from stvsr_cli.engine.local import Run
from stvsr_cli.engine.repeats import handled
from stvsr_cli.job.cutter import Cutter, Totals
from stvsr_cli.job.described import described
from stvsr_cli.job.disk import check_space, warn_of_limits
from stvsr_cli.job.job import Job
from stvsr_cli.job.report import Loaded, Progress, Report
from stvsr_cli.media.write.encode import Output
from stvsr_cli.pipeline.loading import apply_compile, plan_on
from stvsr_cli.pipeline.sinks import Sink
from stvsr_cli.pipeline.sources import Source

OUTSIDE = frozenset(
    {
        "input", "output", "weights", "device", "precision", "overwrite", "allow_url", "max_pixels", "record", "resume",
        "check_space", "stall_timeout_s", "threads", "encoder threads",
    }
)  # fmt: skip
"""Fields of a job that do not change its result, or by their value only."""


def work(
    job: Job,
    source: Source,
    sink: Sink,
    loaded: Loaded,
    *,
    begin: float,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """Bring all frames from a source to a sink.

    begin: when the job began, by `time.perf_counter`. Other arguments as of `pipeline.upscale`.
    """
    with _journal(job, source, sink, loaded) as journal:
        if journal is not None:
            job = as_begun(job, journal)
        plan = plan_on(job, source.info, loaded)
        check_space(job, plan, journal=None if journal is None else journal.folder)
        warn_of_limits(job, plan)
        apply_compile(job, plan, loaded)
        frames = handled(source.frames, job, loaded, smooth=source.info.smooths_repeats)
        run = Run(plan, loaded, frames, progress, is_marked=source.info.smooths_repeats)
        if journal is not None:
            run.remember(journal.pinned, journal.pin)
        with sink.open(source.info, plan.spec, journal) as out:
            if journal is None:
                run.through(out)
            else:
                _record(run, job, source, sink, out, journal, stop)
            source.check_unchanged()
    return run.report(sink.described(run.made(job.output)), begin)


def _journal(job: Job, source: Source, sink: Sink, loaded: Loaded) -> AbstractContextManager[Journal | None]:
    """The job's journal, if it keeps one."""
    identity = source.identity if job.resume != "never" and sink.keeps_journal else None
    if identity is None:
        return nullcontext()
    known = settings(job, identity, weights=loaded.weights, device=loaded.device.type, precision=loaded.precision)
    return Journal(job.output, known, resume=job.resume, is_whole=sink.is_whole)


def as_begun(job: Job, journal: Journal) -> Job:
    """A job with what the run before had decided by itself; as it is, where there was none."""
    pinned = journal.pinned
    tile, batch, window = (pinned.get(name, getattr(job, name)) for name in ("tile", "batch", "window"))
    return replace(job, tile=tile, batch=batch, window=window)


def settings(job: Job, identity: dict[str, str], *, weights: str, device: str, precision: str) -> dict[str, str]:
    """All that a job's result depends on, as text by name."""
    asked = {name: text for name, text in described(job).items() if name not in OUTSIDE}
    known = asked | {"version": __version__, "weights": weights}
    return known | {"device": device, "precision": precision, **identity}


def _record(
    run: Run, job: Job, source: Source, sink: Sink, out: Output, journal: Journal, stop: threading.Event | None
) -> None:
    """Make the segments that the journal does not have yet, and put all together."""
    if journal.totals is None:
        cutter = Cutter(windows=run.plan.windows, batch=run.plan.batch, num_frames=job.segment_frames)
        run.go_on(journal.point, journal.frames_out)
        new_writer = sink.segments(out, source.info, run.plan.spec)
        with Recorder(journal, cutter, new_writer, stop) as recorder:
            run.into(recorder.write)
        journal.complete(Totals(frames_in=run.frames_in, frames_out=run.frames_out, num_shots=run.num_shots))
    else:
        run.frames_in, run.frames_out, run.num_shots = astuple(journal.totals)
    sink.join(out, journal)
