"""`stvsr train`: run one training stage."""

from pathlib import Path
from typing import Annotated

import typer

from stvsr_cli.cli.failures import reported
from stvsr_cli.cli.progress import displayed
from stvsr_cli.errors import UsageError

RECIPES = Path(__file__).parent.parent / "train" / "recipes"


def train(
    config: Annotated[str, typer.Argument(help="Stage to run: a TOML file, or MODEL/STAGE of the recipes that ship.")],
    data: Annotated[Path, typer.Option(help="Folder that the sources in the configuration are relative to.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, training state, log and pictures.")] = Path("runs"),
    cache: Annotated[
        Path | None, typer.Option(help="Folder for decoded clips (tens of GB); default OUT/cache.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the saved training state.")] = False,
    max_minutes: Annotated[float | None, typer.Option(min=0, help="Stop, saved, after this long.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
) -> None:
    """Train a model, one stage at a time."""
    with displayed("none", 0), reported(traceback=traceback):
        try:
            from stvsr_cli.train import run
        except ImportError as error:
            raise UsageError(f"training needs {error.name}.", hint="pip install 'stvsr[train]'.") from error
        from stvsr_cli.models.device import pick_device

        recipe = RECIPES / f"{config}.toml"
        run(
            recipe if recipe.is_file() else Path(config),
            data=data,
            out=out,
            cache=cache or out / "cache",
            resume=resume,
            max_minutes=max_minutes,
            device=pick_device(device),
            report=lambda line: typer.echo(line, err=True),
        )
