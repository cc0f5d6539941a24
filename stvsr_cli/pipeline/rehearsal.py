"""A run without its work: every check that the run makes, the frames that are there, and how long it would take."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from math import ceil, prod
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from stvsr_cli.color.convert import from_rgb, to_rgb
from stvsr_cli.durable.journal import journal_folder
from stvsr_cli.durable.manifest import compare, read_manifest
from stvsr_cli.durable.segments import SegmentWriter
from stvsr_cli.job.disk import check_space
from stvsr_cli.job.job import Job
from stvsr_cli.job.plan import Plan
from stvsr_cli.job.report import Loaded
from stvsr_cli.job.windows import num_windows, tiles
from stvsr_cli.media.read.decode import Frame
from stvsr_cli.media.write.presets import advice
from stvsr_cli.models.step import run_window
from stvsr_cli.pipeline.loading import plan_on
from stvsr_cli.pipeline.sinks import FileSink, Sink
from stvsr_cli.pipeline.sources import Source
from stvsr_cli.pipeline.work import settings

logger = logging.getLogger(__name__)

COUNT_S = 10.0
"""How long frames are counted by decoding them; of what is longer, the container's word is taken."""
TRIAL_PX = 128
"""Side of the piece of a frame that is tried on a CPU, where the time grows with the pixels."""
ENCODED = 12
"""Output frames that are encoded on trial."""
ENCODED_FOR_CARD = 96
"""The same where a card makes them and the encoder has all cores."""


Speeds = dict[tuple[object, ...], float]
"""Seconds that a run takes for an input frame, by what that hangs on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rehearsal:
    """What a run would come to."""

    job: Job
    plan: Plan
    """With the frames as they were counted."""
    loaded: Loaded
    is_counted: bool
    """Whether all frames were counted, by decoding them."""
    seconds: float | None
    """How long the run would take, about; None where that is not known."""
    advice: str | None = None
    """What to do about an encoder for which a device by itself would wait."""


def rehearse(
    job: Job, source: Source, sink: Sink, loaded: Loaded, *, briefly: bool = False, speeds: Speeds | None = None
) -> Rehearsal:
    """Check all that a run checks, without making anything.

    briefly: decode no more than is needed, and try no speed. speeds: of videos alike that were tried before; one of a
    new kind is tried all the same, and added. Raises what the run would raise.
    """
    keeps_journal = job.resume != "never" and sink.keeps_journal and source.identity is not None
    folder = journal_folder(job.output)
    if keeps_journal and job.resume == "auto" and (found := read_manifest(folder)) is not None:
        made_with = {"weights": loaded.weights, "device": loaded.device.type, "precision": loaded.precision}
        compare(found.settings, settings(job, source.identity or {}, **made_with), folder)
    plan = plan_on(job, source.info, loaded)
    check_space(job, plan, journal=folder if keeps_journal else None)
    begin = time.perf_counter()
    info = source.info
    kind = (info.codec, info.width, info.height, plan.width, plan.height, plan.encoder.codec, plan.timeline.multiple)
    known = None if speeds is None else speeds.get(kind)
    tries = not briefly or (speeds is not None and known is None)
    limit_s, least = 0.0 if briefly else COUNT_S, _tried(plan, loaded) if tries else 1
    first, count, ended = _counted(source.frames(), least, limit_s)
    decoding = (time.perf_counter() - begin) / max(count, 1)
    if ended:
        plan = replace(plan, num_frames=plan.timeline.num_frames(count), num_windows=num_windows(count, plan.windows))
    seconds, said = None, None
    num_in = int((plan.num_frames or 0) / plan.timeline.multiple)
    if num_in and known is not None:
        seconds = known * num_in
    elif num_in and plan.num_frames is not None and tries:
        model_s, writing_s = _estimate(job, plan, loaded, sink, first, plan.num_frames)
        seconds = _together(model_s, decoding * num_in, writing_s, on_cpu=loaded.device.type == "cpu")
        if speeds is not None:
            speeds[kind] = seconds / num_in
        if loaded.device.type != "cpu":
            said = advice(plan.encoder, writing_s / model_s)
    return Rehearsal(job=job, plan=plan, loaded=loaded, is_counted=ended, seconds=seconds, advice=said)


def _together(model_s: float, decoding_s: float, writing_s: float, *, on_cpu: bool) -> float:
    """Seconds of stages that run at the same time, but share the cores."""
    return model_s + decoding_s + writing_s if on_cpu else max(model_s, decoding_s + writing_s)


def _tried(plan: Plan, loaded: Loaded) -> int:
    """How many frames a trial has: a window, of the model's usual length where those of the run are longer."""
    return min(plan.windows.size, loaded.model.traits.window)


def _counted(frames: Iterator[Frame], keep: int, limit_s: float) -> tuple[list[Frame], int, bool]:
    """The first `keep` frames, how many there are, and whether all were counted within the time."""
    begin, count = time.perf_counter(), 0
    first: list[Frame] = []
    for frame in frames:
        count += 1
        if len(first) < keep:
            first.append(frame)
        if count >= keep and time.perf_counter() - begin > limit_s:
            return first, count, False
    return first, count, True


def _estimate(
    job: Job, plan: Plan, loaded: Loaded, sink: Sink, first: list[Frame], num_frames: int
) -> tuple[float, float]:
    """Seconds that a run's model and its writing take, from a trial of both on its first frames."""
    window = torch.stack([to_rgb([frame.picture])[0].clamp_(0, 1) for frame in first])  # [T, 3, H, W]
    piece, share = _piece(window, plan, loaded)
    request = replace(plan.request, fps_factor=plan.timeline.factor or ceil(plan.timeline.multiple))
    spent = 0.0
    for _ in range(2):  # the first call also compiles, and takes memory
        begin = time.perf_counter()
        output = run_window(loaded.model, piece[None].to(loaded.device), request)[0].cpu()
        spent = time.perf_counter() - begin
        if spent > COUNT_S:
            break
    shape = tiles(plan.info.height, plan.info.width, plan.tile)[0]
    whole = plan.num_tiles * shape.height * shape.width / (window.shape[2] * window.shape[3])
    frames_tried = len(first) / share
    model_s = spent * whole * (plan.num_windows or 1) * plan.windows.size / frames_tried
    on_cpu = loaded.device.type == "cpu"
    return model_s, _writing_s(job, plan, sink, output, on_cpu=on_cpu) * num_frames


def _piece(window: torch.Tensor, plan: Plan, loaded: Loaded) -> tuple[torch.Tensor, float]:
    """The part of a window [T, 3, H, W] that is tried, and by how much the whole is larger."""
    height, width = window.shape[-2:]
    side = TRIAL_PX if loaded.device.type == "cpu" else plan.tile.size_px or max(height, width)
    tall, wide = min(side, height), min(side, width)
    top, left = (height - tall) // 2, (width - wide) // 2
    return window[..., top : top + tall, left : left + wide], height * width / (tall * wide)


def _writing_s(job: Job, plan: Plan, sink: Sink, output: torch.Tensor, *, on_cpu: bool) -> float:
    """Seconds that an output frame takes to convert and encode. output: [T, 3, h, w]. on_cpu: else a card converts."""
    size = (plan.height, plan.width)
    chosen = output[:ENCODED]
    begin = time.perf_counter()
    frames = torch.nn.functional.interpolate(
        chosen, size, mode="bicubic", antialias=prod(chosen.shape[-2:]) > prod(size)
    )
    pictures = [from_rgb(frame[None], plan.spec.pix_fmt, plan.spec.color)[0] for frame in frames]
    if not on_cpu:  # so many that all threads of an encoder have some; there and back, as no motion is so large
        pictures = list(islice(cycle([*pictures, *pictures[-2:0:-1]]), ENCODED_FOR_CARD))
        begin = time.perf_counter()
    if isinstance(sink, FileSink):
        with TemporaryDirectory(prefix="stvsr-") as folder:
            writer = SegmentWriter(Path(folder) / "trial", job.output, plan.info, plan.spec, plan.encoder)
            try:
                for number, picture in enumerate(pictures):
                    writer.write(picture, number * max(1, round(1 / (plan.rate * plan.time_base))), 1)
                writer.finish()
            finally:
                writer.discard()
    return (time.perf_counter() - begin) / max(1, len(pictures))
