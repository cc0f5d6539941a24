"""The command line: the only place that prints and that ends the program."""

import logging
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from stvsr_cli import __version__
from stvsr_cli.cli import models
from stvsr_cli.cli.train import train
from stvsr_cli.cli.upscale import upscale
from stvsr_cli.errors import Interrupted, StvsrError

EPILOG = (
    "Exit codes: 0 done, 1 fault in the program, 2 usage, 3 input, 4 output, 5 model or weights, "
    "6 device or memory, 7 some files of a batch failed, 8 stalled, 130 interrupted."
)

app = typer.Typer(
    name="stvsr",
    help="Four times the size and twice the frame rate for real-world video, by one-step diffusion.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(epilog=EPILOG)(upscale)
app.command()(train)
app.add_typer(models.app, name="models")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"stvsr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Four times the size and twice the frame rate for real-world video, by one-step diffusion."""


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line; every failure becomes one line on stderr and an exit code."""
    traceback = "--traceback" in sys.argv
    logging.basicConfig(level=logging.WARNING, format="stvsr: %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except StvsrError as error:
        if traceback:
            raise
        _end(f"stvsr: error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _end("stvsr: interrupted; no output was written.", Interrupted.exit_code)
    except MemoryError:
        _end("stvsr: error: out of memory. Use --tile 128 or a smaller --window.", 6)
    except Exception as error:
        if traceback:
            raise
        kind = type(error).__name__
        _end(f"stvsr: error: fault in the program: {kind}: {error}. Run again with --traceback and report it.", 1)


def _end(message: str, code: int) -> None:
    sys.stderr.write(" ".join(message.splitlines()) + "\n")
    sys.stderr.flush()
    sys.exit(code)
