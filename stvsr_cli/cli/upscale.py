"""`stvsr upscale`: one video in, one larger and smoother video out."""

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stvsr_cli.cli import options as opt
from stvsr_cli.cli.batch import BatchOptions, batch_items, is_batch, rehearse_batch, split_paths, upscale_batch
from stvsr_cli.cli.cluster import parse_engine
from stvsr_cli.cli.failures import Stop, give_up, reported
from stvsr_cli.cli.progress import Display, displayed, lasting
from stvsr_cli.cli.values import (
    parse_count,
    parse_fit,
    parse_number,
    parse_options,
    parse_pace,
    parse_rate,
    parse_scale,
    parse_time,
)
from stvsr_cli.cli.wrapped import say
from stvsr_cli.errors import UsageError
from stvsr_cli.job.job import Job
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.models.entry import ModelOptions
from stvsr_cli.models.fit.asked import Fit

if TYPE_CHECKING:
    from stvsr_cli.engine.ray.cluster import RayConfig
    from stvsr_cli.job.report import Progress, Report

logger = logging.getLogger(__name__)


def upscale(
    paths: opt.Paths,
    scale: opt.Scale = None,
    width: opt.Width = None,
    height: opt.Height = None,
    fit: opt.FitSize = None,
    fit_mode: opt.FitMode = opt.DEFAULT.fit_mode,
    crop_bars: opt.CropBars = opt.DEFAULT.crop_bars,
    fps: opt.Fps = None,
    fps_factor: opt.FpsFactor = None,
    slow_motion: opt.SlowMotion = str(opt.DEFAULT.slow_motion),
    slow_sound: opt.SlowSound = opt.DEFAULT.slow_sound,
    input_fps: opt.InputFps = None,
    cuts: opt.Cuts = opt.DEFAULT.cuts,
    start: opt.Start = None,
    end: opt.End = None,
    video_stream: opt.VideoStream = None,
    deinterlace: opt.Deinterlace = opt.DEFAULT.deinterlace,
    repeats: opt.Repeats = opt.DEFAULT.repeats,
    model: opt.Model = opt.DEFAULT.model,
    quality: opt.Quality = None,
    detail: opt.Detail = None,
    restore: opt.Restore = None,
    weights: opt.Weights = None,
    device: opt.Device = opt.DEFAULT.device,
    codec: opt.Codec = opt.DEFAULT.encoder.codec,
    crf: opt.Crf = None,
    preset: opt.Preset = None,
    pix_fmt: opt.PixFmt = None,
    encoder_option: opt.EncoderOption = None,
    format: opt.Format = None,
    recursive: opt.Recursive = False,
    ext: opt.Ext = None,
    name_template: opt.NameTemplate = None,
    skip_existing: opt.SkipExisting = False,
    jobs: opt.Jobs = 1,
    fail_fast: opt.FailFast = False,
    report: opt.ReportPath = None,
    overwrite: opt.Overwrite = opt.DEFAULT.overwrite,
    dry_run: opt.DryRun = False,
    resume: opt.Resume = opt.DEFAULT.resume,
    progress: opt.ProgressKind = "auto",
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
    segment_frames: opt.SegmentFrames = opt.DEFAULT.segment_frames,
    record: opt.KeepRecord = opt.DEFAULT.record,
    like: opt.Like = None,
    allow_url: opt.AllowUrl = opt.DEFAULT.allow_url,
    max_pixels: opt.MaxPixels = opt.DEFAULT.max_pixels,
    stall_timeout: opt.StallTimeout = None,
    space_check: opt.SpaceCheck = opt.DEFAULT.check_space,
    nice: opt.Nice = 0,
    traceback: opt.Traceback = False,
    precision: opt.Precision = opt.DEFAULT.precision,
    window: opt.Window = None,
    overlap: opt.Overlap = None,
    batch: opt.Batch = "auto",
    tile: opt.TilePx = "auto",
    threads: opt.Threads = opt.DEFAULT.threads,
    offload: opt.Offload = opt.DEFAULT.fit.offload,
    quantize: opt.Quantize = opt.DEFAULT.fit.quantize,
    attention: opt.Attention = opt.DEFAULT.fit.attention,
    compile: opt.Compile = opt.DEFAULT.compile,
    seed: opt.Seed = opt.DEFAULT.seed,
    prompt: opt.Prompt = None,
    color_fix: opt.ColorFix = None,
    posterior: opt.Posterior = None,
    base: opt.Base = None,
    vae_tile: opt.VaeTile = "auto",
    aggregation: opt.Aggregation = True,
    guidance: opt.Guidance = True,
    engine: opt.Engine = "local",
    address: opt.Address = "auto",
    workers: opt.WorkerCount = None,
    gpus_per_worker: opt.GpusPerWorker = 1.0,
    ship: opt.Ship = "auto",
) -> None:
    """Upscale a video: four times the size, twice the frame rate, its sound kept in sync."""
    shown = "none" if dry_run or (quiet and progress == "auto") else progress
    stop = Stop()
    with displayed(shown, -1 if quiet else verbose) as display, reported(traceback=traceback, stop=stop):
        if nice and hasattr(os, "nice"):  # before any thread is there
            os.nice(nice)
        inputs, output = split_paths(paths)
        several = BatchOptions(
            recursive=recursive, ext=ext, name_template=name_template, skip_existing=skip_existing, jobs=jobs,
            fail_fast=fail_fast, report=report,
        )  # fmt: skip
        options = parse_options(encoder_option or [])
        width, height = parse_fit(fit, width, height)
        if input_fps is None and fps is not None and fps[-1:] not in "xX" and _are_pictures(inputs):
            fps, input_fps = None, fps
        slower = parse_number(slow_motion, "--slow-motion")
        factor, rate = parse_pace(fps, fps_factor, slower)
        job = Job(
            input=Path(inputs[0]), output=Path(output), overwrite=overwrite, allow_url=allow_url,
            video_stream=video_stream, resume=resume, record=record, segment_frames=segment_frames,
            stall_timeout_s=stall_timeout,
            format=format, fps=None if input_fps is None else parse_rate(input_fps, "--input-fps"),
            check_space=space_check, deinterlace=deinterlace, repeats=repeats, max_pixels=max_pixels, scale=parse_scale(scale), width=width, height=height,
            fit_mode=fit_mode, crop_bars=crop_bars, fps_factor=factor, target_fps=rate, slow_motion=slower,
            slow_sound=slow_sound, cuts=cuts,
            start=parse_time(start, "--start"), end=parse_time(end, "--end"),
            model=model, weights=weights, device=device, precision=precision, threads=threads, seed=seed,
            window=window, overlap=overlap, batch=parse_count(batch, "--batch", {"auto": None}),
            tile=parse_count(tile, "--tile", {"auto": None, "off": 0}), detail=detail, restore=restore,
            options=ModelOptions(
                prompt=prompt, color_fix=color_fix, posterior=posterior, base=base,
                vae_tile_px=parse_count(vae_tile, "--vae-tile", {"auto": None, "off": 0}),
                aggregation=None if aggregation else False, guidance=None if guidance else False,
            ),
            fit=Fit(offload=offload, quantize=quantize, attention=attention), compile=compile,
            encoder=EncoderConfig(
                codec=codec, crf=crf, preset=preset, pix_fmt=pix_fmt, options=options, threads=threads
            ),
        )  # fmt: skip
        cluster = parse_engine(engine, address=address, workers=workers, gpus_per_worker=gpus_per_worker, ship=ship)
        _do(job, inputs, output, several, cluster, display, stop, quiet=quiet, kind=progress, dry_run=dry_run)


def _are_pictures(inputs: list[str]) -> bool:
    """Whether pictures are read, which have no rate of their own."""
    from stvsr_cli.pipeline.sources import reads_pictures

    return len(inputs) == 1 and reads_pictures(Path(inputs[0]))


def _do(
    job: Job,
    inputs: list[str],
    output: str,
    several: BatchOptions,
    cluster: "RayConfig | None",
    display: Display,
    stop: Stop,
    *,
    quiet: bool,
    kind: str,
    dry_run: bool,
) -> None:
    """Upscale one video or several, or say what would be done."""
    from stvsr_cli.batch.inputs import is_pattern
    from stvsr_cli.pipeline.upscale import stands_alone

    if len(inputs) == 1 and not is_pattern(inputs[0]) and stands_alone(job):
        if several.skip_existing or several.report is not None:
            raise UsageError("--skip-existing and --report are for video files.", hint="Leave them out.")
        if cluster is not None:
            raise UsageError("--engine ray takes video files.", hint="Leave it out for pictures and pipes.")
    elif job.format is not None or job.fps is not None:
        raise UsageError("--format is for standard output and pictures, --input-fps for pictures that are read.")
    elif is_batch(inputs, output, several):
        items, folder = batch_items(inputs, output, job, several)
        if dry_run:
            rehearse_batch(items, job, several)
        else:
            upscale_batch(items, folder, job, several, display, quiet=quiet, kind=kind, stop=stop, cluster=cluster)
        return
    if dry_run:
        _print_plan(job)
    else:
        _upscale(job, display, stop, cluster, quiet=quiet)


def _print_plan(job: Job) -> None:
    from stvsr_cli.media.pipes import is_pipe
    from stvsr_cli.pipeline.upscale import check, load, plan

    if is_pipe(job.input):  # which would be used up
        check(job)
        load(job)
        typer.echo(f"{job.input} -> {job.output}")
        return
    rehearsal = plan(job)
    from stvsr_cli.cli.dry_run import LABEL, plan_lines

    for line in plan_lines(rehearsal):
        say(line, LABEL)


def _upscale(job: Job, display: Display, stop: Stop, cluster: "RayConfig | None", *, quiet: bool) -> None:
    from stvsr_cli.media.pipes import PIPE, PipeClosed, is_pipe
    from stvsr_cli.pipeline.upscale import keeps_journal
    from stvsr_cli.pipeline.upscale import upscale as run

    is_kept, stop.finishes = keeps_journal(job), is_pipe(job.input)

    def show(progress: "Progress") -> None:
        stop.armed = (is_kept or stop.finishes) and progress.phase == "upscale"
        display.show(replace(progress, file=job.input.name))

    try:
        if cluster is None:
            report = run(job, progress=show, stop=stop.asked, last_resort=give_up)
        else:
            from stvsr_cli.pipeline import distributed

            with distributed.workers(cluster, job) as crew:
                report = distributed.distribute(job, crew, progress=show, stop=stop.asked)
    except PipeClosed:
        logger.info("the reader of the output has gone, so nothing more is needed")
        return
    display.close()
    if not quiet and job.output != PIPE:
        display.say("info", done_line(job.output, report))
    logger.info(
        "%d -> %d frames in %d shots; %.1f s in the model, peak memory %.2f GiB",
        report.frames_in, report.frames_out, report.num_shots, report.seconds["model"], report.peak_bytes / 2**30,
    )  # fmt: skip


def done_line(target: Path, report: "Report") -> str:
    """What a run has made: where, of what size and rate, how long, and how fast."""
    out, total = report.output, report.seconds["total"]
    rate = float(out.average_rate)
    shown = "" if out.duration_s is None else f", {lasting(float(out.duration_s))}"
    return (
        f"{target}: {out.width}x{out.height}, {rate:.6g} fps{shown}, {report.frames_out} frames; "
        f"made in {lasting(total)}, {report.frames_out / max(total, 1e-9):.2f} fps"
    )
