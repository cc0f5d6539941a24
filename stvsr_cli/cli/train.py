"""`stvsr train`: run one training stage."""

from pathlib import Path
from typing import Annotated

import typer

from stvsr_cli.cli.failures import reported
from stvsr_cli.cli.progress import displayed
from stvsr_cli.errors import UsageError

RECIPES = Path(__file__).parent.parent / "train" / "recipes"


def train(
    data: Annotated[Path, typer.Option(help="Folder that the sources in the configuration are relative to.")],
    config: Annotated[
        str | None, typer.Argument(help="Stage to run: a TOML file, or MODEL/STAGE of the recipes that ship.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Run all stages of a model's small size in order: see `stvsr models list`.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for weights, training state, log and pictures.")] = Path("runs"),
    cache: Annotated[
        Path | None, typer.Option(help="Folder for decoded clips (tens of GB); default OUT/cache.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the saved training state.")] = False,
    max_minutes: Annotated[float | None, typer.Option(min=0, help="Stop a stage, saved, after this long.")] = None,
    lessons: Annotated[
        int, typer.Option(min=0, help="Make this many samples with the teacher that the stage names, and do not train.")
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps (Apple).")] = "auto",
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
) -> None:
    """Train a model, one stage at a time."""
    with displayed("none", 0), reported(traceback=traceback):
        try:
            from stvsr_cli.train import run
            from stvsr_cli.train.lessons import make_lessons
        except ImportError as error:
            raise UsageError(f"training needs {error.name}.", hint="pip install 'stvsr[train]'.") from error
        from stvsr_cli.models.fit.device import pick_device

        for recipe in _recipes(config, model):
            if lessons:
                make_lessons(
                    recipe,
                    lessons,
                    data=data,
                    cache=cache or out / "cache",
                    device=pick_device(device),
                    report=lambda line: typer.echo(line, err=True),
                )
                continue
            # of several stages, those not yet begun have nothing to go on from
            begun = config is not None or (out / f"{recipe.stem}.state.pt").exists()
            run(
                recipe,
                data=data,
                out=out,
                cache=cache or out / "cache",
                resume=resume and begun,
                max_minutes=max_minutes,
                device=pick_device(device),
                report=lambda line: typer.echo(line, err=True),
            )


def _recipes(config: str | None, model: str | None) -> list[Path]:
    """Return the configurations to run. Raises UsageError unless just one of the two is given and known."""
    if (config is None) == (model is None):
        raise UsageError("name a stage, or a model with --model.", hint="`stvsr train diffst/flow ...`, for example.")
    if config is not None:
        recipe = RECIPES / f"{config}.toml"
        return [recipe if recipe.is_file() else Path(config)]
    from stvsr_cli.models.catalogue import find_model, training_of

    entry = find_model(str(model))
    return [RECIPES / entry.name / f"{stage}.toml" for stage in training_of(entry).stages]
