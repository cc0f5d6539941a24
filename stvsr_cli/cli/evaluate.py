"""`stvsr evaluate`: measure a model on clips that it was not trained on."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stvsr_cli.cli.failures import reported
from stvsr_cli.cli.progress import displayed
from stvsr_cli.errors import UsageError

if TYPE_CHECKING:
    from stvsr_cli.train.evaluate import Row

SHOWN = ("psnr", "psnr_mid", "ssim", "perc", "perc_mid", "sharp", "temporal", "flicker")


def evaluate(
    clips: Annotated[Path, typer.Argument(help="Folder of full-size clips; reduced and degraded here in two ways.")],
    model: Annotated[str, typer.Option(help="Model to measure: see `stvsr models list`.")] = "compact",
    weights: Annotated[Path | None, typer.Option(help="Its weights, where they are not at their own place.")] = None,
    crop: Annotated[int, typer.Option(min=0, help="Side of the middle of each frame to measure; 0: whole frames.")] = 0,
    keyframes: Annotated[int, typer.Option(min=2, help="Source frames of each clip.")] = 5,
    fps_factor: Annotated[
        int, typer.Option(min=1, max=2, help="2: also the frames between; 1: source frames alone.")
    ] = 2,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE for the model's loader, in place of its own default.")
    ] = None,
    detail: Annotated[
        float | None, typer.Option(help="Strength of the detail expert, for models that have it.")
    ] = None,
    restore: Annotated[
        float | None, typer.Option(help="Strength of the restoration expert; default: as each clip asks for.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="SqueezeNet 1.1 weights (safetensors) for the perceptual distance.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Table of all clips to write (CSV).")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Such a table of another model: show differences and their standard errors.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps (Apple).")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
) -> None:
    """Measure a model on clips: fidelity, perceptual distance, sharpness, steadiness."""
    with displayed("none", 0), reported(traceback=traceback):
        try:
            from stvsr_cli.train import evaluate as evaluation
        except ImportError as error:
            raise UsageError(f"evaluation needs {error.name}.", hint="pip install 'stvsr[train]'.") from error
        import torch

        from stvsr_cli.models.catalogue import find_model
        from stvsr_cli.models.dials import given_dials
        from stvsr_cli.models.fit.device import pick_device
        from stvsr_cli.models.registry import load_model, load_with
        from stvsr_cli.quality.features import Perceptual
        from stvsr_cli.weights.places import find_weights

        types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        if precision not in types:
            raise UsageError(f"--precision {precision!r} is not known.", hint=f"Use {', '.join(types)}.")
        if out is not None and out.exists():
            raise UsageError(f"{out} exists.", hint="Name another file, or remove it.")
        entry, place = find_model(model), pick_device(device)
        dials = given_dials(detail, restore)
        found = weights if weights is not None or not entry.has_weights else find_weights(model)
        if setting:
            loaded = load_with(entry, found, place, types[precision], _settings(setting))
        else:
            loaded = load_model(entry, found, place, types[precision], dials=dials)
        excerpt = evaluation.Excerpt(keyframes=keyframes, crop_px=crop, fps_factor=fps_factor)
        perceptual = None if features is None else Perceptual(features).to(place)
        others = [] if against is None else evaluation.read_rows(against)
        rows = []
        for row in evaluation.evaluate(loaded, clips, excerpt, device=place, perceptual=perceptual, dials=dials):
            rows.append(row)
            typer.echo(f"{row.clip:24} {row.track:6} {_shown(row.values)}", err=True)
        _print(rows, others)
        if out is not None:
            evaluation.write_rows(rows, out)


def _settings(texts: list[str]) -> dict[str, str | int | float | bool]:
    """Return what NAME=VALUE texts say; values that read as true, false or numbers become those."""
    words = {"true": True, "false": False}
    given: dict[str, str | int | float | bool] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--set {text!r} is not NAME=VALUE.")
        number = re.fullmatch(r"[+-]?\d+(\.\d+)?", value)
        given[name] = words.get(value, (float(value) if number[1] else int(value)) if number else value)
    return given


def _shown(values: dict[str, float]) -> str:
    return " ".join(f"{name} {values[name]:.4f}" for name in SHOWN if name in values)


def _print(rows: "list[Row]", others: "list[Row]") -> None:
    from stvsr_cli.train.evaluate import differences, mean_values

    for track in dict.fromkeys(row.track for row in rows):
        typer.echo(f"{track:6} {_shown(mean_values(rows, track))}")
        if compared := differences(rows, others, track):
            text = " ".join(f"{n} {compared[n][0]:+.4f}±{compared[n][1]:.4f}" for n in SHOWN if n in compared)
            typer.echo(f"{track:6} difference {text}")
