"""`stvsr doctor`: whether everything here works, and what to do where it does not."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from stvsr_cli.cli.failures import reported
from stvsr_cli.cli.progress import displayed

if TYPE_CHECKING:
    from stvsr_cli.doctor.check import Check

MARKS = {"good": ("✓", "green"), "warning": ("!", "yellow"), "bad": ("✗", "red")}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
    device: Annotated[str, typer.Option(help="Where the models are tried: auto, cpu, cuda or cuda:N.")] = "auto",
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Read all weights again, and try large models on a CPU too.")
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
) -> None:
    """Check that everything works: Python, the device, codecs, weights, disks, a window through each model.

    Each line is good, a warning or bad, with what to do. The exit code is 0 unless something is bad; it is then the
    one that upscaling would end with.
    """
    with displayed("none", -1), reported(traceback=traceback):
        from stvsr_cli.doctor.check import exit_code

        found: list[Check] = []
        group = ""
        for check in _checks(device, thorough):
            found.append(check)
            if not as_json:
                if check.group != group:
                    group = check.group
                    typer.secho(f"\n{group}" if len(found) > 1 else group, bold=True)
                _print(check)
        if as_json:
            names = ("group", "name", "state", "said", "advice")
            typer.echo(json.dumps([{name: getattr(check, name) for name in names} for check in found], indent=1))
        else:
            typer.echo(f"\n{_summary(found)}")
        if code := exit_code(found):
            raise typer.Exit(code)


def _checks(device: str, thorough: bool) -> "Iterator[Check]":
    from stvsr_cli.doctor.files import check_codecs, check_disks, check_weights
    from stvsr_cli.doctor.system import check_device, check_system
    from stvsr_cli.doctor.trial import check_models

    yield from check_system()
    yield from check_device()
    yield from check_codecs()
    yield from check_weights(again=thorough)
    yield from check_models(device, large_too=thorough)
    yield from check_disks()


def _print(check: "Check") -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    mark, color = MARKS[check.state]
    line = Table.grid(padding=(0, 1))
    line.add_column(width=1)
    line.add_column(width=22)
    line.add_column(overflow="fold")
    line.add_row(Text(mark, style=color), Text(check.name), Text(check.said))
    if check.advice:
        line.add_row("", "", Text(f"→ {check.advice}", style=color))
    Console(highlight=False).print(Padding(line, (0, 0, 0, 1)))


def _summary(found: "list[Check]") -> str:
    counts = {state: sum(check.state == state for check in found) for state in MARKS}
    warnings = f"{counts['warning']} warning{'' if counts['warning'] == 1 else 's'}"
    if counts["bad"]:
        return f"{counts['bad']} bad, {warnings}, {counts['good']} good."
    return f"All works, with {warnings}." if counts["warning"] else "All works."
