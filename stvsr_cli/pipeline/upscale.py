"""One job from end to end: from a file, a pipe or pictures to a file, a pipe or pictures.

What is wrong with input and output is said before PyTorch is imported, which takes seconds.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from stvsr_cli.durable.journal import settle
from stvsr_cli.errors import Interrupted, StallError
from stvsr_cli.job.job import IMAGE_FORMATS, Job
from stvsr_cli.job.rates import rate_of
from stvsr_cli.job.report import Loaded, Progress, Report
from stvsr_cli.job.size import find_size
from stvsr_cli.media.images import is_image
from stvsr_cli.media.pipes import is_pipe
from stvsr_cli.media.read.probe import VideoInfo, probe
from stvsr_cli.media.write.choice import assert_encodes, on_card
from stvsr_cli.media.write.encoders import has_card
from stvsr_cli.media.write.settings import INSTEAD
from stvsr_cli.models.catalogue import find_model
from stvsr_cli.models.registry import check_options
from stvsr_cli.pipeline.sinks import Sink, choose_sink, is_y4m
from stvsr_cli.pipeline.sources import (
    Source,
    check_source,
    is_readable_again,
    is_single,
    open_source,
    reads_pictures,
)
from stvsr_cli.runtime.watchdog import Watch

if TYPE_CHECKING:
    from stvsr_cli.pipeline.rehearsal import Rehearsal, Speeds

logger = logging.getLogger(__name__)


def upscale(
    job: Job,
    *,
    loaded: Loaded | Callable[[], Loaded] | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    last_resort: Callable[[StallError], None] | None = None,
) -> Report:
    """Upscale one video from anywhere to anywhere, or go on with it where an earlier run ended; see `durable.journal`.

    loaded: the model, if it is loaded already, or what gives it when input and output are found to be sound.
    progress: called from this thread at every frame and phase. stop: when set, the run ends as soon as what it has
    made so far is kept; what comes through a pipe is finished as far as it was read. Both end by Interrupted.
    last_resort: called in another thread when this one hangs in the model for longer than the job allows. Raises
    StvsrError of the kind that fits; a video file then does not exist. Raises `media.pipes.PipeClosed` if the reader
    of standard output has gone.
    """
    begin = time.perf_counter()
    with Watch(job.stall_timeout_s, hint=_stall_hint(job), last_resort=last_resort):
        if job.resume == "auto" and (done := settle(job.output)) is not None:
            logger.info("%s was finished already", job.output)
            return Report(output=probe(job.output), seconds={"model": 0.0, "total": 0.0}, peak_bytes=0, **asdict(done))
        with _opened(job, stop=stop) as (job, source, sink):
            if progress is not None:
                progress(Progress("load", 0, None, 0.0))
            from stvsr_cli.pipeline.loading import load
            from stvsr_cli.pipeline.work import work

            model = load(job) if loaded is None else loaded if isinstance(loaded, Loaded) else loaded()
            report = work(job, source, sink, model, begin=begin, progress=progress, stop=stop)
            if source.was_cut:
                raise Interrupted(
                    f"interrupted; what had been read is finished: {report.frames_out} frames in {job.output}."
                )
            return report


def plan(
    job: Job,
    *,
    loaded: Loaded | Callable[[], Loaded] | None = None,
    briefly: bool = False,
    speeds: "Speeds | None" = None,
) -> "Rehearsal":
    """What a job would do, with all checks that it would make. briefly, speeds: as of `rehearsal.rehearse`.

    Raises what `upscale` does.
    """
    with _opened(job, reserve=False) as (job, source, sink):
        from stvsr_cli.pipeline.loading import load
        from stvsr_cli.pipeline.rehearsal import rehearse

        model = load(job) if loaded is None else loaded if isinstance(loaded, Loaded) else loaded()
        return rehearse(job, source, sink, model, briefly=briefly, speeds=speeds)


def load(job: Job) -> Loaded:
    """Load the model of a job. Raises ModelError, DeviceError or UsageError."""
    from stvsr_cli.pipeline.loading import load

    return load(job)


def check(job: Job) -> None:
    """Raise what `upscale` does for an input or output that it would refuse before the model is loaded."""
    check_source(job)
    choose_sink(job).check()
    check_options(find_model(job.model), job.options, job.dials, job.fit)


@contextmanager
def _opened(
    job: Job, *, reserve: bool = True, stop: threading.Event | None = None
) -> Iterator[tuple[Job, Source, Sink]]:
    """Open a job's input and look at its output. Yields the job with all that these two say of it."""
    sink = choose_sink(job)
    check_source(job)
    sink.check()
    check_options(find_model(job.model), job.options, job.dials, job.fit)
    with sink.reserved() if reserve else nullcontext(), open_source(job, stop) as source:
        made = sink.target
        if is_single(job.input) and is_single(made):
            job = replace(job, fps_factor=1, target_fps=None, slow_motion=1)
        job = replace(job, output=made, encoder=sink.encoder(source.info))
        yield _with_encoder(job, source.info), source, sink


def _with_encoder(job: Job, info: VideoInfo) -> Job:
    """The job with its encoder chosen, and opened once, so that what it does not take is said now.

    Raises OutputError or UsageError.
    """
    if job.encoder.codec == "rawvideo":  # frames that are encoded in no video
        return job
    size, rate = (info.width, info.height), rate_of(job, info)
    if job.encoder.codec in INSTEAD or has_card(job.device):  # a card takes frames up to some size
        found = find_size(info, job)
        size = (found.width, found.height)
        if has_card(job.device):
            job = replace(job, encoder=on_card(job.encoder, job.output, info, size, rate))
    assert_encodes(job.encoder, job.output, info, size, rate)
    return job


def _stall_hint(job: Job) -> str:
    if keeps_journal(job):
        return "Run the same command to continue from what is finished."
    has_pipe = is_pipe(job.input) or is_pipe(job.output)
    return f"Check {'the other end of the pipe, ' if has_pipe else ''}the disk and the device."


def keeps_journal(job: Job) -> bool:
    """Whether what a job has made is kept when it ends early."""
    return job.resume != "never" and is_readable_again(job.input) and choose_sink(job).keeps_journal


def stands_alone(job: Job) -> bool:
    """Whether a job reads or writes pictures or pipes, so that its paths stand for one video each, and for no batch."""
    if is_pipe(job.input) or is_pipe(job.output) or is_image(job.output) or is_y4m(job.output):
        return True
    return reads_pictures(job.input) or job.format in IMAGE_FORMATS
