"""`stvsr bench`: how fast models are on this machine, and how far that is from what it could do."""

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from stvsr_cli.cli.failures import reported
from stvsr_cli.cli.progress import displayed
from stvsr_cli.errors import UsageError
from stvsr_cli.job.job import Job, Precision
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.models.fit.asked import Attention, Fit, Offload, Quantize

SIZE = re.compile(r"^(\d+)x(\d+)$")


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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a model.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Picture to write, such as bench.png.")] = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
) -> None:
    """Measure models here: seconds by stage, frames a second, memory, and the floor of what the device could do.

    Weights that are not installed are taken at random: the time is the same.
    """
    with displayed("none", 0), reported(traceback=traceback):
        match = SIZE.match(size)
        if match is None:
            raise UsageError(f"--size {size!r} is not known.", hint="Write it as 480x270.")
        from stvsr_cli.bench.measure import BenchConfig, measure
        from stvsr_cli.bench.show import as_dict, as_table
        from stvsr_cli.bench.show import plot as draw

        width, height = (int(side) for side in match.groups())
        config = BenchConfig(
            width=width, height=height, windows=windows, size="tiny" if tiny else "full", random=random
        )
        rows = []
        for name in model or ["compact"]:
            job = Job(
                input=Path("clip.mkv"), output=Path("out.mkv"), model=name, device=device, precision=precision,
                scale=Fraction(scale), window=window, batch=batch, threads=threads, cuts="ignore",
                fit=Fit(offload=offload, quantize=quantize, attention=attention),
                encoder=EncoderConfig(codec=codec, preset=preset, threads=threads),
            )  # fmt: skip
            rows.append(measure(job, config))
            if as_json:
                typer.echo(json.dumps(as_dict(rows[-1])))
        if not as_json:
            for line in as_table(rows):
                typer.echo(line)
        if plot is not None:
            draw(rows, plot)
