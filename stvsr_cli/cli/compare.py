"""`stvsr compare`: what differs between two videos, in numbers, over time, and as a page to look at."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stvsr_cli.cli.failures import reported
from stvsr_cli.cli.progress import displayed
from stvsr_cli.cli.values import parse_time

if TYPE_CHECKING:
    from torch import nn

    from stvsr_cli.compare.clip import Clip
    from stvsr_cli.compare.compare import Comparison

BARS = "▁▂▃▄▅▆▇█"
NUM_BARS = 20
"""Width of a plot in the table."""
BETTER = {"higher": "more is better", "lower": "less is better", "one": ""}
FEATURES, FEATURES_FILES = "squeezenet", ("*.safetensors",)
"""Where the features of the perceptual distance are looked for, as a model's weights are."""


def compare(
    a: Annotated[Path, typer.Argument(help="A video: what went in, or one way of doing it.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="Another: what came out, or the other way.", metavar="B")],
    reference: Annotated[
        Path | None, typer.Option(metavar="R", help="The original that both should be like; else B is held against A.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="PAGE", help="Write a page, one file, to look at both with a slider."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything, frame by frame, as JSON.")] = False,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="Start at this time: seconds, MM:SS or HH:MM:SS.")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Stop at this time.")] = None,
    measures: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Only these, such as psnr,ssim; or none. Default: all.")
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="SqueezeNet 1.1 weights (safetensors) for the perceptual distance."),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0: one a core.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace PAGE if it exists.")] = False,
    progress: Annotated[str, typer.Option("--progress", help="auto, rich, plain, json or none.")] = "auto",
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
) -> None:
    """Compare two videos, or two with their original: sizes and times, likeness, sharpness, steadiness.

    Frames are matched by their times, so that the frame rates may differ.
    """
    with displayed(progress, 0) as display, reported(traceback=traceback):
        import torch

        from stvsr_cli.compare.compare import CompareConfig
        from stvsr_cli.compare.compare import compare as run
        from stvsr_cli.compare.tracks import MEASURES
        from stvsr_cli.job.report import Progress
        from stvsr_cli.models.fit.device import pick_threads

        torch.set_num_threads(pick_threads(threads))
        chosen = frozenset(MEASURES) if measures is None else _names(measures)
        config = CompareConfig(
            start=parse_time(start, "--start"), end=parse_time(end, "--end"), measures=chosen,
            perceptual=_perceptual(features) if "perceptual" in chosen else None, threads=threads,
        )  # fmt: skip
        if html is not None:
            from stvsr_cli.compare.page import check_page

            check_page(html, overwrite=overwrite)
        begin = time.perf_counter()

        def show(phase: str, done: int, total: int) -> None:
            display.show(Progress(phase, done, total, done / max(time.perf_counter() - begin, 1e-9)))

        result = run(a, b, reference, config, lambda done, total: show("compare", done, total))
        if html is not None:
            from stvsr_cli.compare.page import write_page

            begin = time.perf_counter()
            write_page(result, html, lambda done, total: show("page", done, total))
        display.close()
        if as_json:
            typer.echo(json.dumps(result.as_dict()))
        else:
            _print(result)
            if html is not None:
                typer.echo(f"\n{html}: open it in a browser")


def _names(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip()) - {"none"}


def _perceptual(named: Path | None) -> "nn.Module | None":
    """The network of the perceptual distance, from a file or from where weights lie; None where there is none."""
    from stvsr_cli.quality.features import Perceptual
    from stvsr_cli.weights.places import find_complete

    if named is None and (folder := find_complete(FEATURES, FEATURES_FILES)) is not None:
        named = next(folder.glob(FEATURES_FILES[0]))
    return None if named is None else Perceptual(named)


def _print(result: "Comparison") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    facts = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("", "size", "rate", "frames", "duration", "bytes", "codec", "file"):
        facts.add_column(
            title,
            no_wrap=title != "file",
            overflow="fold",
            justify="right" if title in ("rate", "frames", "duration", "bytes") else "left",
        )
    for letter, clip in result.clips.items():
        facts.add_row(letter, *_facts(clip))
    console.print(facts)
    rows = _rows(result)
    if rows:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for title in ("", "A", "B"):
            table.add_column(title, justify="right" if title else "left", no_wrap=True)
        table.add_column("B over time", no_wrap=True)
        table.add_column("", style="dim")
        for title, values, plot, better in rows:
            table.add_row(title, *values, Text(plot, style="cyan"), better)
        console.print(table)
    for note in result.notes:
        console.print(Text(note, style="dim"))


def _facts(clip: "Clip") -> list[str]:
    from stvsr_cli.job.disk import in_words

    width, height = clip.size
    return [
        f"{width}x{height}", f"{float(clip.rate):.5g}", str(clip.num_frames), f"{float(clip.duration_s):.2f} s",
        in_words(clip.num_bytes), clip.info.codec, clip.info.path.name,
    ]  # fmt: skip


def _rows(result: "Comparison") -> list[tuple[str, list[str], str, str]]:
    """Title, the values of A and B, B's course, and how to read it."""
    from stvsr_cli.compare.tracks import MEASURES

    rows = []
    for name, measure in MEASURES.items():
        tracks = {t.video: t for t in result.tracks if name in t.values()}
        if not tracks:
            continue
        cells = [f"{tracks[v].values()[name]:.{measure.digits}f}" if v in tracks else "" for v in ("A", "B")]
        course = [row[name] for row in tracks["B"].rows if name in row] if "B" in tracks else []
        held = "B against A; " if not measure.alone and "R" not in result.clips else ""
        better = "1 is the original's" if measure.better == "one" and "R" in result.clips else BETTER[measure.better]
        rows.append((measure.title, cells, sparkline(course), f"{held}{better}"))
    return rows


def sparkline(values: list[float]) -> str:
    """A plot of at most `NUM_BARS` characters, from the lowest value to the highest."""
    if not values:
        return ""
    count = min(NUM_BARS, len(values))
    parts = [values[i * len(values) // count : (i + 1) * len(values) // count] for i in range(count)]
    means = [sum(part) / len(part) for part in parts]
    low, span = min(means), max(means) - min(means)
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] if span else BARS[0] for value in means)
