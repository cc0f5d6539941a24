"""A job from the first frame to the finished file: decode, model and encode side by side, in threads."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, astuple, dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli import __version__
from stvsr_cli.ahead import Ahead
from stvsr_cli.color import from_rgb, output_color, to_rgb
from stvsr_cli.journal import Cutter, Journal, Recorder, settle
from stvsr_cli.manifest import Point, Totals, described, file_identity, fingerprint
from stvsr_cli.media.decode import Frame, Picture, decode
from stvsr_cli.media.encode import Output as Output
from stvsr_cli.media.encode import Worker
from stvsr_cli.media.mux import OutputFile, OutputSpec, check_target
from stvsr_cli.media.probe import VideoInfo, probe
from stvsr_cli.media.segments import SegmentWriter
from stvsr_cli.media.shots import mark_cuts, shots
from stvsr_cli.models.contract import OneStepModel, Request
from stvsr_cli.models.device import auto_batch, peak_bytes, pick_device, pick_precision, pick_threads, usable_bytes
from stvsr_cli.models.registry import check_options, find_model, load_model
from stvsr_cli.models.stitch import Runner, upscale_shot
from stvsr_cli.plan import Job, Plan, make_plan
from stvsr_cli.timeline import Slot, slots
from stvsr_cli.weights import find_complete, find_weights, verify

logger = logging.getLogger(__name__)

OUTSIDE = frozenset({"input", "output", "weights", "device", "precision", "overwrite", "allow_url", "resume"})
"""Fields of a job that do not change its result, or by their value only."""
AHEAD = 4
"""Frames decoded ahead of the window, and frames waiting to be converted."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    phase: str
    """load, upscale or finish."""
    done: int
    """Output frames made."""
    total: int | None
    """Output frames expected; None where the input does not say."""
    fps: float
    """Output frames per second so far."""
    file: str = ""
    """Which file of a batch."""

    @property
    def eta_s(self) -> float | None:
        """Seconds to go."""
        return (self.total - self.done) / self.fps if self.total and self.fps else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a job came to."""

    output: VideoInfo
    """The finished file, probed."""
    frames_in: int
    frames_out: int
    num_shots: int
    seconds: dict[str, float]
    """Seconds by stage: load, decode, wait (for decoding), model, convert, total. Stages overlap."""
    peak_bytes: int
    """Most memory in use: the device's on CUDA, the process's on a CPU."""


@dataclass(slots=True)
class Loaded:
    """A model on its device, ready for any number of jobs."""

    model: OneStepModel
    device: torch.device
    dtype: torch.dtype
    seconds: float
    weights: str = ""
    """What the weights are known by."""


def load(job: Job) -> Loaded:
    """Load the model of a job. Raises ModelError, DeviceError or UsageError."""
    begin = time.perf_counter()
    entry = find_model(job.model)
    check_options(entry, job.options, job.detail)
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
    model = load_model(entry, weights, device, dtype, options=job.options, detail=job.detail, between=between)
    known = "" if job.resume == "never" else fingerprint([path for path in (weights, between) if path is not None])
    return Loaded(model, device, dtype, time.perf_counter() - begin, known)


def plan(job: Job, loaded: Loaded) -> Plan:
    """Probe a job's input and plan it. Raises InputError, OutputError or UsageError."""
    info = probe(job.input, video_stream=job.video_stream, allow_url=job.allow_url)
    check_target(job.output, job.input, overwrite=job.overwrite)
    return make_plan(job, info, loaded.model, usable_bytes(loaded.device))


def upscale(
    job: Job,
    *,
    loaded: Loaded | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """Upscale one video, or go on with it where an earlier run ended; see `journal`.

    loaded: the model, if it is loaded already. progress: called from this thread at every frame and phase. stop: when
    set, the run ends as soon as what it has made so far is kept. Raises StvsrError of the kind that fits; the output
    then does not exist.
    """
    begin = time.perf_counter()
    kept = job.resume != "never" and job.input.is_file()
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
        run = _Run(job, planned, loaded, progress)
        with OutputFile(job.output, planned.info, run.spec, job.encoder, overwrite=job.overwrite) as out:
            run.through(out)
    return run.report(probe(job.output), begin)


def _journalled(
    job: Job, loaded: Loaded, progress: Callable[[Progress], None] | None, stop: threading.Event | None
) -> "_Run":
    """Run a job with a journal."""
    settings = described(job, leave=OUTSIDE) | {"version": __version__, "weights": loaded.weights}
    settings |= {"device": loaded.device.type, "precision": str(loaded.dtype), **file_identity(job.input)}
    with Journal(job.output, settings, resume=job.resume) as journal:
        job = replace(job, tile=journal.pinned.get("tile", job.tile), batch=journal.pinned.get("batch", job.batch))
        planned = plan(job, loaded)
        run = _Run(job, planned, loaded, progress)
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
    planned = make_plan(job, info, loaded.model, usable_bytes(loaded.device))
    run = _Run(job, planned, loaded, progress, source)
    with open_output(run.spec) as out:
        run.through(out)
    made = replace(info, path=job.output, width=planned.width, height=planned.height, average_rate=planned.rate,
                   time_base=planned.time_base, num_frames=run.frames_out, pixel_format=planned.pix_fmt)  # fmt: skip
    return run.report(made, begin)


def probe_early(job: Job) -> None:
    """Find what is wrong with input and output before the model is loaded."""
    probe(job.input, video_stream=job.video_stream, allow_url=job.allow_url)
    check_target(job.output, job.input, overwrite=job.overwrite)


@dataclass(frozen=True, slots=True)
class _Slotted:
    """An output frame with its time."""

    frame: Tensor
    """[3, H, W]."""
    slot: Slot
    shot: int
    """First input frame of its shot."""


@dataclass(slots=True)
class _Run:
    """The state of one job while it runs."""

    job: Job
    plan: Plan
    loaded: Loaded
    progress: Callable[[Progress], None] | None
    source: Callable[[], Iterator[Frame]] | None = None
    """Where frames come from, if not from the file that the plan describes."""
    frames_in: int = 0
    frames_out: int = 0
    num_shots: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: {"decode": 0.0, "wait": 0.0, "model": 0.0, "convert": 0.0}
    )
    _begin: float = field(default_factory=time.perf_counter)
    _point: Point = field(default_factory=Point)
    _before: int = 0
    """Output frames of earlier runs."""

    @property
    def batch(self) -> int:
        """Windows, or tiles, per model call."""
        return self.job.batch or auto_batch(self.plan.memory, self.loaded.device)

    def go_on(self, point: Point, frames_out: int) -> None:
        """Begin where an earlier run ended, which made so many output frames."""
        self._point = point
        self.frames_in, self.num_shots = point.context, point.num_shots
        self.frames_out = self._before = frames_out

    @property
    def spec(self) -> OutputSpec:
        """The output's video stream."""
        planned, job = self.plan, self.job
        return OutputSpec(
            width=planned.width,
            height=planned.height,
            pix_fmt=planned.pix_fmt,
            time_base=planned.time_base,
            rate=planned.rate,
            color=output_color(planned.info, planned.pix_fmt),
            start=job.start or 0 * planned.time_base,
            end=job.end,
        )

    def report(self, output: VideoInfo, begin: float) -> Report:
        """What the run came to. begin: when it began, by `time.perf_counter`."""
        seconds = {"load": self.loaded.seconds, **self.seconds, "total": time.perf_counter() - begin}
        return Report(
            output=output,
            frames_in=self.frames_in,
            frames_out=self.frames_out,
            num_shots=self.num_shots,
            seconds={name: round(value, 3) for name, value in seconds.items()},
            peak_bytes=peak_bytes(self.loaded.device),
        )

    def through(self, out: Output) -> None:
        """Bring every frame from the input to the output."""
        self.into(lambda picture, slot, _: out.write(picture, slot.pts, slot.duration))

    def into(self, write: Callable[[Picture, Slot, int], None]) -> None:
        """Bring every frame from where the run begins to `write`, with its slot and its shot's first input frame."""
        frames = Ahead(self._decoded(), AHEAD)

        def convert(item: _Slotted) -> None:
            begin = time.perf_counter()
            picture = self._picture(item.frame)
            self.seconds["convert"] += time.perf_counter() - begin
            write(picture, item.slot, item.shot)

        converter: Worker[_Slotted] = Worker(convert, "convert", AHEAD)
        try:
            for number, shot in enumerate(shots(frames)):
                self.num_shots += 1
                for slotted in self._shot(shot, self._point.shot if number == 0 else None):
                    if slotted.slot.source < self._point.frame:
                        continue  # finished before, made again for what follows
                    converter.put(slotted)
                    self.frames_out += 1
                    self._tell("upscale")
            converter.close()
        except BaseException:
            converter.abort()
            raise
        finally:
            frames.close()
        self._tell("finish")

    def _decoded(self) -> Generator[tuple[Frame, Tensor], None, None]:
        """Frames with their pixels as a tensor [3, h, w] in [0, 1]."""
        job = self.job
        if self.source is not None:
            frames = self.source()
        else:
            frames = decode(self.plan.info, start=job.start, end=job.end, threads=job.threads)
        marked = mark_cuts(frames, mode=job.cuts)
        while True:
            begin = time.perf_counter()
            frame = next(marked, None)
            if frame is None:
                return
            if frame.index < self._point.context:
                continue
            tensor = to_rgb([frame.picture])[0].clamp_(0, 1)
            self.seconds["decode"] += time.perf_counter() - begin
            yield frame, tensor

    def _shot(self, shot: Iterator[tuple[Frame, Tensor]], first: int | None) -> Iterator[_Slotted]:
        """Output frames of one shot: F for each input frame, the last one held.

        first: index of the shot's first frame, where that is not the first to come.
        """
        factor = self.job.fps_factor
        waiting: deque[tuple[int, int, int]] = deque()

        def tensors() -> Iterator[Tensor]:
            while True:
                begin = time.perf_counter()
                item = next(shot, None)
                self.seconds["wait"] += time.perf_counter() - begin
                if item is None:
                    return
                frame, tensor = item
                waiting.append((frame.index, frame.pts, frame.duration))
                self.frames_in += 1
                yield tensor

        step, output = 0, None
        for output in self._upscaled(tensors()):
            first = waiting[0][0] if first is None else first
            slot = slots(*waiting[0], factor, has_partner=True)[step]
            yield _Slotted(output, slot, first)
            step += 1
            if step == factor:
                waiting.popleft()
                step = 0
        if output is not None and step:
            for slot in slots(*waiting[0], factor, has_partner=False)[step:]:
                yield _Slotted(output, slot, first or 0)

    def _upscaled(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """The model's output frames [3, H, W], timed."""
        job, loaded = self.job, self.loaded
        detail = loaded.model.traits.detail if job.detail is None else job.detail
        request = Request(fps_factor=job.fps_factor, detail=detail, seed=job.seed)
        runner = Runner(loaded.model, request, self.plan.tile, self.batch)
        outputs = upscale_shot(runner, frames, self.plan.windows, device=loaded.device)
        while True:
            begin, decoding = time.perf_counter(), self.seconds["wait"]
            output = next(outputs, None)
            self.seconds["model"] += time.perf_counter() - begin - (self.seconds["wait"] - decoding)
            if output is None:
                return
            yield output

    def _picture(self, frame: Tensor) -> Picture:
        """The frame at its output size, as planes. frame: [3, H, W]."""
        size = (self.plan.height, self.plan.width)
        if frame.shape[-2:] != size:
            frame = functional.interpolate(frame[None], size, mode="bicubic", antialias=True, align_corners=False)[0]
        return from_rgb(frame[None], self.plan.pix_fmt, self.spec.color)[0]

    def _tell(self, phase: str) -> None:
        if self.progress is not None:
            spent = time.perf_counter() - self._begin
            fps = (self.frames_out - self._before) / max(spent, 1e-9)
            self.progress(Progress(phase, self.frames_out, self.plan.num_frames, fps))
