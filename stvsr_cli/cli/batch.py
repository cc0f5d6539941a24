"""Several videos in one call of `stvsr upscale`: what is asked for, and the table at the end."""

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from stvsr_cli.cli.failures import Stop, give_up
from stvsr_cli.cli.progress import Display
from stvsr_cli.cli.wrapped import say
from stvsr_cli.errors import BatchError, StvsrError, UsageError

if TYPE_CHECKING:
    from stvsr_cli.batch.batch import Entry
    from stvsr_cli.batch.inputs import Item
    from stvsr_cli.batch.names import Values
    from stvsr_cli.engine.ray.cluster import RayConfig
    from stvsr_cli.job.job import Job
    from stvsr_cli.job.report import Loaded, Progress


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
    from stvsr_cli.batch.existing import Made
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
        values=template_values(job),
        recursive=options.recursive,
        suffixes=suffixes,
        is_ours=Made(folder).has,
    )
    if names_file or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"several videos need a folder, not the file {folder}.", hint=f"Write {folder.stem}/ instead.")
    return items, folder


def template_values(job: "Job") -> "Values":
    """What the fields of a name template stand for that the job says; some of a source's size or rate."""
    from stvsr_cli.job.rates import multiple_of, rate_of
    from stvsr_cli.job.size import find_size
    from stvsr_cli.media.read.bars import with_removed_bars
    from stvsr_cli.media.read.probe import VideoInfo, probe

    @lru_cache(maxsize=1)  # several fields of one name
    def described(source: Path) -> VideoInfo:
        return probe(source, video_stream=job.video_stream, max_pixels=job.max_pixels)

    def scale(source: Path) -> str:
        if job.width is None and job.height is None:
            return f"{float(job.scale or 4):g}"
        return f"{float(find_size(with_removed_bars(described(source), job.crop_bars), job).factor):.3g}"

    def fps(source: Path) -> str:
        return f"{float(rate_of(job, described(source))):.5g}"

    def fps_factor(source: Path) -> str:
        if job.target_fps is None:
            return f"{float(job.fps_factor):.3g}"
        return f"{float(multiple_of(job, described(source))):.3g}"

    return {"scale": scale, "fps": fps, "fps_factor": fps_factor, "model": job.model}


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
    from stvsr_cli.batch.batch import FAILED, HELD, BatchConfig, Stopped, run_batch

    config = BatchConfig(
        folder=folder, skip_existing=options.skip_existing, jobs=options.jobs, fail_fast=options.fail_fast,
        report=options.report,
    )  # fmt: skip

    def show(progress: "Progress") -> None:
        stop.armed = job.resume != "never" and progress.phase == "upscale"
        display.show(progress)

    try:
        with ExitStack() as stack:
            crew = None
            if cluster is not None:
                from stvsr_cli.pipeline import distributed

                crew = stack.enter_context(distributed.workers(cluster, job))
            entries = run_batch(items, job, config, progress=show, stop=stop.asked, last_resort=give_up, crew=crew)
    except Stopped as error:
        stop.is_ending = True
        display.close()
        _show(error.entries, quiet=quiet, kind=kind)
        raise
    display.close()
    _show(entries, quiet=quiet, kind=kind)
    failed, held = (sum(entry.status == status for entry in entries) for status in (FAILED, HELD))
    if failed:
        hint = f"{options.report} says why." if options.report else "The lines above say why."
        raise BatchError(f"{failed} of {len(entries)} files failed.", hint=hint)
    if held:
        raise BatchError(
            f"{held} of {len(entries)} files are not done: other processes are working on them.",
            hint="Run the same command with --skip-existing later to make what they leave.",
        )


def _show(entries: Sequence["Entry"], *, quiet: bool, kind: str) -> None:
    if kind == "json":
        _json(entries)
    elif not quiet:
        _table(entries)


def rehearse_batch(items: Sequence["Item"], job: "Job", options: BatchOptions) -> None:
    """Say what would become what, one file a line, how long it takes and how large it will be. Raises BatchError if any could not be made."""
    from stvsr_cli.cli.dry_run import item_line, sum_line
    from stvsr_cli.pipeline.rehearsal import Rehearsal, Speeds
    from stvsr_cli.pipeline.upscale import load, plan

    loaded: list[Loaded] = []

    def model() -> "Loaded":
        if not loaded:
            loaded.append(load(job))
        return loaded[0]

    failed, speeds, rehearsed = 0, Speeds(), list[Rehearsal]()
    for item in items:
        place = item.target
        while not place.parent.is_dir():  # a folder that is still to be made: its disk counts, not what lies beside it
            place = place.parent.with_name(f".dry-run-{item.target.name}")
        exists = options.skip_existing and item.target.exists()
        wanted = replace(job, input=item.source, output=place, overwrite=job.overwrite or exists)
        try:
            if item.problem is not None:
                raise item.problem
            rehearsal = plan(wanted, loaded=model, briefly=True, speeds=speeds)
        except StvsrError as error:
            failed += 1
            say(f"{item.source} -> {item.target}: {error}", 4)
            continue
        rehearsal = replace(rehearsal, job=replace(rehearsal.job, output=item.target))
        say(item_line(item.source, rehearsal) + (", unless it is complete already" if exists else ""), 4)
        rehearsed.append(rehearsal)
    if rehearsed:
        say(sum_line(rehearsed, rehearsed[0].job.output.parent), 4)
    if failed:
        raise BatchError(f"{failed} of {len(items)} files would fail.", hint="The lines above say why.")


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

    colors = {"done": "green", "skipped": "yellow", "failed": "red", "held": "yellow"}
    table = Table(caption=", ".join(f"{n} {status}" for status, n in count(entries).items() if n or status != "held"))
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
