"""How far a job is, on stderr: a bar, lines, JSON lines, or nothing. Log lines go the same way."""

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from stvsr_cli.job.report import Progress

KINDS = ("auto", "rich", "plain", "json", "none")
JSON_EVERY_S = 0.5
MOST_SHOWN = 8
"""Workers whose speeds are shown one by one."""
PLAIN_EVERY_S = 30.0
"""A log gets a line at most this often, and none of a job that is done sooner."""
BESIDE_NAME = 62
"""Columns of the bar's line that are not the name and the phase."""


ROOM = 4
"""Columns that the bar leaves free at the end of its line."""


class Display(Protocol):
    """Shows progress and passes log lines on."""

    def show(self, progress: "Progress") -> None:
        """Show how far the job is."""

    def say(self, level: str, line: str) -> None:
        """Write a line without disturbing what is shown."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Silent:
    """Shows nothing; log lines still come."""

    def show(self, progress: "Progress") -> None:
        """Nothing."""

    def say(self, level: str, line: str) -> None:
        """One line on stderr."""
        print(_prefixed(level, line), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to leave."""


class JsonLines:
    """One JSON object a line: progress, and log lines as objects with level and message."""

    def __init__(self) -> None:
        self._phase, self._shown = "", 0.0

    def show(self, progress: "Progress") -> None:
        """Two lines a second at most, and one at every change of phase."""
        now = time.monotonic()
        phase = f"{progress.file} {progress.phase}"
        if phase == self._phase and now - self._shown < JSON_EVERY_S:
            return
        self._phase, self._shown = phase, now
        eta = progress.eta_s
        self._write(
            {
                **({"file": progress.file} if progress.file else {}),
                "phase": progress.phase,
                "done": progress.done,
                "expected": progress.total,
                "fps": round(progress.fps, 3),
                "eta_s": None if eta is None else round(eta, 1),
                **({"workers": progress.workers} if progress.workers else {}),
            }
        )

    def say(self, level: str, line: str) -> None:
        """A log line as an object."""
        self._write({"level": level, "message": line})

    def close(self) -> None:
        """Nothing to leave."""

    def _write(self, record: dict[str, Any]) -> None:
        print(json.dumps(record), file=sys.stderr, flush=True)


class Plain(Silent):
    """A line now and then, for a log."""

    def __init__(self) -> None:
        self._shown = time.monotonic()

    def show(self, progress: "Progress") -> None:
        """A line, if the last one is a while ago."""
        now = time.monotonic()
        if now - self._shown < PLAIN_EVERY_S:
            return
        self._shown = now
        share = f" ({100 * progress.done // progress.total}%)" if progress.total else ""
        of = f" of {progress.total}" if progress.total else ""
        left = "" if progress.eta_s is None else f", {in_minutes(progress.eta_s)} left"
        speed = f"{progress.fps:.2f} fps{_shares(progress)}"
        name = f"{progress.file}: " if progress.file else ""
        self.say("info", f"{name}{progress.phase}, {progress.done}{of} frames{share}, {speed}{left}")


class Rich:
    """A bar with speed and remaining time, for a terminal; it is gone when the job is."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bar: Bar | None = None

    def _begun(self) -> "Bar":
        from rich.constrain import Constrain
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar
        from rich.table import Column

        console = self._console

        class Narrow(Bar):
            """A bar that leaves room for the ^C that a terminal writes behind it, which would begin another line."""

            def get_renderables(self) -> "Iterator[Constrain]":  # type: ignore[override]
                yield Constrain(self.make_tasks_table(self.tasks), max(20, console.width - ROOM))

        bar = Narrow(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=4)),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}", table_column=Column(no_wrap=True)),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            expand=True,
        )
        bar.add_task("", total=None, speed="", left="")
        bar.start()
        return bar

    def show(self, progress: "Progress") -> None:
        """Move the bar."""
        from rich.markup import escape

        if self._bar is None:
            self._bar = self._begun()
        left = progress.eta_s
        room = max(8, self._console.width - BESIDE_NAME - len(_shares(progress)))
        self._bar.update(
            self._bar.task_ids[0],
            description=escape(_titled(progress, room)),
            completed=progress.done,
            total=progress.total,
            speed=f"{progress.fps:.2f} fps{_shares(progress)}",
            left="" if left is None else f"{in_minutes(left)} left",
        )

    def say(self, level: str, line: str) -> None:
        """A line above the bar; an error takes the bar's place."""
        if level in ("error", "critical"):
            self.close()
        self._console.print(_prefixed(level, line), markup=False, highlight=False)

    def close(self) -> None:
        """Take the bar away; what is shown next begins another."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class _Handler(logging.Handler):
    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._display.say(record.levelname.lower(), self.format(record))


def in_minutes(seconds: float) -> str:
    """A time as M:SS or H:MM:SS."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def lasting(seconds: float) -> str:
    """A duration: 12.3 s, M:SS or H:MM:SS."""
    return f"{seconds:.1f} s" if seconds < 60 else in_minutes(seconds)


def shortened(text: str, columns: int) -> str:
    """A text that takes at most so many columns of a terminal: the middle of a longer one is left out."""
    from rich.cells import cell_len, chop_cells

    if cell_len(text) <= columns:
        return text
    tail = chop_cells(text[::-1], max(1, (columns - 1) // 2))[0][::-1]
    head = chop_cells(text, max(1, columns - 1 - cell_len(tail)))[0]
    return f"{head}…{tail}"


def _titled(progress: "Progress", columns: int) -> str:
    if not progress.file:
        return progress.phase
    return f"{shortened(progress.file, max(4, columns - len(progress.phase) - 2))}: {progress.phase}"


def _shares(progress: "Progress") -> str:
    """How much of the speed is each worker's; of more than a few, the slowest and the fastest."""
    rates = sorted(progress.workers.values())
    if not rates:
        return ""
    if len(rates) <= MOST_SHOWN:
        return " (" + " + ".join(f"{rate:.2f}" for rate in progress.workers.values()) + ")"
    return f" ({len(rates)} workers, {rates[0]:.2f} to {rates[-1]:.2f})"


def _prefixed(level: str, line: str) -> str:
    return f"stvsr: {line}" if level in ("info", "debug") else f"stvsr: {level}: {line}"


def make_display(kind: str) -> Display:
    """Return a display of one of `KINDS`; auto is rich on a terminal and plain elsewhere. Raises BadParameter."""
    if kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is not one of {', '.join(KINDS)}.", param_hint="--progress")
    if kind == "auto":
        kind = "rich" if sys.stderr.isatty() else "plain"
    if kind == "none":
        return Silent()
    if kind == "json":
        return JsonLines()
    return Rich() if kind == "rich" else Plain()


@contextmanager
def displayed(kind: str, verbosity: int) -> Iterator[Display]:
    """Show progress of one kind and the program's log lines.

    verbosity: 0 shows warnings, 1 also what is going on, 2 everything, -1 errors only.
    """
    levels = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
    display = make_display(kind)
    handler, root = _Handler(display), logging.getLogger("stvsr_cli")
    before = root.level
    root.addHandler(handler)
    root.setLevel(levels.get(max(-1, verbosity), logging.DEBUG))
    try:
        yield display
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        display.close()
