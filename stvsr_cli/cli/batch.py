"""Several videos in one call of `stvsr upscale`: what is asked for, and the table at the end."""

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stvsr_cli.cli.failures import Stop, give_up
from stvsr_cli.cli.progress import Display
from stvsr_cli.errors import BatchError, UsageError

if TYPE_CHECKING:
    from stvsr_cli.batch.batch import Entry
    from stvsr_cli.batch.inputs import Item
    from stvsr_cli.engine.ray.cluster import RayConfig
    from stvsr_cli.job.job import Job
    from stvsr_cli.job.report import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions:
    """The options that concern several files."""

    recursive: bool
    ext: str | None
    name_template: str | None
    skip_existing: bool
    jobs: int
    fail_fast: bool
    report: Path | None


def split_paths(paths: Sequence[str]) -> tuple[list[str], str]:
    """Inputs and output of a command line's paths. Raises UsageError if there are fewer than two."""
    if len(paths) < 2:
        raise UsageError("an input and an output are needed.", hint="stvsr upscale INPUT... OUTPUT")
    return list(paths[:-1]), paths[-1]


def is_batch(inputs: Sequence[str], output: str, options: BatchOptions) -> bool:
    """Whether the paths, or the options, speak of more than one plain file."""
    from stvsr_cli.batch.inputs import is_pattern

    first = inputs[0]
    return (
        len(inputs) > 1
        or output.endswith("/")
        or Path(output).is_dir()
        or Path(first).is_dir()
        or is_pattern(first)
        or options.skip_existing
        or options.report is not None
    )


def batch_items(inputs: Sequence[str], output: str, job: "Job", options: BatchOptions) -> tuple[list["Item"], Path]:
    """The files to make, and the folder that holds them. Raises InputError or UsageError."""
    from stvsr_cli.batch.inputs import Item, expand, find_items
    from stvsr_cli.media.read.probe import VIDEO_SUFFIXES
    from stvsr_cli.media.write.mux import FORMATS

    if "-" in (*inputs, output):
        raise UsageError("- stands for one video.", hint="Name one input and one output.")
    paths = [path for text in inputs for path in expand(text)]
    folder = Path(output)
    names_file = folder.suffix.lower() in FORMATS and not output.endswith("/") and not folder.is_dir()
    if names_file and len(paths) == 1 and not paths[0].is_dir():
        return [Item(paths[0], folder)], folder.parent
    suffixes = VIDEO_SUFFIXES
    if options.ext is not None:
        suffixes = frozenset("." + part.strip().lstrip(".").lower() for part in options.ext.split(",") if part.strip())
    items = find_items(
        paths,
        folder,
        template=options.name_template or "{stem}{suffix}",
        values={"scale": f"{float(job.scale or 4):g}", "fps_factor": str(job.fps_factor), "model": job.model},
        recursive=options.recursive,
        suffixes=suffixes,
    )
    if names_file or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"several videos need a folder, not the file {folder}.", hint=f"Write {folder.stem}/ instead.")
    return items, folder


def upscale_batch(
    items: Sequence["Item"],
    folder: Path,
    job: "Job",
    options: BatchOptions,
    display: Display,
    *,
    quiet: bool,
    kind: str,
    stop: Stop,
    cluster: "RayConfig | None" = None,
) -> None:
    """Make the files and say what became of them. Raises BatchError if any failed, Interrupted if it was stopped."""
    from stvsr_cli.batch.batch import FAILED, BatchConfig, run_batch

    config = BatchConfig(
        folder=folder, skip_existing=options.skip_existing, jobs=options.jobs, fail_fast=options.fail_fast,
        report=options.report,
    )  # fmt: skip

    def show(progress: "Progress") -> None:
        stop.armed = job.resume != "never" and progress.phase == "upscale"
        display.show(progress)

    with ExitStack() as stack:
        crew = None
        if cluster is not None:
            from stvsr_cli.pipeline import distributed

            crew = stack.enter_context(distributed.workers(cluster, job))
        entries = run_batch(items, job, config, progress=show, stop=stop.asked, last_resort=give_up, crew=crew)
    display.close()
    if kind == "json":
        _json(entries)
    elif not quiet:
        _table(entries)
    failed = sum(entry.status == FAILED for entry in entries)
    if failed:
        hint = f"{options.report} says why." if options.report else "The lines above say why."
        raise BatchError(f"{failed} of {len(entries)} files failed.", hint=hint)


def print_items(items: Sequence["Item"]) -> None:
    """Say what would become what, one file a line."""
    for item in items:
        typer.echo(f"{item.source} -> {item.target}{' (exists)' if item.target.exists() else ''}")


def _json(entries: Sequence["Entry"]) -> None:
    from dataclasses import asdict

    for entry in entries:
        print(json.dumps({"result": asdict(entry)}), file=sys.stderr, flush=True)


def _table(entries: Sequence["Entry"]) -> None:
    """A table on stderr: a line a file, and how many of each kind."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from stvsr_cli.batch.batch import count

    colors = {"done": "green", "skipped": "yellow", "failed": "red"}
    table = Table(caption=", ".join(f"{number} {status}" for status, number in count(entries).items()))
    for title in ("file", "status", "seconds", "fps", "why"):
        table.add_column(title, justify="right" if title in ("seconds", "fps") else "left", overflow="fold")
    for entry in entries:
        table.add_row(
            Text(entry.input),
            Text(entry.status, style=colors[entry.status]),
            f"{entry.seconds:.1f}",
            f"{entry.fps:.2f}" if entry.fps else "",
            Text(entry.why or entry.output),
        )
    Console(stderr=True).print(table)
