"""A picture of a training log."""

import csv
from pathlib import Path


def plot_log(log: Path, target: Path) -> None:
    """Draw each measure of a CSV log over the steps; does nothing where there is no log yet."""
    if not log.exists():
        return
    from matplotlib.figure import Figure  # slow to import, needed at the end of a run only

    curves: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    with log.open(newline="") as handle:
        for row in csv.DictReader(handle):
            steps, values = curves.setdefault((row["kind"], row["name"]), ([], []))
            steps.append(int(row["step"]))
            values.append(float(row["value"]))
    figure = Figure(figsize=(10, 3 * len(curves) // 2 + 3))
    for i, ((kind, name), (steps, values)) in enumerate(sorted(curves.items())):
        axes = figure.add_subplot((len(curves) + 1) // 2, 2, i + 1)
        axes.plot(steps, values)
        axes.set_title(f"{kind} {name}", fontsize=8)
    figure.tight_layout()
    figure.savefig(target)
