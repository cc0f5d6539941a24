"""Many videos with one model: each is claimed, made, or left, and what became of it is written down."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stvsr_cli import __version__
from stvsr_cli.batch.claims import Claims
from stvsr_cli.batch.existing import Made, is_complete
from stvsr_cli.batch.inputs import Item, make_folder
from stvsr_cli.errors import BatchError, Interrupted, OutputError, StallError, StvsrError, UsageError
from stvsr_cli.job.job import Job
from stvsr_cli.job.report import Loaded, Progress
from stvsr_cli.models.catalogue import find_model
from stvsr_cli.models.registry import check_options
from stvsr_cli.pipeline import upscale as pipeline
from stvsr_cli.runtime.parts import write_whole

if TYPE_CHECKING:
    from stvsr_cli.models.contract import OneStepModel
    from stvsr_cli.pipeline.distributed import Workers

logger = logging.getLogger(__name__)

WATCH_EVERY_S = 1.0
"""How often claims of other machines are looked at, when nothing else is left to do."""
VERBS = frozenset({"initialise", "encode", "condition", "denoise", "decode"})
FILES_PER_WORKER = 2
"""Files in work at once for each worker of a cluster: one waits while another is made."""
DONE, SKIPPED, FAILED, HELD = "done", "skipped", "failed", "held"


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchConfig:
    folder: Path
    """Output folder; nothing is written outside it but the report."""
    skip_existing: bool = False
    """Leave outputs that are there and complete; make incomplete ones again."""
    jobs: int = 1
    """Videos at once; they share one model."""
    fail_fast: bool = False
    """Start no further file after one has failed."""
    report: Path | None = None
    """JSON file to write after every file."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UsageError(f"jobs={self.jobs} must be at least 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What became of one file."""

    input: str
    output: str
    status: str
    """done, skipped, failed, or held: another process has it, and it is not done."""
    why: str = ""
    """Why it was skipped, or what failed."""
    exit_code: int = 0
    """The exit code this failure alone would have."""
    seconds: float = 0.0
    frames_in: int = 0
    frames_out: int = 0
    fps: float = 0.0
    """Output frames per second."""


def run_batch(
    items: Sequence[Item],
    job: Job,
    config: BatchConfig,
    *,
    loaded: Loaded | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    last_resort: Callable[[StallError], None] | None = None,
    crew: "Workers | None" = None,
) -> list[Entry]:
    """Upscale files one after another, or several at once; one that fails stops no other.

    job: the settings; its input and output are replaced. The model is loaded once, before the first file that needs
    it. stop: when set, the files in work end as soon as what they have made is kept, and no other is begun.
    last_resort: as for `pipeline.upscale`; the report is written before. crew: workers that make the files, in place of
    a model here; as many files are then in work as keep them busy. Returns what became of each file, in order. Raises
    ModelError, DeviceError or UsageError if the model cannot be loaded, OutputError if the report's folder is not
    there, and Stopped, with the report written, if it was stopped.
    """
    _check_report(config, items)
    check_options(find_model(job.model), job.options, job.dials, job.fit)
    batch = _Batch(items, job, config, loaded, progress, stop or threading.Event(), last_resort, crew)
    jobs = config.jobs if crew is None else max(config.jobs, FILES_PER_WORKER * crew.num_workers)
    try:
        if jobs == 1:
            for number in range(len(items)):
                batch.handle(number)
        else:
            _run_several(batch, len(items), jobs)
        batch.try_held_again()
        if batch.wish.is_set() and any(e is None or e.exit_code == Interrupted.exit_code for e in batch.each()):
            raise Interrupted("stopped.")
    except (KeyboardInterrupt, Interrupted) as error:
        try:
            ended = batch.ended()
        except KeyboardInterrupt:  # the wish to stop at once, while the first wish is seen to; there is no third
            ended = batch.ended()
        raise ended from error
    batch.write_report(last=True)
    return batch.results()


def _run_several(batch: "_Batch", count: int, jobs: int) -> None:
    with ThreadPoolExecutor(jobs, thread_name_prefix="video") as pool:
        try:
            for future in [pool.submit(batch.handle, number) for number in range(count)]:
                try:
                    future.result()
                except Interrupted:
                    if not batch.wish.is_set():
                        raise
        except BaseException:
            batch.stop.set()
            batch.write_report()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _check_report(config: BatchConfig, items: Sequence[Item]) -> None:
    if config.report is None:
        return
    if not config.report.parent.is_dir() or config.report.is_dir():
        raise OutputError(f"--report {config.report} cannot be written.", hint="Name a file in an existing folder.")
    if os.path.realpath(config.report) in {os.path.realpath(p) for item in items for p in (item.source, item.target)}:
        raise UsageError(f"--report {config.report} is a video of the batch.", hint="Name another file.")


@dataclass(slots=True)
class _Batch:
    """The state of a batch while it runs."""

    items: Sequence[Item]
    job: Job
    config: BatchConfig
    loaded: Loaded | None
    progress: Callable[[Progress], None] | None
    wish: threading.Event
    """Set to end at a good place."""
    last_resort: Callable[[StallError], None] | None
    crew: "Workers | None" = None
    stop: threading.Event = field(default_factory=threading.Event)
    """Set to end at once."""
    _entries: dict[int, Entry] = field(default_factory=dict)
    _before: dict[Path, tuple[int, int] | None] = field(default_factory=dict)
    _loading: threading.Lock = field(default_factory=threading.Lock)
    _telling: threading.Lock = field(default_factory=threading.Lock)
    _begin: float = field(default_factory=time.perf_counter)
    _claims: Claims = field(default_factory=Claims)
    _unreported: str = ""
    """Why the report could not be written the last time; empty if it was."""

    def __post_init__(self) -> None:
        self._before = {item.target: _identity(item.target) for item in self.items}

    def handle(self, number: int) -> None:
        """Do one file, whatever comes of it, and write it down."""
        item, begin = self.items[number], time.perf_counter()
        if self.wish.is_set():
            return
        if self.config.fail_fast and any(entry.status == FAILED for entry in list(self._entries.values())):
            entry = self._entry(item, SKIPPED, why="not started after a failure")
        else:
            try:
                entry = self._do(number, item)
            except _Fatal as error:
                raise error.cause from None
            except (Interrupted, KeyboardInterrupt) as error:
                why = str(error) or "interrupted"
                self._entries[number] = self._entry(item, SKIPPED, why=why, exit_code=Interrupted.exit_code)
                raise
            except StvsrError as error:
                logger.error("%s", error)
                entry = self._entry(item, FAILED, why=str(error), exit_code=error.exit_code)
            except Exception as error:  # one file's fault must not end the others
                logger.error("%s: a fault in the program: %s", item.source, error, exc_info=True)
                entry = self._entry(item, FAILED, why=f"{type(error).__name__}: {error}", exit_code=1)
        self._entries[number] = replace(entry, seconds=round(time.perf_counter() - begin, 3))
        self.write_report()

    def _entry(self, item: Item, status: str, **more: Any) -> Entry:
        return Entry(input=str(item.source), output=str(item.target), status=status, **more)

    def _do(self, number: int, item: Item) -> Entry:
        if item.problem is not None:
            raise item.problem
        make_folder(item.target, self.config.folder)
        with self._claims.on(item.target) as other:
            if other is not None:
                return self._entry(item, HELD, why=f"{other} is working on it", exit_code=BatchError.exit_code)
            if item.target.exists() and _identity(item.target) != self._before[item.target]:
                return self._entry(item, SKIPPED, why="made by another process meanwhile")
            job = replace(self.job, input=item.source, output=item.target)
            if self.config.skip_existing and item.target.exists():
                if is_complete(job):
                    return self._entry(item, SKIPPED, why="complete already")
                if not (job.overwrite or Made(self.config.folder).has(item.target)):
                    raise OutputError(
                        f"{item.target} is not complete, and nothing shows that this program made it.",
                        hint="Move it away, or pass --overwrite to replace it.",
                    )
                logger.warning("%s is not complete; it is made again", item.target)
                job = replace(job, overwrite=True)
            return self._make(number, item, job)

    def _make(self, number: int, item: Item, job: Job) -> Entry:
        tell, give_up = partial(self._tell, number, item), partial(self._give_up, number, item)
        begin = time.perf_counter()
        if self.crew is not None:
            from stvsr_cli.pipeline import distributed

            many = len(self.items) > self.crew.num_workers
            report = distributed.distribute(job, self.crew, progress=tell, stop=self.wish, many=many)
        else:
            report = pipeline.upscale(job, loaded=self._model, progress=tell, stop=self.wish, last_resort=give_up)
        Made(self.config.folder).add(item.target)
        spent = time.perf_counter() - begin
        fps = round(report.frames_out / max(spent, 1e-9), 3)
        return self._entry(item, DONE, frames_in=report.frames_in, frames_out=report.frames_out, fps=fps)

    def _model(self) -> Loaded:
        with self._loading:
            if self.loaded is None:
                from stvsr_cli.pipeline.loading import load

                try:
                    self.loaded = load(self.job)
                except StvsrError as error:
                    raise _Fatal(error) from error
            if self.config.jobs > 1 and not isinstance(self.loaded.model, Shared):
                self.loaded = replace(self.loaded, model=Shared(self.loaded.model))
            return self.loaded

    def _tell(self, number: int, item: Item, progress: Progress) -> None:
        if self.stop.is_set():
            raise Interrupted("stopped with the batch.")
        if self.progress is not None:
            with self._telling:
                self.progress(replace(progress, file=f"{number + 1}/{len(self.items)} {item.source.name}"))

    def _give_up(self, number: int, item: Item, error: StallError) -> None:
        self._entries[number] = self._entry(item, FAILED, why=str(error), exit_code=error.exit_code)
        self.write_report()
        if self.last_resort is not None:
            self.last_resort(error)

    def try_held_again(self) -> None:
        """Try what others hold once more, as long as it is not known whether they are still there."""
        told = False
        while held := [
            number for number, entry in enumerate(self.each()) if entry is not None and entry.status == HELD
        ]:
            for number in held:
                self.handle(number)
            watched = [number for number in held if self._claims.is_undecided(self.items[number].target)]
            if not watched or self.wish.is_set():
                return
            if not told:
                logger.warning(
                    "%d files are claimed by other machines; watching whether they are still at work", len(watched)
                )
                told = True
            self.wish.wait(WATCH_EVERY_S)

    def ended(self) -> "Stopped":
        """Write down what was not begun, and return what ends the batch."""
        for number, (item, entry) in enumerate(zip(self.items, self.each(), strict=True)):
            if entry is None:
                self._entries[number] = self._entry(item, SKIPPED, why="not started: interrupted")
        self.write_report(last=True)
        done = count(self.results())[DONE]
        return Stopped(
            f"interrupted; {done} of {len(self.items)} files are done.",
            hint="Run the same command with --skip-existing to continue.",
            entries=self.results(),
        )

    def each(self) -> list[Entry | None]:
        """What became of each file; None: not begun."""
        return [self._entries.get(number) for number in range(len(self.items))]

    def results(self) -> list[Entry]:
        """What became of the files so far, in their order."""
        return [self._entries[number] for number in sorted(self._entries)]

    def write_report(self, *, last: bool = False) -> None:
        """Write the report as far as it goes, all at once; if that fails, say so once, and at the end."""
        path = self.config.report
        if path is None:
            return
        with self._telling:
            entries = self.results()
            record = {
                "version": __version__,
                "model": self.job.model,
                "num_files": len(self.items),
                "seconds": round(time.perf_counter() - self._begin, 3),
                **count(entries),
                "files": [asdict(entry) for entry in entries],
            }
            try:
                write_whole(path, json.dumps(record, indent=1) + "\n")
                self._unreported = ""
            except OSError as error:
                if last or not self._unreported:
                    logger.warning("the report %s cannot be written: %s", path, error.strerror)
                self._unreported = error.strerror or str(error)


class Stopped(Interrupted):
    """The batch was stopped. entries: what became of each file until then."""

    def __init__(self, message: str, *, hint: str, entries: list[Entry]) -> None:
        super().__init__(message, hint=hint)
        self.entries = entries


class _Fatal(Exception):
    """What ends the whole batch."""

    def __init__(self, cause: StvsrError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Shared:
    """A model that several videos use in turns: one verb at a time; see `contract.OneStepModel`."""

    def __init__(self, model: "OneStepModel") -> None:
        self._model, self._lock = model, threading.RLock()

    def __getattr__(self, name: str) -> Any:
        """The model's own attribute; its verbs wait for each other."""
        value = getattr(self._model, name)
        if name not in VERBS:
            return value

        def verb(*arguments: Any) -> Any:
            with self._lock:
                return value(*arguments)

        return verb


def count(entries: Sequence[Entry]) -> dict[str, int]:
    """How many files are done, skipped, failed and held."""
    return {status: sum(entry.status == status for entry in entries) for status in (DONE, SKIPPED, FAILED, HELD)}


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
