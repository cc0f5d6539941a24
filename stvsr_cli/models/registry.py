"""Which models there are, and how each is loaded. A model's code is imported when it is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.models.contract import OneStepModel


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOptions:
    """Options that only some models have; None leaves a model's own default."""

    prompt: str | None = None
    """Text that the video is described by (dloral)."""
    color_fix: str | None = None
    """adain, wavelet or none: whose colours the result takes (dloral)."""
    posterior: str | None = None
    """mode or sample: which latent the autoencoder's posterior gives (osdenhancer, dloral, diffst)."""
    base: Path | None = None
    """Folder of the base model, where it is not beside the weights (dloral)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """A model by name."""

    name: str
    summary: str
    licence: str
    has_weights: bool = True
    options: frozenset[str] = frozenset()
    """Fields of `ModelOptions` that it takes."""
    takes_detail: bool = False
    """Whether --detail changes its result."""
    detail_at_load: bool = False
    """Whether the detail strength is merged into the weights on loading."""


MODELS = {
    entry.name: entry
    for entry in (
        ModelEntry(
            name="compact",
            summary="Our own one-step latent diffusion model; ships with the program, runs anywhere.",
            licence="Apache-2.0; data in its model card",
        ),
        ModelEntry(
            name="linear",
            summary="Bicubic in space, linear blend in time; no network. To check a pipeline with.",
            licence="Apache-2.0",
            has_weights=False,
        ),
        ModelEntry(
            name="osdenhancer",
            summary="OSDEnhancer (arXiv 2601.20308) on CogVideoX1.5-5B: space x4, time x2.",
            licence="see its model card",
            options=frozenset({"posterior"}),
        ),
        ModelEntry(
            name="dloral",
            summary="DLoRAL (arXiv 2506.15591) on Stable Diffusion 2.1: space x4.",
            licence="see its model card",
            options=frozenset({"prompt", "color_fix", "posterior", "base"}),
            takes_detail=True,
            detail_at_load=True,
        ),
        ModelEntry(
            name="diffst",
            summary="DiffST (arXiv 2605.13182) on Wan2.1-T2V-1.3B: space x4, time x2; no weights are published.",
            licence="see its model card",
            options=frozenset({"posterior"}),
        ),
    )
}


def find_model(name: str) -> ModelEntry:
    """Return the entry of a model. Raises ModelError with the names there are."""
    if name not in MODELS:
        raise ModelError(f"no model is called {name!r}.", hint=f"Models: {', '.join(MODELS)}.")
    return MODELS[name]


def check_options(entry: ModelEntry, options: ModelOptions, detail: float | None) -> dict[str, Any]:
    """The options that were given, for the model's loader. Raises UsageError for one the model does not have."""
    given = {
        name: value
        for name in ("prompt", "color_fix", "posterior", "base")
        if (value := getattr(options, name)) is not None
    }
    foreign = sorted(set(given) - entry.options)
    if foreign:
        flag = "--" + foreign[0].replace("_", "-")
        raise UsageError(f"{flag} means nothing to the model {entry.name}.", hint="Leave it out.")
    if detail is not None and not entry.takes_detail:
        raise UsageError(f"--detail means nothing to the model {entry.name}.", hint="Leave it out.")
    if detail is not None and entry.detail_at_load:
        given["detail"] = detail
    return given


def load_model(
    entry: ModelEntry,
    weights: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    *,
    options: ModelOptions | None = None,
    detail: float | None = None,
) -> OneStepModel:
    """Load a model onto a device.

    weights: file or folder; None for a model without. Raises ModelError if it is missing or does not fit, UsageError
    for an option the model does not have.
    """
    given = check_options(entry, options or ModelOptions(), detail)
    if entry.name == "linear":
        from stvsr_cli.models import linear

        return linear.load(device)
    if weights is None:
        raise ModelError(f"the model {entry.name} needs weights.", hint="Name them with --weights.")
    if not weights.exists():
        raise ModelError(f"there are no weights at {weights}.", hint="Check --weights.")
    if entry.name == "compact":
        from stvsr_cli.models import compact

        return compact.load(weights, device, dtype, **given)
    if entry.name == "osdenhancer":
        from stvsr_cli.models import osdenhancer

        return osdenhancer.load(weights, device, dtype, **given)
    if entry.name == "dloral":
        from stvsr_cli.models import dloral

        return dloral.load(weights, device, dtype, **given)
    from stvsr_cli.models import diffst

    return diffst.load(weights, device, dtype, **given)
