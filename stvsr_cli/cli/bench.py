"""`stvsr bench`: how fast models are on this machine, and how far that is from what it could do."""

import json
import math
import os
import re
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stvsr_cli.cli.failures import reported
from stvsr_cli.cli.progress import displayed
from stvsr_cli.errors import UsageError
from stvsr_cli.job.job import Job, Precision
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.models.fit.asked import Attention, Fit, Offload, Quantize

if TYPE_CHECKING:
    from stvsr_cli.bench.measure import Measured

SIZE = re.compile(r"^(\d+)x(\d+)$")
SILENCE = ("KINETO_LOG_LEVEL", "99")
"""By which PyTorch's profiler is kept from writing to the terminal; read when PyTorch is loaded."""


def bench(
    model: Annotated[
        list[str] | None, typer.Option(help="Model to measure; may be repeated. Default: compact.")
    ] = None,
    size: Annotated[str, typer.Option(metavar="WxH", help="Size of the input.")] = "480x270",
    scale: Annotated[str, typer.Option(help="Size factor in [1, 4].")] = "4",
    windows: Annotated[int, typer.Option(min=0, help="Windows of the whole run; 0: one window alone.")] = 4,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps (Apple).")] = "auto",
    precision: Annotated[Precision, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    window: Annotated[int | None, typer.Option(min=2, help="Source frames per model call.")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Windows or tiles per model call; default: as many as fit.")
    ] = None,
    codec: Annotated[str, typer.Option(help="Encoder of the whole run.")] = "libx264",
    preset: Annotated[str | None, typer.Option(help="The encoder's speed preset.")] = None,
    offload: Annotated[Offload, typer.Option(help="none, model or sequential (large models, GPU).")] = "none",
    quantize: Annotated[Quantize, typer.Option(help="none, int8 or fp8 (large models).")] = "none",
    attention: Annotated[Attention, typer.Option(help="sdpa, auto, flash or sage (large models, GPU).")] = "sdpa",
    random: Annotated[bool, typer.Option("--random", help="Random weights even where some are installed.")] = False,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Tiny networks with random weights: the same code in a moment.")
    ] = False,
    threads: Annotated[int, typer.Option(min=0, help="Compute threads; 0: one a core.")] = 0,
    seconds: Annotated[
        float | None,
        typer.Option(min=1, help="Time for all models together, about: whole runs end early, models left over wait."),
    ] = None,
    operations: Annotated[
        int, typer.Option(min=0, help="List so many operations of a window, those that take most time first.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a model.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Picture to write, such as bench.png.")] = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
) -> None:
    """Measure models here: seconds by stage, frames a second, memory, and the floor of what the device could do.

    Weights that are not installed are taken at random: the time is the same. What a model came to is printed as soon as it
    is measured; of several models, each has its share of --seconds.
    """
    with displayed("none", 0), reported(traceback=traceback):
        match = SIZE.match(size)
        if match is None:
            raise UsageError(f"--size {size!r} is not known.", hint="Write it as 480x270.")
        if operations:
            os.environ.setdefault(*SILENCE)
        from stvsr_cli.bench.measure import BenchConfig, measure
        from stvsr_cli.bench.show import as_dict, as_table
        from stvsr_cli.bench.show import plot as draw

        width, height = (int(side) for side in match.groups())
        names, begin = model or ["compact"], time.perf_counter()
        rows: list[Measured] = []
        for number, name in enumerate(names):
            left = math.inf if seconds is None else seconds - (time.perf_counter() - begin)
            if left <= 0:
                typer.echo(f"not measured, as the time is over: {', '.join(names[number:])}", err=True)
                break
            config = BenchConfig(
                width=width, height=height, windows=windows, size="tiny" if tiny else "full", random=random,
                operations=operations, until=time.perf_counter() + left / (len(names) - number),
            )  # fmt: skip
            job = Job(
                input=Path("clip.mkv"), output=Path("out.mkv"), model=name, device=device, precision=precision,
                scale=Fraction(scale), window=window, batch=batch, threads=threads, cuts="ignore",
                fit=Fit(offload=offload, quantize=quantize, attention=attention),
                encoder=EncoderConfig(codec=codec, preset=preset, threads=threads),
            )  # fmt: skip
            rows.append(measure(job, config))
            for line in [json.dumps(as_dict(rows[-1]))] if as_json else _lines(rows[-1]):
                typer.echo(line)
        if len(rows) > 1 and not as_json:
            typer.echo("\n".join(["all models", "", *as_table(rows)]))
        if plot is not None:
            draw(rows, plot)


def _lines(row: "Measured") -> list[str]:
    """What one model came to, and an empty line."""
    from stvsr_cli.bench.show import as_list, as_table

    return [*as_table([row]), *(["", *as_list(row)] if row.operations else []), ""]
