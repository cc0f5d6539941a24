"""How fast a model is here: one window step by step, and a whole run, with the floor of both and the memory."""

import logging
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stvsr_cli.bench import live_memory
from stvsr_cli.bench.clip import make_clip
from stvsr_cli.bench.floor import Rates, count_work, measure_rates, synchronise
from stvsr_cli.bench.profile import Operation, operations
from stvsr_cli.bench.random_models import build
from stvsr_cli.engine.local import Run
from stvsr_cli.errors import ModelError
from stvsr_cli.job.job import Job
from stvsr_cli.job.report import Loaded
from stvsr_cli.media.read.decode import Frame, Picture, decode
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.write.packets import PacketEncoder
from stvsr_cli.media.write.presets import advice
from stvsr_cli.models.catalogue import find_model
from stvsr_cli.models.contract import OneStepModel, PartedModel, Request
from stvsr_cli.models.dloral import DLoRAL
from stvsr_cli.models.fit.device import peak_bytes, pick_device, pick_precision, pick_threads
from stvsr_cli.models.fit.fit import fit_model, loading_device, offload_on
from stvsr_cli.models.fit.memory import plan_memory
from stvsr_cli.pipeline.loading import load, plan_on
from stvsr_cli.runtime.workers import Worker

logger = logging.getLogger(__name__)

VERBS = ("initialise", "encode", "condition", "denoise", "decode")
BOUND = 0.9
"""Share of a run's time from which on a stage that is at work is what the run waits for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    width: int = 480
    """Of the input, in pixels."""
    height: int = 270
    windows: int = 4
    """Windows of the whole run; 0: only one window is measured, and no run."""
    size: str = "full"
    """full; or tiny, for models with random weights: the same code in a moment."""
    random: bool = False
    """Whether weights are random even where some are installed."""
    operations: int = 0
    """How many of a window's operations are listed, those that take most time first."""
    until: float = math.inf
    """Moment, by `time.perf_counter`, at which no more frames are taken into the whole run; none at all if it is past."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a model came to."""

    model: str
    weights: str
    """installed or random."""
    device: str
    precision: str
    window: tuple[int, int, int]
    """Input frames, height and width of one call."""
    output: tuple[int, int]
    """Height and width of the output."""
    verbs: Mapping[str, float]
    """Seconds of one window, by verb."""
    window_fps: float
    """New output frames a second, if there were nothing but windows."""
    teraflop: float
    """Operations of one window, in 10^12."""
    floor_s: float
    """Operations of one window over the device's measured rate."""
    traffic_s: float
    """Bytes of one window, operation by operation, over the device's measured rate."""
    peak_bytes: int
    """Most memory of one window: what the device's allocator saw, or the tensors alive on a CPU."""
    planned_bytes: int
    """What the memory plan says."""
    stages: Mapping[str, float]
    """Seconds of each stage of the whole run; they overlap."""
    run_fps: float
    """Output frames a second of the whole run, from its first frame to its last."""
    busy: float
    """Share of the whole run's time in which the device was at the model."""
    batch: int
    """Windows that were taken together."""
    advice: str | None = None
    """What to do about an encoder that keeps the model waiting."""
    operations: Sequence[Operation] = ()
    """What one window spends most time in."""


def what_device(device: torch.device) -> str:
    """A device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


def model_for(job: Job, config: BenchConfig) -> tuple[Loaded, str]:
    """The model of a job, and whether its weights are installed or random."""
    entry = find_model(job.model)
    if not config.random and config.size == "full":
        try:
            return load(job), "installed" if entry.has_weights else "none"
        except ModelError as error:
            logger.info("%s: random weights, as none are installed (%s)", job.model, error.message)
    begin = time.perf_counter()
    device = pick_device(job.device)
    dtype = pick_precision(job.precision, device, entry.half)
    torch.set_num_threads(pick_threads(job.threads))
    place = loading_device(job.fit, device) if entry.large else device
    model = build(job.model, config.size, place, dtype)
    if config.size == "tiny" and isinstance(model, DLoRAL):
        model.options = replace(model.options, process_px=64)
    if entry.large:
        fit_model(model, job.fit, device)
    return Loaded(model, device, dtype, time.perf_counter() - begin), "random" if entry.has_weights else "none"


def measure(job: Job, config: BenchConfig, rates: Rates | None = None) -> Measured:
    """Measure a model. job: says which, where and how; its input and output are not looked at. Raises StvsrError."""
    loaded, weights = model_for(job, config)
    model, device = loaded.model, loaded.device
    rates = rates or measure_rates(device, loaded.dtype)
    with tempfile.TemporaryDirectory(prefix="stvsr-bench-") as name:
        size = job.window or model.traits.window
        step = size - (job.overlap or min(model.traits.overlap, size - 1))
        num_frames = max(1, config.windows) * step + size - step
        info = make_clip(Path(name) / "clip.mkv", config.width, config.height, num_frames)
        plan = plan_on(replace(job, window=size), info, loaded)
        tile = plan.tile.size_px
        window = (size, min(tile or info.height, info.height), min(tile or info.width, info.width))
        verbs, work, peak, listed = _window(model, window, plan.request, device, config.operations)
        fresh = step * job.fps_factor
        needs = plan_memory(
            model, *window, int(job.fps_factor), halved=plan.request.halved, offload=offload_on(job.fit, device)
        )
        stages: dict[str, float] = {}
        run_fps, busy, batch = 0.0, 0.0, 1
        if config.windows and time.perf_counter() < config.until:
            source = partial(_frames_until, config.until, info, job.threads)
            stages, run_fps, busy, batch = _run(Run(plan, loaded, source), Path(name))
        elif config.windows:
            logger.warning("%s: no time was left for a whole run", job.model)
    total = sum(verbs.values())
    keeps_waiting = stages and stages["encode"] > BOUND * stages["total"] and stages["model"] > 0
    return Measured(
        model=job.model, weights=weights, device=what_device(device), precision=loaded.precision,
        window=window, output=(plan.height, plan.width), verbs=verbs, window_fps=fresh / total / plan.num_tiles,
        teraflop=work.operations / 1e12, floor_s=work.floor_s(rates), traffic_s=work.traffic_s(rates), peak_bytes=peak,
        planned_bytes=needs.total, stages=stages, run_fps=run_fps, busy=busy, batch=batch,
        advice=advice(plan.encoder, stages["total"] / stages["model"]) if keeps_waiting else None, operations=listed,
    )  # fmt: skip


def _frames_until(moment: float, info: VideoInfo, threads: int) -> Iterator[Frame]:
    """The frames of a clip that are decoded before a moment; the first in any case."""
    for frame in decode(info, threads=threads):
        yield frame
        if time.perf_counter() >= moment:
            return


def _window(
    model: OneStepModel, window: tuple[int, int, int], asked: Request, device: torch.device, num_listed: int
) -> tuple[dict[str, float], Any, int, list[Operation]]:
    """Seconds of one window by verb, its work, its peak memory, and the operations that take most time."""
    from stvsr_cli.models.step import padding

    count, height, width = window
    bottom, right = padding(height, width, model.traits)
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(
        1, max(count, model.traits.minimum_window), 3, height + bottom, width + right, generator=generator
    )
    frames = frames.to(device)
    request = replace(asked, context=frames)
    work = count_work(lambda: _verbs(model, frames, request, device))
    _verbs(model, frames, request, device)  # warms up, without the counters
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = _verbs(model, frames, request, device)
    peak = peak_bytes(device)
    if device.type != "cuda":
        weights = weights_of(model)
        peak = live_memory.peak_bytes(lambda: _verbs(model, frames, request, device), weights)
        peak += sum(tensor.nbytes for tensor in weights)
    listed = operations(lambda: _verbs(model, frames, request, device), device, num_listed) if num_listed else []
    return seconds, work, peak, listed


def weights_of(model: OneStepModel) -> list[Tensor]:
    """The tensors that a model holds, whatever it runs on."""
    parts = list(model.parts.values()) if isinstance(model, PartedModel) else [getattr(model, "network", None)]
    return [tensor for part in parts if part is not None for tensor in [*part.parameters(), *part.buffers()]]


@torch.inference_mode()
def _verbs(model: OneStepModel, frames: Tensor, request: Request, device: torch.device) -> dict[str, float]:
    """Seconds by verb."""
    seconds: dict[str, float] = {}

    def timed(verb: str, *inputs: Any) -> Any:
        begin = time.perf_counter()
        result = getattr(model, verb)(*inputs, request)
        synchronise(device)
        seconds[verb] = time.perf_counter() - begin
        return result

    init = timed("initialise", frames)
    latent = timed("encode", init)
    condition = timed("condition", init, latent)
    timed("decode", timed("denoise", latent, condition), init)
    return seconds


def _run(run: Run, folder: Path) -> tuple[dict[str, float], float, float, int]:
    """Seconds of a whole run by stage, its frames a second, the device's busy share and its batch."""
    encoder = PacketEncoder(folder / "out.mkv", run.plan.info, run.plan.spec, run.plan.encoder)
    spent = 0.0

    def encode(item: tuple[Picture, int, int]) -> None:
        nonlocal spent
        begin = time.perf_counter()
        encoder.encode(*item)
        spent += time.perf_counter() - begin

    worker: Worker[tuple[Picture, int, int]] = Worker(encode, "encode")
    begin = time.perf_counter()
    try:
        run.into(lambda picture, slot, _: worker.put((picture, slot.pts, slot.duration)))
        worker.close()
    except BaseException:
        worker.abort()
        raise
    finally:
        encoder.close()
    total = time.perf_counter() - begin
    stages = run.stage_seconds() | {"encode": spent, "total": total}
    return stages, run.frames_out / total, min(1.0, stages["model"] / total), run.plan.batch
