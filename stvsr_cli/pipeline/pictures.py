"""A run whose output is a sequence of pictures, with a journal: it goes on where an earlier one ended."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from functools import partial

from stvsr_cli import __version__
from stvsr_cli.durable.journal import MADE, Journal
from stvsr_cli.durable.manifest import file_identity, files_identity
from stvsr_cli.durable.picture_segments import PictureSegment, are_whole
from stvsr_cli.durable.recorder import Recorder
from stvsr_cli.engine.local import Run
from stvsr_cli.job.cutter import Cutter, Totals
from stvsr_cli.job.described import described
from stvsr_cli.job.disk import check_space
from stvsr_cli.job.job import Job
from stvsr_cli.job.plan import make_plan
from stvsr_cli.job.report import Loaded, Progress
from stvsr_cli.media.images import ImageOutput, is_image, is_pattern, list_images
from stvsr_cli.media.read.decode import Frame
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.models.fit.device import usable_bytes
from stvsr_cli.pipeline.upscale import OUTSIDE

logger = logging.getLogger(__name__)


def is_sequence(job: Job) -> bool:
    """Whether a job makes numbered pictures out of what can be read again, and keeps a journal of it."""
    if job.resume == "never" or not is_pattern(job.output):
        return False
    return job.input.is_dir() or job.input.is_file() or is_pattern(job.input)


def identity(job: Job) -> dict[str, str]:
    """What the input is known by."""
    if job.input.is_dir() or is_pattern(job.input):
        return files_identity(list_images(job.input))
    return file_identity(job.input)


def upscale_sequence(
    job: Job,
    info: VideoInfo,
    source: Callable[[], Iterator[Frame]] | None,
    *,
    loaded: Loaded,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Run:
    """Upscale into numbered pictures, or go on with that. Arguments as of `pipeline.upscale_between`."""
    settings = described(job, leave=OUTSIDE) | {"version": __version__, "weights": loaded.weights}
    settings |= {"device": loaded.device.type, "precision": str(loaded.dtype), "fps": str(info.average_rate)}
    settings |= identity(job) if not is_image(job.input) or is_pattern(job.input) else file_identity(job.input)
    whole = partial(are_whole, pictures=job.output.parent)
    with Journal(job.output, settings, resume=job.resume, is_whole=whole) as journal:
        job = replace(job, tile=journal.pinned.get("tile", job.tile), batch=journal.pinned.get("batch", job.batch))
        planned = make_plan(job, info, loaded.model, usable_bytes(loaded.device))
        if not journal.frames_out:
            check_space(job, planned)
        run = Run(job, planned, loaded, progress, source)
        out = ImageOutput(job.output, info, run.spec, job.overwrite, journal.folder / MADE)
        out.skip(journal.frames_out)
        if journal.totals is not None:
            run.frames_in, run.frames_out, run.num_shots = astuple(journal.totals)
            return run
        journal.pin(tile=planned.tile.size_px, batch=run.batch)
        cutter = Cutter(windows=planned.windows, batch=run.batch, num_frames=job.segment_frames)
        run.go_on(journal.point, journal.frames_out)
        with out, Recorder(journal, cutter, lambda path: PictureSegment(path, out), stop) as recorder:
            run.into(recorder.write)
        journal.complete(Totals(frames_in=run.frames_in, frames_out=run.frames_out, num_shots=run.num_shots))
    return run
