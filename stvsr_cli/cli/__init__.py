"""The command line: the only place that prints or ends the program. Commands import torch and av when they run."""

import os
from typing import Annotated

import typer

from stvsr_cli import __version__
from stvsr_cli.cli.compare import compare
from stvsr_cli.cli.evaluate import evaluate
from stvsr_cli.cli.models import app as models_app
from stvsr_cli.cli.train import train
from stvsr_cli.cli.upscale import upscale

EXIT_CODES = (
    "Exit codes: 0 done, 1 fault in the program, 2 usage, 3 input, 4 output, 5 model or weights, "
    "6 device or memory, 7 some files of a batch failed, 8 stalled, 130 interrupted."
)

app = typer.Typer(
    name="stvsr",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=EXIT_CODES)(upscale)
app.command()(compare)
app.command()(train)
app.command()(evaluate)
app.add_typer(models_app, name="models")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stvsr {__version__}")
        raise typer.Exit


@app.callback(epilog=EXIT_CODES)
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Four times the size and twice the frame rate for real-world video, by one-step diffusion."""


def main() -> None:
    """Run the command line; the entry point of the `stvsr` script."""
    # Stages share the cores: threads that wait must not spin. Read by OpenMP when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # what Apple's GPU cannot do, the CPU does
    os.environ.setdefault("SVT_LOG", "0")  # else SVT-AV1 prints a page for every segment
    app()
