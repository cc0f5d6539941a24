"""`stvsr models`: what models there are, where their weights lie, whether they are whole."""

from pathlib import Path
from typing import Annotated

import typer

from stvsr_cli.cli.failures import reported
from stvsr_cli.cli.progress import displayed

app = typer.Typer(help="List models; find and check their weights.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of a model.")]


@app.command("list")
def list_models() -> None:
    """List the models, one a line: name, whether its weights are here, what it is."""
    from stvsr_cli.models.registry import MODELS

    for entry in MODELS.values():
        here = "ready" if not entry.has_weights or _weights_of(entry.name) else "no weights"
        typer.echo(f"{entry.name:<12} {here:<11} {entry.summary}")


@app.command()
def show(name: Name) -> None:
    """Say what a model is: its licence, its options, its weights."""
    with displayed("none", 0), reported(traceback=False):
        from stvsr_cli.models.registry import find_model

        entry = find_model(name)
        options = sorted(entry.options) + (["detail"] if entry.takes_detail else [])
        typer.echo(f"{entry.name}: {entry.summary}")
        typer.echo(f"licence   {entry.licence}")
        typer.echo(f"options   {', '.join('--' + option.replace('_', '-') for option in options) or 'none'}")
        typer.echo(f"weights   {(_weights_of(name) or 'not on this machine') if entry.has_weights else 'none needed'}")


@app.command()
def path(name: Name) -> None:
    """Print the folder that holds a model's weights."""
    with displayed("none", 0), reported(traceback=False):
        from stvsr_cli.models.registry import find_model
        from stvsr_cli.weights import find_weights

        typer.echo(find_weights(find_model(name).name))


@app.command()
def verify(name: Name) -> None:
    """Check a model's weights against their checksums."""
    with displayed("none", 0), reported(traceback=False):
        from stvsr_cli.models.registry import find_model
        from stvsr_cli.weights import find_weights
        from stvsr_cli.weights import verify as check

        folder = find_weights(find_model(name).name)
        checked = check(folder)
        typer.echo(f"{len(checked)} files in {folder} are whole" if checked else f"{folder} has no checksums")


def _weights_of(name: str) -> Path | None:
    from stvsr_cli.errors import ModelError
    from stvsr_cli.weights import find_weights

    try:
        return find_weights(name)
    except ModelError:
        return None
