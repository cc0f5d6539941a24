"""`stvsr preview`: the choices side by side at a few moments, before hours are spent on one."""

import os
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stvsr_cli.cli import options as opt
from stvsr_cli.cli.failures import reported
from stvsr_cli.cli.progress import displayed
from stvsr_cli.cli.values import parse_pace, parse_scale, parse_time
from stvsr_cli.errors import OutputError, UsageError
from stvsr_cli.job.job import Job
from stvsr_cli.media.write.settings import EncoderConfig

if TYPE_CHECKING:
    import numpy as np

    from stvsr_cli.media.read.probe import VideoInfo
    from stvsr_cli.preview.moments import Moment
    from stvsr_cli.preview.trial import Choice, Film, Outcome

SHARED = frozenset(
    {"scale", "height", "crop_bars", "fps", "fps_factor", "device", "precision", "codec", "crf", "preset", "threads"}
)
"""Options that mean the same in `stvsr upscale`, so that what is configured there counts here."""
CLIP_S = Fraction(1)
"""Length of a looping clip."""


def preview(
    file: Annotated[Path, typer.Argument(help="The video that is to be upscaled.", metavar="INPUT")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="PNG", help="The sheet; default: INPUT's name and _preview.png."),
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option(metavar="TIME", help="A moment; may be repeated. Default: from the shots.")
    ] = None,
    moments: Annotated[int, typer.Option(min=1, max=9, help="How many moments, where none is given.")] = 3,
    detail: Annotated[
        list[float] | None,
        typer.Option(help="A strength of detail to show; may be repeated. Default: 0, the usual, 1."),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model to show; may be repeated. Default: compact.")] = None,
    clip: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also a looping clip of one moment: .gif, .webp or .mp4.")
    ] = None,
    scale: opt.Scale = None,
    height: opt.Height = None,
    crop_bars: opt.CropBars = opt.DEFAULT.crop_bars,
    fps: opt.Fps = None,
    fps_factor: opt.FpsFactor = None,
    device: opt.Device = opt.DEFAULT.device,
    precision: opt.Precision = opt.DEFAULT.precision,
    codec: opt.Codec = opt.DEFAULT.encoder.codec,
    crf: opt.Crf = None,
    preset: opt.Preset = None,
    threads: opt.Threads = opt.DEFAULT.threads,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the sheet and the clip if they exist.")
    ] = False,
    progress: opt.ProgressKind = "auto",
    traceback: opt.Traceback = False,
) -> None:
    """Show the choices side by side at a few moments, and say how long the whole run takes and how large it will be.

    Each is made as the whole run would make it, with the encoder. The sheet is a PNG with crops at 100 %; it is also
    shown in the terminal where that can show pictures (kitty, iTerm2, sixel).
    """
    with displayed(progress, 0) as display, reported(traceback=traceback):
        from stvsr_cli.job.report import Progress
        from stvsr_cli.media.read.bars import with_removed_bars
        from stvsr_cli.media.read.deinterlace import with_fields
        from stvsr_cli.media.read.probe import probe
        from stvsr_cli.media.write.loop import check_loop
        from stvsr_cli.preview.moments import choose
        from stvsr_cli.preview.trial import run

        target = out or Path(f"{file.stem}_preview.png")
        for path in (target, *([clip] if clip else [])):
            if path.exists() and not overwrite:
                raise OutputError(f"{path} exists.", hint="Use --overwrite, or name another with --out.")
        if target.suffix.lower() != ".png":
            raise UsageError(f"--out {target} should end in .png.")
        if clip is not None:
            check_loop(clip)
        factor, rate = parse_pace(fps, fps_factor, Fraction(1))
        job = Job(
            input=file, output=Path(f"{file.stem}.mkv"), scale=parse_scale(scale), height=height, crop_bars=crop_bars,
            fps_factor=factor, target_fps=rate,
            device=device, precision=precision, threads=threads,
            encoder=EncoderConfig(codec=codec, crf=crf, preset=preset, threads=threads),
        )  # fmt: skip
        choices = choices_of(job, model or [], detail or [])
        display.show(Progress("look", 0, None, 0.0))
        info = with_removed_bars(with_fields(probe(file), "auto"), crop_bars)
        times = [time_ for text in at or [] if (time_ := parse_time(text, "--at")) is not None]
        chosen = choose(info, moments, times)
        begin, done = time.perf_counter(), 0

        def step() -> None:
            nonlocal done
            done += 1
            fps = done / max(time.perf_counter() - begin, 1e-9)
            display.show(Progress("pieces", done, len(choices) * len(chosen), fps))

        film, source = _film(info, chosen, len(choices)) if clip else (None, [])
        outcomes = run(choices, info, chosen, film=film, step=step)
        picture = _sheet(info, chosen, outcomes)
        _save(picture, target)
        if clip is not None and film is not None:
            _save_film(film, source, outcomes, clip)
        display.close()
        _show(picture)
        for outcome in outcomes:
            typer.echo(f"{outcome.choice.label}: {cost(outcome)}")
        typer.echo(f"{target}{f', {clip}' if clip else ''}")


def choices_of(job: Job, models: list[str], details: list[float]) -> "list[Choice]":
    """The choices that were asked for. Raises UsageError or ModelError."""
    from stvsr_cli.models.catalogue import find_model
    from stvsr_cli.models.registry import foreign_option
    from stvsr_cli.preview.trial import Choice

    if len(models) > 1 and details:
        raise UsageError("several models cannot be combined with several strengths of detail.", hint="Give one model.")
    if len(models) > 1:
        return [Choice(name, replace(job, model=find_model(name).name)) for name in models]
    entry = find_model(models[0] if models else job.model)
    job = replace(job, model=entry.name)
    if "detail" not in entry.dials:
        if details:
            raise foreign_option("detail", entry)
        return [Choice(entry.name, job)]
    strengths: list[float | None] = list(details) or [0.0, None, 1.0]
    return [Choice(_named(entry.name, value), replace(job, detail=value)) for value in strengths]


def _named(model: str, detail: float | None) -> str:
    return f"{model}, as usual" if detail is None else f"{model}, detail {detail:g}"


def cost(outcome: "Outcome") -> str:
    """How long the whole run takes, and how large it will be."""
    from stvsr_cli.job.disk import in_words
    from stvsr_cli.preview.sheet import in_time

    took = "length unknown" if outcome.seconds is None else f"about {in_time(outcome.seconds)} on {outcome.device}"
    size = "" if outcome.bytes is None else f", about {in_words(outcome.bytes)}"
    return f"{took}{size}"


def _sheet(info: "VideoInfo", moments: "list[Moment]", outcomes: "list[Outcome]") -> "np.ndarray":
    from stvsr_cli.job.disk import in_words
    from stvsr_cli.preview.sheet import Row, clock, in_time, sheet
    from stvsr_cli.preview.trial import source_frames

    rows = []
    for number, moment in enumerate(moments):
        frames, middle = source_frames(info, moment, Fraction(1, 2))
        outputs = [outcome.shown[number] for outcome in outcomes]
        rows.append(Row(clock(moment.time), frames[middle], outputs))
    own = rows[0].source.shape
    columns = [["as it comes", f"{own[1]}x{own[0]}, {float(info.average_rate):.5g} fps"]]
    for outcome in outcomes:
        took = "" if outcome.seconds is None else f"{in_time(outcome.seconds)}"
        size = "" if outcome.bytes is None else f", {in_words(outcome.bytes)}"
        columns.append([outcome.choice.label, f"whole run: {took}{size}"])
    first = outcomes[0]
    name = info.path.name
    height, width = first.shown[0].shape[:2]
    title = f"{name} to {width}x{height}, {float(first.rate):.5g} fps"
    footer = [f"All crops at 100 %. Times are for {first.device} on this machine, sizes are estimates."]
    return sheet(title, columns, rows, footer)


def _save(picture: "np.ndarray", target: Path) -> None:
    from stvsr_cli.media.images import encoded

    part = target.with_name(f".{target.name}.part")
    try:
        part.write_bytes(encoded(picture, ".png"))
        os.replace(part, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}.", hint="Name another with --out.") from error
    finally:
        part.unlink(missing_ok=True)


def _film(info: "VideoInfo", moments: "list[Moment]", num_choices: int) -> "tuple[Film, list[np.ndarray]]":
    """The moment in the middle as a film, and the input's own frames of it, at the size that they have."""
    from stvsr_cli.preview.sheet import Cutter
    from stvsr_cli.preview.trial import Film, source_frames

    number = len(moments) // 2
    frames, middle = source_frames(info, moments[number], CLIP_S)
    return Film(number, CLIP_S, Cutter(frames[middle], num_choices + 1)), frames


def _save_film(film: "Film", source: "list[np.ndarray]", outcomes: "list[Outcome]", target: Path) -> None:
    from stvsr_cli.media.write.loop import write_loop
    from stvsr_cli.preview.sheet import enlarged, strip

    height, width = outcomes[0].shown[film.moment].shape[:2]
    own = [film.cut(enlarged(frame, width, height)) for frame in source]
    labels = ["as it comes", *(outcome.choice.label for outcome in outcomes)]
    write_loop(strip([own, *(outcome.film for outcome in outcomes)], labels), outcomes[0].rate, target)


def _show(picture: "np.ndarray") -> None:
    """Show the sheet in the terminal, where that can."""
    from stvsr_cli.cli import terminal
    from stvsr_cli.media.images import encoded
    from stvsr_cli.preview.sheet import enlarged

    way = terminal.way_to_show(os.environ, sys.stdout)
    if way is None:
        return
    wide = min(picture.shape[1], terminal.pixels_wide(sys.stdout))
    fitted = enlarged(picture, wide, max(1, round(picture.shape[0] * wide / picture.shape[1])))
    if way == "sixel":
        sys.stdout.write(terminal.sixel(fitted))
    else:
        sys.stdout.write({"kitty": terminal.kitty, "iterm2": terminal.iterm2}[way](encoded(fitted, ".png")))
    sys.stdout.flush()
