"""A job from the first frame to the finished file: decode, model and encode side by side, in threads."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, replace

import torch

from stvsr_cli import __version__
from stvsr_cli.durable.journal import Journal, settle
from stvsr_cli.durable.manifest import file_identity, fingerprint
from stvsr_cli.durable.recorder import Recorder
from stvsr_cli.durable.segments import SegmentWriter
from stvsr_cli.engine.local import Run
from stvsr_cli.errors import StallError
from stvsr_cli.job.cutter import Cutter, Totals
from stvsr_cli.job.described import described
from stvsr_cli.job.disk import check_space, warn_of_limits
from stvsr_cli.job.job import Job
from stvsr_cli.job.plan import Plan, make_plan
from stvsr_cli.job.report import Loaded as Loaded
from stvsr_cli.job.report import Progress as Progress
from stvsr_cli.job.report import Report as Report
from stvsr_cli.media.read.decode import Frame
from stvsr_cli.media.read.deinterlace import with_fields
from stvsr_cli.media.read.probe import VideoInfo, probe
from stvsr_cli.media.write.encode import Output as Output
from stvsr_cli.media.write.mux import OutputFile, OutputSpec, check_target
from stvsr_cli.models.catalogue import find_model
from stvsr_cli.models.fit.device import pick_device, pick_precision, pick_threads, usable_bytes
from stvsr_cli.models.fit.fit import offload_on, waiting_bytes
from stvsr_cli.models.registry import check_options, load_model
from stvsr_cli.runtime import watchdog
from stvsr_cli.runtime.watchdog import Watch
from stvsr_cli.weights.places import find_complete, find_weights, hashes, verify

logger = logging.getLogger(__name__)

OUTSIDE = frozenset(
    {
        "input",
        "output",
        "weights",
        "device",
        "precision",
        "overwrite",
        "allow_url",
        "max_pixels",
        "record",
        "resume",
        "check_space",
        "stall_timeout_s",
    }
)
"""Fields of a job that do not change its result, or by their value only."""


def load(job: Job) -> Loaded:
    """Load the model of a job. Raises ModelError, DeviceError or UsageError."""
    begin = time.perf_counter()
    entry = find_model(job.model)
    check_options(entry, job.options, job.detail, job.fit)
    device = pick_device(job.device)
    dtype = pick_precision(job.precision, device)
    torch.set_num_threads(pick_threads(job.threads))
    weights = job.weights
    if weights is None and entry.has_weights:
        weights = find_weights(entry.name, entry.needs)
        verify(weights)
    between = None
    if entry.spatial_only and job.fps_factor > 1:
        between = find_complete("compact", find_model("compact").needs)
        if between is not None:
            verify(between)
    model = load_model(
        entry, weights, device, dtype, options=job.options, detail=job.detail, between=between, fit=job.fit
    )
    known = ""
    if weights is not None and (job.record or job.resume != "never"):
        known = fingerprint([path for path in (weights, between) if path is not None], hashes().of)
    return Loaded(model, device, dtype, time.perf_counter() - begin, known)


def plan(job: Job, loaded: Loaded) -> Plan:
    """Probe a job's input and plan it. Raises InputError, OutputError or UsageError."""
    info = probe(job.input, video_stream=job.video_stream, allow_url=job.allow_url, max_pixels=job.max_pixels)
    check_target(job.output, job.input, overwrite=job.overwrite)
    return plan_on(job, with_fields(info, job.deinterlace), loaded)


def plan_on(job: Job, info: VideoInfo, loaded: Loaded) -> Plan:
    """Plan a job on an input that is probed already, for the device that the model is on."""
    offload = offload_on(job.fit, loaded.device)
    waiting = waiting_bytes(loaded.model, job.fit, loaded.device)
    room = usable_bytes(loaded.device, waiting)
    return make_plan(job, info, loaded.model, room, offload=offload, waiting=waiting)


def upscale(
    job: Job,
    *,
    loaded: Loaded | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    last_resort: Callable[[StallError], None] | None = None,
) -> Report:
    """Upscale one video, or go on with it where an earlier run ended; see `journal`.

    loaded: the model, if it is loaded already. progress: called from this thread at every frame and phase. stop: when
    set, the run ends as soon as what it has made so far is kept. last_resort: called in another thread when this one
    hangs in the model for longer than the job allows. Raises StvsrError of the kind that fits; the output then does
    not exist.
    """
    kept = job.resume != "never" and job.input.is_file()
    hint = "The same command goes on from what is finished." if kept else "Check the disk and the device."
    with Watch(job.stall_timeout_s, hint=hint, last_resort=last_resort):
        return _upscale(job, kept, loaded, progress, stop)


def _upscale(
    job: Job,
    kept: bool,
    loaded: Loaded | None,
    progress: Callable[[Progress], None] | None,
    stop: threading.Event | None,
) -> Report:
    begin = time.perf_counter()
    if kept and job.resume == "auto" and (done := settle(job.output)) is not None:
        logger.info("%s was finished already", job.output)
        return Report(output=probe(job.output), seconds={"model": 0.0, "total": 0.0}, peak_bytes=0, **asdict(done))
    probe_early(job)
    if progress is not None:
        progress(Progress("load", 0, None, 0.0))
    loaded = loaded or load(job)
    if kept:
        run = _journalled(job, loaded, progress, stop)
    else:
        planned = plan(job, loaded)
        check_space(job, planned)
        warn_of_limits(job, planned)
        run = Run(job, planned, loaded, progress)
        with OutputFile(job.output, planned.info, run.spec, job.encoder, overwrite=job.overwrite) as out:
            run.through(out)
    return run.report(probe(job.output), begin)


def _journalled(
    job: Job, loaded: Loaded, progress: Callable[[Progress], None] | None, stop: threading.Event | None
) -> Run:
    """Run a job with a journal."""
    settings = described(job, leave=OUTSIDE) | {"version": __version__, "weights": loaded.weights}
    settings |= {"device": loaded.device.type, "precision": str(loaded.dtype), **file_identity(job.input)}
    with Journal(job.output, settings, resume=job.resume) as journal:
        job = replace(job, tile=journal.pinned.get("tile", job.tile), batch=journal.pinned.get("batch", job.batch))
        planned = plan(job, loaded)
        check_space(job, planned, journal=journal.folder)
        warn_of_limits(job, planned)
        run = Run(job, planned, loaded, progress)
        journal.pin(tile=planned.tile.size_px, batch=run.batch)
        like = (job.output, planned.info, run.spec, job.encoder)
        with OutputFile(*like, overwrite=job.overwrite, part=journal.part) as out:
            if journal.totals is None:
                cutter = Cutter(windows=planned.windows, batch=run.batch, num_frames=job.segment_frames)
                run.go_on(journal.point, journal.frames_out)
                with Recorder(journal, cutter, lambda path: SegmentWriter(path, *like), stop) as recorder:
                    run.into(recorder.write)
                journal.complete(Totals(frames_in=run.frames_in, frames_out=run.frames_out, num_shots=run.num_shots))
            else:
                run.frames_in, run.frames_out, run.num_shots = astuple(journal.totals)
            journal.join_into(out)
    return run


def upscale_between(
    job: Job,
    info: VideoInfo,
    open_output: Callable[[OutputSpec], Output],
    *,
    source: Callable[[], Iterator[Frame]] | None = None,
    loaded: Loaded | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Upscale frames from anywhere to anywhere; the job's own input and output are only names.

    info: describes the frames. source: yields them; None decodes `info.path`. open_output: makes what takes them.
    Raises StvsrError of the kind that fits, and whatever source and output raise.
    """
    begin = time.perf_counter()
    if progress is not None:
        progress(Progress("load", 0, None, 0.0))
    loaded = loaded or load(job)
    planned = plan_on(job, info, loaded)
    check_space(job, planned)
    warn_of_limits(job, planned)
    run = Run(job, planned, loaded, progress, source)
    with open_output(run.spec) as out:
        run.through(out)
    return run.report(run.made(job.output), begin)


def probe_early(job: Job) -> None:
    """Find what is wrong with input and output before the model is loaded."""
    with watchdog.busy("read"):
        probe(job.input, video_stream=job.video_stream, allow_url=job.allow_url, max_pixels=job.max_pixels)
    check_target(job.output, job.input, overwrite=job.overwrite)
