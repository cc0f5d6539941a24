"""A job from the first frame to the finished file: decode, model and encode side by side, in threads."""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from types import TracebackType
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli.ahead import Ahead
from stvsr_cli.color import from_rgb, to_rgb
from stvsr_cli.media.decode import Frame, Picture, decode
from stvsr_cli.media.encode import Worker
from stvsr_cli.media.mux import OutputFile, OutputSpec, check_target
from stvsr_cli.media.probe import ColorTags, VideoInfo, probe
from stvsr_cli.media.shots import mark_cuts
from stvsr_cli.models.contract import OneStepModel, Request
from stvsr_cli.models.device import auto_batch, peak_bytes, pick_device, pick_precision, pick_threads, usable_bytes
from stvsr_cli.models.registry import check_options, find_model, load_model
from stvsr_cli.models.stitch import Runner, upscale_shot
from stvsr_cli.plan import Job, Plan, make_plan
from stvsr_cli.timeline import slots
from stvsr_cli.weights import find_complete, find_weights, verify

logger = logging.getLogger(__name__)

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
    return Loaded(model, device, dtype, time.perf_counter() - begin)


def plan(job: Job, loaded: Loaded) -> Plan:
    """Probe a job's input and plan it. Raises InputError, OutputError or UsageError."""
    info = probe(job.input, video_stream=job.video_stream, allow_url=job.allow_url)
    check_target(job.output, job.input, overwrite=job.overwrite)
    return make_plan(job, info, loaded.model, usable_bytes(loaded.device))


def upscale(job: Job, *, loaded: Loaded | None = None, progress: Callable[[Progress], None] | None = None) -> Report:
    """Upscale one video.

    loaded: the model, if it is loaded already. progress: called from this thread at every frame and phase.
    Raises StvsrError of the kind that fits; the output then does not exist.
    """
    begin = time.perf_counter()
    probe_early(job)
    if progress is not None:
        progress(Progress("load", 0, None, 0.0))
    loaded = loaded or load(job)
    planned = plan(job, loaded)
    run = _Run(job, planned, loaded, progress)
    with OutputFile(job.output, planned.info, run.spec, job.encoder, overwrite=job.overwrite) as out:
        run.through(out)
    seconds = {"load": loaded.seconds, **run.seconds, "total": time.perf_counter() - begin}
    return Report(
        output=probe(job.output),
        frames_in=run.frames_in,
        frames_out=run.frames_out,
        num_shots=run.num_shots,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        peak_bytes=peak_bytes(loaded.device),
    )


class Output(Protocol):
    """Takes frames: a context manager that finishes on leaving."""

    def __enter__(self) -> Self:
        """Open it."""
        ...

    def write(self, picture: Picture, pts: int, duration: int) -> None:
        """Take the next frame. pts, duration: ticks of the specification's time base."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish it, or give it up after an error."""
        ...


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
    seconds = {"load": loaded.seconds, **run.seconds, "total": time.perf_counter() - begin}
    return Report(
        output=made,
        frames_in=run.frames_in,
        frames_out=run.frames_out,
        num_shots=run.num_shots,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        peak_bytes=peak_bytes(loaded.device),
    )


def probe_early(job: Job) -> None:
    """Find what is wrong with input and output before the model is loaded."""
    probe(job.input, video_stream=job.video_stream, allow_url=job.allow_url)
    check_target(job.output, job.input, overwrite=job.overwrite)


def output_color(info: VideoInfo, pix_fmt: str) -> ColorTags:
    """The output's colour tags: the input's, with what was assumed of it written down.

    An untagged small video is taken for BT.601, and an untagged large one would be taken for BT.709 by players.
    """
    if pix_fmt.startswith("gbrp"):
        return replace(info.color, matrix=0, range=2)
    matrix = info.color.resolved_matrix(info.height)
    if matrix == 0 or info.pixel_format.startswith(("gbr", "rgb", "bgr", "pal", "argb", "abgr")):
        return replace(info.color, matrix=1 if info.height >= 720 else 6, range=1)
    return replace(info.color, matrix=matrix)


@dataclass(frozen=True, slots=True)
class _Slotted:
    """An output frame with its time."""

    frame: Tensor
    """[3, H, W]."""
    pts: int
    duration: int


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

    def through(self, out: Output) -> None:
        """Bring every frame from the input to the output."""
        frames = Ahead(self._decoded(), AHEAD)

        def convert(item: _Slotted) -> None:
            begin = time.perf_counter()
            picture = self._picture(item.frame)
            self.seconds["convert"] += time.perf_counter() - begin
            out.write(picture, item.pts, item.duration)

        converter: Worker[_Slotted] = Worker(convert, "convert", AHEAD)
        try:
            for shot in shots(frames):
                self.num_shots += 1
                for slotted in self._shot(shot):
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
            tensor = to_rgb([frame.picture])[0].clamp_(0, 1)
            self.seconds["decode"] += time.perf_counter() - begin
            yield frame, tensor

    def _shot(self, shot: Iterator[tuple[Frame, Tensor]]) -> Iterator[_Slotted]:
        """Output frames of one shot: F for each input frame, the last one held."""
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
            slot = slots(*waiting[0], factor, has_partner=True)[step]
            yield _Slotted(output, slot.pts, slot.duration)
            step += 1
            if step == factor:
                waiting.popleft()
                step = 0
        if output is not None and step:
            for slot in slots(*waiting[0], factor, has_partner=False)[step:]:
                yield _Slotted(output, slot.pts, slot.duration)

    def _upscaled(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """The model's output frames [3, H, W], timed."""
        job, loaded = self.job, self.loaded
        detail = loaded.model.traits.detail if job.detail is None else job.detail
        request = Request(fps_factor=job.fps_factor, detail=detail, seed=job.seed)
        batch = job.batch or auto_batch(self.plan.memory, loaded.device)
        runner = Runner(loaded.model, request, self.plan.tile, batch)
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
            self.progress(Progress(phase, self.frames_out, self.plan.num_frames, self.frames_out / max(spent, 1e-9)))


def shots(frames: Iterable[tuple[Frame, Tensor]]) -> Iterator[Iterator[tuple[Frame, Tensor]]]:
    """Split a stream of frames at its cuts, lazily; each shot must be used up before the next."""
    number = 0

    def shot_of(item: tuple[Frame, Tensor]) -> int:
        nonlocal number
        number += item[0].cut
        return number

    for _, shot in groupby(frames, shot_of):
        yield shot
