"""`stvsr models`: what models there are, where their weights lie, whether they are whole, and how to get them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stvsr_cli.cli.complete import models
from stvsr_cli.cli.failures import reported
from stvsr_cli.cli.progress import displayed
from stvsr_cli.cli.wrapped import say

if TYPE_CHECKING:
    from stvsr_cli.models.entry import ModelEntry

app = typer.Typer(help="List models; fetch, find and check their weights.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of a model.", metavar="NAME", autocompletion=models)]
LABEL = 12
"""Columns of what stands before a text."""
COLUMNS = ("name", "what for", "size", "memory", "licence", "where from", "state")
PICKLED = "dloral"
"""The model whose published file is a pickle."""


@app.command("list")
def list_models() -> None:
    """List the models, what they are for, what they need, and their state on this machine.

    A table on a terminal. Elsewhere a line each with tabs between: name, what for, size, memory, licence, where from,
    state.
    """
    from stvsr_cli.models.catalogue import MODELS

    rows = [_row(entry) for entry in MODELS.values()]
    if not _on_terminal():
        for row in rows:
            typer.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    shown = [index for index, name in enumerate(COLUMNS) if name not in ("licence", "where from")]
    for index in shown:
        table.add_column(COLUMNS[index], no_wrap=index == 0)
    for row in rows:
        table.add_row(*(row[index] for index in shown))
    Console().print(table)
    typer.echo("Licence, origin, options, and how to get it: stvsr models show NAME")


@app.command()
def show(name: Name) -> None:
    """Say what a model is: its licence, its options, its weights and how to get them."""
    with displayed("none", 0), reported(traceback=False):
        from stvsr_cli.models.catalogue import find_model
        from stvsr_cli.weights.hub import fetched_commit
        from stvsr_cli.weights.places import lacking, own_folder

        entry = find_model(name)
        say(f"{entry.name}: {entry.summary}", len(entry.name) + 2)
        for title, text in list(zip(COLUMNS, _row(entry), strict=True))[1:]:
            say(f"{title:<10}  {text}", LABEL)
        say(f"{'options':<10}  {', '.join(entry.flags) or 'none'}", LABEL)
        if not entry.has_weights:
            return
        folder = _weights_of(entry)
        say(f"{'folder':<10}  {folder or own_folder(name)}", LABEL)
        if folder and entry.source and (commit := fetched_commit(folder / entry.source.folder)):
            say(f"{'fetched':<10}  {commit}", LABEL)
        missing = entry.needs if folder is None else lacking(folder, entry.needs)
        for need in missing:
            say(f"{'lacking':<10}  {need.replace('|', ' or ')}", LABEL)
        for line in _ways(entry) if missing else ():
            say(f"{'to get it':<10}  {line}", LABEL)


@app.command()
def path(name: Name) -> None:
    """Print the folder that holds a model's weights."""
    with displayed("none", 0), reported(traceback=False):
        from stvsr_cli.models.catalogue import find_model
        from stvsr_cli.weights.places import find_weights

        entry = find_model(name)
        typer.echo(find_weights(entry.name, entry.needs))


@app.command()
def verify(name: Name) -> None:
    """Check a model's weights against their checksums."""
    with displayed("none", 0), reported(traceback=False):
        from stvsr_cli.models.catalogue import find_model
        from stvsr_cli.weights.places import find_weights
        from stvsr_cli.weights.places import verify as check

        entry = find_model(name)
        folder = find_weights(entry.name, entry.needs)
        checked = check(folder, again=True)
        typer.echo(f"{len(checked)} files in {folder} are whole" if checked else f"{folder} has no checksums")


@app.command()
def pull(
    name: Name,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch, instead of the model's own.")] = None,
    repo: Annotated[str | None, typer.Option(help="OWNER/NAME of another repository with the same files.")] = None,
) -> None:
    """Fetch a model's weights from the Hugging Face hub, by way of its cache: what is there is not fetched again."""
    with displayed("none", 1), reported(traceback=False):
        from huggingface_hub.utils import disable_progress_bars

        from stvsr_cli.errors import ModelError
        from stvsr_cli.models.catalogue import find_model
        from stvsr_cli.weights.hub import pull as fetch
        from stvsr_cli.weights.places import lacking, own_folder

        if not sys.stderr.isatty():
            disable_progress_bars()
        entry = find_model(name)
        if entry.source is None:
            raise ModelError(f"there is nothing to fetch for {name}.", hint=f"{entry.by_hand or 'It has no weights'}.")
        fetched = fetch(name, entry.source, revision=revision, repo=repo)
        typer.echo(
            f"{fetched.folder}: {fetched.num_files} files, {_size(fetched.num_bytes)}, all checked, "
            f"of commit {fetched.commit}"
        )
        if entry.by_hand and lacking(own_folder(name), entry.needs):
            typer.echo(f"That is not all: {entry.by_hand}.")


@app.command("import")
def import_weights(
    file: Annotated[Path, typer.Argument(help="DLoRAL's model.pkl.", metavar="PATH")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what was imported before.")] = False,
) -> None:
    """Convert DLoRAL's model.pkl to safetensors, once, where it is found; nothing in the pickle is run."""
    with displayed("none", 0), reported(traceback=False):
        from stvsr_cli.errors import ModelError, OutputError
        from stvsr_cli.models.catalogue import find_model
        from stvsr_cli.models.dloral import convert, read_checkpoint
        from stvsr_cli.weights.hashes import sha256
        from stvsr_cli.weights.places import add_sums, lacking, own_folder

        folder = own_folder(PICKLED)
        target = folder / "model.safetensors"
        if not file.is_file():
            raise ModelError(f"there is no file {file}.", hint=f"First {find_model(PICKLED).by_hand}.")
        if target.exists() and not overwrite:
            raise OutputError(f"{target} exists.", hint="Use --overwrite to replace it.")
        checkpoint = read_checkpoint(file)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            convert(checkpoint, target)
            add_sums(folder, {target.name: sha256(target)})
        except OSError as error:
            raise OutputError(f"{error}.", hint="Name another folder with STVSR_WEIGHTS.") from error
        typer.echo(f"{target}: {_size(target.stat().st_size)}; {file} is not needed any more")
        if lacking(folder, find_model(PICKLED).needs):
            typer.echo(f"The base model is still to come: `stvsr models pull {PICKLED}`.")


@app.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a model's fetched and imported weights; what came with the program stays."""
    with displayed("none", 0), reported(traceback=False):
        from stvsr_cli.errors import UsageError
        from stvsr_cli.models.catalogue import find_model
        from stvsr_cli.weights.places import own_folder
        from stvsr_cli.weights.places import remove as delete

        entry = find_model(name)
        folder = own_folder(entry.name)
        if folder.is_dir() and not yes:
            if not sys.stdin.isatty():
                raise UsageError(f"{folder} is removed only when you confirm.", hint="Pass --yes.")
            typer.confirm(f"Remove {folder}?", abort=True)
        freed, shared = delete(entry.name)
        kept = f"; {_size(shared)} are still in the Hugging Face cache (`hf cache ls`)" if shared else ""
        typer.echo(f"{folder} is removed; {_size(freed)} are free{kept}")


def _on_terminal() -> bool:
    return sys.stdout.isatty()


def _row(entry: "ModelEntry") -> tuple[str, ...]:
    """What stands under `COLUMNS`."""
    return (entry.name, entry.purpose, entry.size, entry.memory, entry.licence, entry.origin, _state(entry))


def _weights_of(entry: "ModelEntry") -> Path | None:
    from stvsr_cli.errors import ModelError
    from stvsr_cli.weights.places import find_weights

    try:
        return find_weights(entry.name, entry.needs)
    except ModelError:
        return None


def _state(entry: "ModelEntry") -> str:
    from stvsr_cli.weights.places import lacking, weight_bytes

    if not entry.has_weights:
        return "ready"
    folder = _weights_of(entry)
    if folder is None:
        return "no weights"
    missing = lacking(folder, entry.needs)
    if missing:
        return f"incomplete, lacks {missing[0].replace('|', ' or ')}"
    return f"ready, {_size(weight_bytes(folder))}"


def _ways(entry: "ModelEntry") -> list[str]:
    fetch = [f"stvsr models pull {entry.name}    (from {entry.source.url})"] if entry.source else []
    return fetch + ([entry.by_hand] if entry.by_hand else [])


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
