"""The command line: the only place that prints or ends the program. Commands import torch and av when they run."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from stvsr_cli import __version__
from stvsr_cli.cli.bench import bench
from stvsr_cli.cli.compare import compare
from stvsr_cli.cli.config import NAME, Setting, as_tree, files, read, user_file
from stvsr_cli.cli.defaults import Layered, failing
from stvsr_cli.cli.doctor import doctor
from stvsr_cli.cli.evaluate import evaluate
from stvsr_cli.cli.info import info
from stvsr_cli.cli.man import man
from stvsr_cli.cli.models import app as models_app
from stvsr_cli.cli.preview import SHARED, preview
from stvsr_cli.cli.streams import guard_streams, tell_losses
from stvsr_cli.cli.train import train
from stvsr_cli.cli.upscale import upscale
from stvsr_cli.errors import StvsrError

EXIT_CODES = (
    "Exit codes: 0 done, 1 fault in the program, 2 usage, 3 input, 4 output, 5 model or weights, "
    "6 device or memory, 7 some files of a batch failed, 8 stalled, 130 interrupted."
)

EXAMPLES = "\n\n".join(
    (
        "Examples:",
        "stvsr upscale in.mp4 out.mp4",
        "stvsr upscale in.mp4 out.mkv --height 1080 --fps-factor 1 --codec libx265 --crf 20",
        "stvsr upscale in.mp4 out.mp4 --fps 60",
        "stvsr upscale in.mp4 out.mp4 --start 1:30 --end 1:45 --dry-run",
        "stvsr upscale videos/ OUT/ --recursive --skip-existing --report report.json",
    )
)

app = typer.Typer(
    name="stvsr",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=f"{EXAMPLES}\n\n{EXIT_CODES}", cls=Layered)(upscale)
app.command(cls=Layered)(preview)
app.command()(compare)
app.command()(doctor)
app.command()(info)
app.command()(bench)
app.command()(train)
app.command()(evaluate)
app.command()(man)
app.add_typer(models_app, name="models")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stvsr {__version__}")
        raise typer.Exit


def _options(command: Any, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], set[str]]:
    """The names of the options of every command, by its words."""
    if inner := getattr(command, "commands", None):
        return {words: names for name, c in inner.items() for words, names in _options(c, (*above, name)).items()}
    options = {p.name for p in command.params if p.param_type_name == "option" and p.name not in ("help", "traceback")}
    return {above: options}


def _show(settings: list[Setting], counted: list[Path]) -> None:
    """Print the configuration: which files count, and what each sets."""
    for path in counted:
        typer.echo(f"# {path}")
    if not counted:
        typer.echo(f"# no configuration: neither {NAME} here or above,\n# nor {user_file() or 'a home folder'}")
    last: tuple[str, ...] = ()
    winners = {(s.command, s.name): s for s in settings}
    for setting in sorted(winners.values(), key=lambda s: (s.command, s.name)):
        if setting.command != last:
            typer.echo(f"[{'.'.join(setting.command)}]")
            last = setting.command
        line = f"{setting.name.replace('_', '-')} = {json.dumps(setting.value, default=str)}"
        typer.echo(f"{line:<40}  # {setting.file}")


@app.callback(epilog=EXIT_CODES, invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"Defaults from FILE only, not from {NAME} or the user's own.")
    ] = None,
    no_config: Annotated[bool, typer.Option("--no-config", help="No defaults from any file.")] = False,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print the defaults that files set, and which files.")
    ] = False,
) -> None:
    """Four times the size and twice the frame rate for real-world video, by one-step diffusion."""
    if context.resilient_parsing:
        return

    def read_all() -> dict[str, Any]:
        counted = [] if no_config else files(config)
        known = _options(context.command) if counted else {}
        settings = [setting for path in counted for setting in read(path, known)]
        if show_config:
            _show(settings, counted)
            raise typer.Exit
        return as_tree(settings, {"preview": ("upscale", SHARED)})

    context.default_map = failing(read_all)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def main() -> None:
    """Run the command line; the entry point of the `stvsr` script."""
    # Stages share the cores: threads that wait must not spin. Read by OpenMP when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large tensors in large pages: half of the kernel's time
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # what Apple's GPU cannot do, the CPU does
    os.environ.setdefault("SVT_LOG", "0")  # else SVT-AV1 prints a page for every segment
    guard_streams()
    try:
        app()
    except StvsrError as error:  # of a command that shows no progress
        print(f"stvsr: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    finally:
        tell_losses()
