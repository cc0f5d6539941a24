"""Progress on stderr: a bar, a plain meter, or one JSON object a line."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stvsr_cli.errors import UsageError

if TYPE_CHECKING:
    from stvsr_cli.pipeline import Progress

Show = Callable[["Progress"], None]
KINDS = ("auto", "rich", "plain", "json", "none")
JSON_EVERY_S = 0.5


@contextmanager
def shown(kind: str, title: str) -> Iterator[Show]:
    """Give a function that shows progress. Raises UsageError for an unknown kind."""
    if kind not in KINDS:
        raise UsageError(f"--progress {kind!r} is not known.", hint=f"Use one of {', '.join(KINDS)}.")
    if kind == "auto":
        kind = "rich" if sys.stderr.isatty() else "plain"
    if kind == "rich":
        with _rich(title) as show:
            yield show
    elif kind == "plain":
        with _plain(title) as show:
            yield show
    elif kind == "json":
        yield _json()
    else:
        yield lambda progress: None


@contextmanager
def _rich(title: str) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[fps]:.2f} fps"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, fps=0.0)
        yield lambda p: bar.update(task, completed=p.done, total=p.total, fps=p.fps)


@contextmanager
def _plain(title: str) -> Iterator[Show]:
    from tqdm import tqdm

    with tqdm(desc=title, unit="frame", file=sys.stderr, mininterval=1.0) as meter:

        def show(progress: "Progress") -> None:
            meter.total = progress.total
            meter.update(progress.done - meter.n)

        yield show


def _json() -> Show:
    last = 0.0

    def show(progress: "Progress") -> None:
        nonlocal last
        now = time.monotonic()
        if progress.phase == "upscale" and now - last < JSON_EVERY_S:
            return
        last = now
        eta = progress.eta_s
        line = {
            "phase": progress.phase,
            "done": progress.done,
            "expected": progress.total,
            "fps": round(progress.fps, 3),
            "eta_s": None if eta is None else round(eta, 1),
        }
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()

    return show
