"""The run of one job: frames decoded, shots through the model, output frames converted and handed on, in threads."""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from stvsr_cli.color.planes import PlaneFormat, with_whole
from stvsr_cli.engine.handover import FLOAT_BYTES, Handover, Sent, handover_of
from stvsr_cli.engine.lanes import Lanes, Mark, lanes_of
from stvsr_cli.engine.stitch import Runner, upscale_shot
from stvsr_cli.job.cutter import Point
from stvsr_cli.job.plan import Plan
from stvsr_cli.job.report import Loaded, Progress, Report
from stvsr_cli.job.timeline import Slot
from stvsr_cli.media.read.decode import Frame, Picture
from stvsr_cli.media.read.picture import Beside
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.read.shots import mark_cuts, shots
from stvsr_cli.media.read.steady import steady
from stvsr_cli.media.write.encode import Output
from stvsr_cli.media.write.presets import advice, tell_advice
from stvsr_cli.models.fit.device import peak_bytes, usable_bytes
from stvsr_cli.runtime import watchdog
from stvsr_cli.runtime.workers import Ahead, Worker

logger = logging.getLogger(__name__)

AHEAD = 4
"""Fewest frames decoded ahead of the window, and fewest waiting to be converted."""
ADVISE_S = 20.0
"""Seconds of a run after which it is said what would make it faster; at its end, if that comes first."""
HELD = 0.2
"""Share of the time in which a device's frames wait for the encoder from which on it is said."""
SHARE_OF_QUEUES = 0.25
"""Share of the main memory that the plan leaves which each of the two queues may take."""


@lru_cache
def _tell_of_captions(path: Path) -> None:
    logger.warning("%s: closed captions are left out, as there are fewer frames than carry them", path)


@dataclass(frozen=True, slots=True)
class _Slotted:
    """An output frame with its time."""

    frame: Sent
    slot: Slot
    shot: int
    """First input frame of its shot."""
    beside: Beside | None = None
    """What goes to the encoder with it."""
    around: Picture | None = None
    """The whole input frame at this moment, where its bars are not black."""


@dataclass(slots=True)
class Run:
    """The state of one plan while it is carried out."""

    plan: Plan
    loaded: Loaded
    source: Callable[[], Iterator[Frame]]
    """Where frames come from."""
    progress: Callable[[Progress], None] | None = None
    is_marked: bool = False
    """Whether the source's frames say already where shots begin."""
    frames_in: int = 0
    frames_out: int = 0
    num_shots: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "wait": 0.0, "convert": 0.0, "held": 0.0})
    _begin: float = field(default_factory=time.perf_counter)
    _point: Point = field(default_factory=Point)
    _before: int = 0
    """Output frames of earlier runs."""
    _is_advised: bool = False
    _has_lost: bool = False
    """Whether it was said that picture is cut off with the bars."""
    _form: PlaneFormat = field(init=False)
    _lanes: Lanes = field(init=False)
    _handover: Handover = field(init=False)
    _runner: Runner = field(init=False)

    def __post_init__(self) -> None:
        plan, spec = self.plan, self.plan.spec
        self._lanes = lanes_of(self.loaded.device)
        self._form = PlaneFormat(
            width=spec.width, height=spec.height, pix_fmt=spec.pix_fmt, color=spec.color,
            picture=plan.size.picture, whole=plan.size.whole,
        )  # fmt: skip
        self._handover = handover_of(self._form, self._lanes)
        self._runner = Runner(self.loaded.model, plan.request, plan.tile, plan.batch, lanes=self._lanes)

    def remember(self, pinned: Mapping[str, int], pin: Callable[..., None]) -> None:
        """Begin with what an earlier run had to do with, and write down what a later one must do alike.

        pinned: what `pin` was told before; empty for a new run. The plan has its tile, window and batch already.
        pin: told the tile, the window and the batch, and what goes into a call of the model; again when memory has run out.
        """
        runner = self._runner
        runner.batch, runner.longest = (
            min(self.plan.batch, pinned.get("call", self.plan.batch)),
            pinned.get("longest", 0),
        )

        def write_down(runner: Runner) -> None:
            pin(
                tile=runner.tile.size_px,
                window=self.plan.windows.size,
                batch=self.plan.batch,
                call=runner.batch,
                longest=runner.longest,
            )

        runner.gave_way = write_down
        write_down(runner)

    def go_on(self, point: Point, frames_out: int) -> None:
        """Begin where an earlier run ended, which made so many output frames."""
        self._point = point
        self.frames_in, self.num_shots = point.context, point.num_shots
        self.frames_out = self._before = frames_out

    def report(self, output: VideoInfo, begin: float) -> Report:
        """What the run came to. begin: when it began, by `time.perf_counter`."""
        seconds = {"load": self.loaded.seconds, **self.stage_seconds(), "total": time.perf_counter() - begin}
        return Report(
            output=output,
            frames_in=self.frames_in,
            frames_out=self.frames_out,
            num_shots=self.num_shots,
            seconds={name: round(value, 3) for name, value in seconds.items()},
            peak_bytes=peak_bytes(self.loaded.device),
        )

    def stage_seconds(self) -> dict[str, float]:
        """Seconds that each stage was at work; on a device that works by itself, the model's are the device's own."""
        return {**self.seconds, "model": self._lanes.seconds()}

    def made(self, path: Path) -> VideoInfo:
        """What the output is, where it is no file that could be probed."""
        planned = self.plan
        return replace(
            planned.info, path=path, width=planned.width, height=planned.height, average_rate=planned.rate,
            time_base=planned.time_base, num_frames=self.frames_out, pixel_format=planned.pix_fmt,
        )  # fmt: skip

    def through(self, out: Output) -> None:
        """Bring every frame from the input to the output."""
        self.into(lambda picture, slot, _: out.write(picture, slot.pts, slot.duration))

    def into(self, write: Callable[[Picture, Slot, int], None]) -> None:
        """Bring every frame from where the run begins to `write`, with its slot and its shot's first input frame."""
        frames = Ahead(self._decoded(), self._queue_frames(per_input=1, frame_bytes=3 * FLOAT_BYTES * self._input_px))

        def convert(item: _Slotted) -> None:
            begin = time.perf_counter()
            picture = item.frame.picture()
            if item.around is not None:
                picture = self._with_whole(picture, item.around, item.slot)
            picture = replace(picture, beside=item.beside)
            self.seconds["convert"] += time.perf_counter() - begin
            write(picture, item.slot, item.shot)

        waiting = self._queue_frames(per_input=self.plan.request.fps_factor, frame_bytes=self._handover.frame_bytes)
        converter: Worker[_Slotted] = Worker(convert, "convert", waiting)
        try:
            for number, shot in enumerate(shots(frames)):
                self.num_shots += 1
                for slotted in self._shot(shot, self._point.shot if number == 0 else None):
                    if slotted.slot.source < self._point.frame:
                        continue  # finished before, made again for what follows
                    begin = time.perf_counter()
                    converter.put(slotted)
                    self.seconds["held"] += time.perf_counter() - begin
                    self.frames_out += 1
                    self._tell("upscale")
                    if time.perf_counter() - self._begin > ADVISE_S:
                        self._advise()
            converter.close()
            self._advise()
        except BaseException:
            converter.abort()
            raise
        finally:
            frames.close()
        self._tell("finish")

    def _with_whole(self, picture: Picture, around: Picture, slot: Slot) -> Picture:
        """An output frame whose bars have picture in the input, with that picture, or a line where it is lost."""
        info = self.plan.info
        if info.puts_bars_back:
            return with_whole(picture, around, self._form)
        if not self._has_lost:
            self._has_lost = True
            logger.warning(
                "%s: at %.2f s there is picture in the bars, which is cut off", info.path,
                float(slot.pts * self.plan.time_base - info.origin),
            )  # fmt: skip
        return picture

    @property
    def _input_px(self) -> int:
        return self.plan.info.width * self.plan.info.height

    def _queue_frames(self, *, per_input: int, frame_bytes: int) -> int:
        """How many frames may wait for a stage: those of a group, as far as the memory plan leaves room for them.

        Then each stage has work while another is at a whole group.
        """
        windows = self.plan.windows
        wanted = per_input * (self.plan.batch * (windows.size - windows.overlap) + windows.overlap)
        usable = usable_bytes(torch.device("cpu"))
        if usable is not None:
            taken = self.plan.memory if self.loaded.device.type == "cpu" else 0
            wanted = min(wanted, int(SHARE_OF_QUEUES * max(0, usable - taken)) // frame_bytes)
        return max(AHEAD, wanted)

    def _decoded(self) -> Generator[tuple[Frame, tuple[Tensor, Mark]], None, None]:
        """Frames with their pixels as a tensor [3, h, w] in [0, 1] on the device, and when it is there."""
        planned, frames = self.plan, self.source()
        if planned.steady is not None:
            frames = steady(frames, planned.info, planned.steady, planned.start)
        marked = iter(frames) if self.is_marked else mark_cuts(frames, mode=planned.cuts)
        while True:
            begin = time.perf_counter()
            with watchdog.busy("read"):
                frame = next(marked, None)
            if frame is None:
                return
            if frame.index < self._point.context:
                continue
            tensor, mark = self._handover.bring(frame.picture)
            self.seconds["decode"] += time.perf_counter() - begin
            yield frame, (tensor, mark)

    def _shot(self, shot: Iterator[tuple[Frame, tuple[Tensor, Mark]]], first: int | None) -> Iterator[_Slotted]:
        """Output frames of one shot, the last of its input frames held.

        first: index of the shot's first frame, where that is not the first to come.
        """
        timeline = self.plan.timeline
        waiting: deque[tuple[int, Slot, Picture]] = deque()
        """Slots that are not filled, each with the number of the frame made for it and its input frame, without pixels."""
        moments: deque[tuple[Fraction, ...]] = deque()

        def filled(output: Sent, slot: Slot, kept: Picture) -> _Slotted:
            return _Slotted(output, slot, first or 0, None if slot.step else kept.beside, kept.around)

        def tensors() -> Iterator[Tensor]:
            nonlocal first
            num_made = 0
            while True:
                begin = time.perf_counter()
                item = next(shot, None)
                self.seconds["wait"] += time.perf_counter() - begin
                if item is None:
                    return
                frame, brought = item
                first = frame.index if first is None else first
                kept = replace(frame.picture, planes=())
                if kept.beside is not None and timeline.multiple < 1:  # a part of captions would be worse than none
                    kept = replace(kept, beside=None)
                    _tell_of_captions(self.plan.info.path)
                slots = timeline.slots(frame.index, frame.pts, frame.duration)
                for slot in slots:
                    waiting.append((num_made + slot.made, slot, kept))
                num_made += timeline.factor or 1 + len(timeline.between(slots))
                if timeline.factor is None:
                    moments.append(timeline.between(slots))
                self.frames_in += 1
                yield self._lanes.arrive(*brought)

        output = None
        for number, output in enumerate(self._upscaled(tensors(), moments)):
            while waiting and waiting[0][0] <= number:
                yield filled(output, *waiting.popleft()[1:])
        if output is not None:
            for _, slot, kept in waiting:
                yield filled(output, slot, kept)

    def _upscaled(self, frames: Iterator[Tensor], moments: deque[tuple[Fraction, ...]]) -> Iterator[Sent]:
        """The model's output frames, on their way. moments: takes those of each frame, before the frame comes."""
        asked = None if self.plan.timeline.factor else iter(moments.popleft, None)
        outputs = upscale_shot(self._runner, frames, self.plan.windows, moments=asked, send=self._handover.send)
        while True:
            with watchdog.busy("model", patient=True):
                output = next(outputs, None)
            watchdog.check()
            if output is None:
                return
            yield output

    def _advise(self) -> None:
        """Say once, where a device by itself is held up by the encoder, by which preset it would not be."""
        if self._is_advised or not self._lanes.is_asynchronous:
            return
        self._is_advised = True
        spent, model = time.perf_counter() - self._begin, self._lanes.seconds()
        if model and self.seconds["held"] > HELD * spent and self.seconds["convert"] < (1 - HELD) * spent:
            tell_advice(advice(self.plan.encoder, spent / model))

    def _tell(self, phase: str) -> None:
        if self.progress is not None:
            spent = time.perf_counter() - self._begin
            fps = (self.frames_out - self._before) / max(spent, 1e-9)
            self.progress(Progress(phase, self.frames_out, self.plan.num_frames, fps))
