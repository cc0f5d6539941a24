"""What was measured, as a table, as JSON and as a picture."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stvsr_cli.bench.measure import VERBS, Measured

GIB = 2**30
STAGES = ("decode", "model", "convert", "encode")
"""Of the whole run, in the order of the data."""


def as_table(rows: Sequence[Measured]) -> list[str]:
    """Two blocks of lines: one window of each model, and its whole run."""
    first = rows[0]
    lines = [f"one window ({first.device}, {first.precision})", ""]
    titles = ["model", "weights", "window", *(f"{verb} s" for verb in VERBS), "frames/s", "TFLOP", "floor s", "x floor",
              "traffic s", "GiB", "planned"]  # fmt: skip
    lines += _aligned([titles, *(_window_cells(row) for row in rows)])
    if any(row.stages for row in rows):
        titles = ["model", "output", "batch", *(f"{stage} s" for stage in STAGES), "total s", "frames/s", "device busy"]
        lines += ["", "whole run", "", *_aligned([titles, *(_run_cells(row) for row in rows if row.stages)])]
    lines += [f"{row.model}: {row.advice}" for row in rows if row.advice]
    return lines


def as_list(row: Measured) -> list[str]:
    """The operations in which a window of a model spends most time, a line each."""
    titles = ["ms", "share", "calls", "operation", "shapes"]
    cells = [[f"{1000 * item.seconds:.2f}", f"{item.share:.0%}", str(item.calls), item.name, item.shapes]
             for item in row.operations]  # fmt: skip
    return [f"{row.model}: where a window's time goes", "", *_aligned([titles, *cells], left=(3, 4))]


def _window_cells(row: Measured) -> list[str]:
    count, height, width = row.window
    total = sum(row.verbs.values())
    return [
        row.model, row.weights, f"{count} x {width}x{height}", *(f"{row.verbs[verb]:.3g}" for verb in VERBS),
        f"{row.window_fps:.3g}", f"{row.teraflop:.3g}", f"{row.floor_s:.3g}",
        f"{total / row.floor_s:.3g}" if row.floor_s else "-", f"{row.traffic_s:.3g}", f"{row.peak_bytes / GIB:.2f}",
        f"{row.planned_bytes / GIB:.2f}",
    ]  # fmt: skip


def _run_cells(row: Measured) -> list[str]:
    return [
        row.model, f"{row.output[1]}x{row.output[0]}", str(row.batch), *(f"{row.stages[stage]:.3g}" for stage in STAGES),
        f"{row.stages['total']:.3g}", f"{row.run_fps:.3g}", f"{row.busy:.0%}",
    ]  # fmt: skip


def _aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """left: the columns that are aligned there; others are numbers."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(widths[i]) if i in left else cell.rjust(widths[i]) for i, cell in enumerate(row))
        for row in rows
    ]
    return [line.rstrip() for line in lines]


def as_dict(row: Measured) -> dict[str, Any]:
    """A row for JSON."""
    return asdict(row)


def plot(rows: Sequence[Measured], path: Path) -> None:
    """Draw where the time goes: each model's window by verb beside its floor, and its whole run by stage."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(9, 1.6 + 0.9 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [f"{row.model}\n{row.window[2]}x{row.window[1]}" for row in rows]
    _bars(left, names, VERBS, [row.verbs for row in rows])
    left.plot([row.floor_s for row in rows], range(len(rows)), "k|", markersize=24, label="floor")
    left.set(title="one window", xlabel="seconds")
    left.legend(fontsize=7)
    shown = [row for row in rows if row.stages]
    for offset, stage in enumerate(STAGES):
        places = [i + (offset - 1.5) * 0.2 for i in range(len(shown))]
        right.barh(places, [row.stages[stage] / row.stages["total"] for row in shown], 0.18, label=stage)
    right.set(title="whole run: share of the time at work", xlim=(0, 1.02))
    right.set_yticks(range(len(shown)), [f"{row.model}\n{row.run_fps:.3g} fps" for row in shown], fontsize=7)
    if shown:
        right.legend(fontsize=7)
    figure.suptitle(f"{rows[0].device}, {rows[0].precision}", fontsize=9)
    figure.savefig(path, dpi=110)


def _bars(axes: Any, names: Sequence[str], kinds: Sequence[str], values: Sequence[Any]) -> None:
    begins = [0.0] * len(names)
    for kind in kinds:
        lengths = [value[kind] for value in values]
        axes.barh(range(len(names)), lengths, 0.6, begins, label=kind)
        begins = [begin + length for begin, length in zip(begins, lengths, strict=True)]
    axes.set_yticks(range(len(names)), names, fontsize=7)
