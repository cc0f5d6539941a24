"""How far a job is, on stderr: a bar, a plain meter, JSON lines, or nothing. Log lines go the same way."""

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import typer

if TYPE_CHECKING:
    from stvsr_cli.job.report import Progress

KINDS = ("auto", "rich", "plain", "json", "none")
JSON_EVERY_S = 0.5
MOST_SHOWN = 8
"""Workers whose speeds are shown one by one."""


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


class Plain:
    """tqdm's meter, which needs no terminal."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar = tqdm(unit=" frames", file=sys.stderr, mininterval=1.0, dynamic_ncols=True)

    def show(self, progress: "Progress") -> None:
        """Move the meter."""
        self._bar.total = progress.total
        self._bar.set_description_str(_phase(progress), refresh=False)
        self._bar.set_postfix_str(_shares(progress).strip(), refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def say(self, level: str, line: str) -> None:
        """A line above the meter."""
        self._bar.write(_prefixed(level, line), file=sys.stderr)

    def close(self) -> None:
        """End the meter's line."""
        self._bar.close()


class Rich:
    """A bar with speed and remaining time, for a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("load", total=None, speed="", left="")
        self._bar.start()

    def show(self, progress: "Progress") -> None:
        """Move the bar."""
        from rich.markup import escape

        left = progress.eta_s
        self._bar.update(
            self._task,
            description=escape(_phase(progress)),
            completed=progress.done,
            total=progress.total,
            speed=f"{progress.fps:.2f} fps{_shares(progress)}",
            left="" if left is None else f"{int(left) // 60}:{int(left) % 60:02d} left",
        )

    def say(self, level: str, line: str) -> None:
        """A line above the bar."""
        self._bar.console.print(_prefixed(level, line), markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the bar's last state standing."""
        self._bar.stop()


class _Handler(logging.Handler):
    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._display.say(record.levelname.lower(), self.format(record))


def _phase(progress: "Progress") -> str:
    return f"{progress.file}: {progress.phase}" if progress.file else progress.phase


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
    root.addHandler(handler)
    root.setLevel(levels.get(max(-1, verbosity), logging.DEBUG))
    try:
        yield display
    finally:
        root.removeHandler(handler)
        display.close()
