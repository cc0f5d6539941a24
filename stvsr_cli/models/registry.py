"""Loading a model by its entry in the table, with the options that were given."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.models.dials import Dial
from stvsr_cli.models.entry import Loading, ModelEntry, ModelOptions, flag_of

if TYPE_CHECKING:
    import torch

    from stvsr_cli.models.contract import OneStepModel
    from stvsr_cli.models.fit.asked import Fit

NO_DIALS: Mapping[Dial, float] = MappingProxyType({})


def check_options(
    entry: ModelEntry, options: ModelOptions, dials: Mapping[Dial, float], fit: "Fit | None" = None
) -> dict[str, Any]:
    """The options that were given, for the model's loader. Raises UsageError for one the model does not have."""
    given = {field.name: value for field in fields(ModelOptions) if (value := getattr(options, field.name)) is not None}
    wrong = [*fit.given] if fit is not None and not entry.large else []
    wrong += sorted(set(given) - entry.options)
    wrong += [dial for dial in dials if dial not in entry.dials]
    if wrong:
        raise foreign_option(wrong[0], entry)
    if "detail" in dials and entry.detail_at_load:
        given["detail"] = dials["detail"]
    return given


def foreign_option(name: str, entry: ModelEntry) -> UsageError:
    """What is said of an option, by its field, that a model does not have."""
    from stvsr_cli.models.catalogue import MODELS

    takers = [other.name for other in MODELS.values() if takes(other, name)]
    return UsageError(
        f"{flag_of(name)} is not an option of the model {entry.name}.",
        hint=f"Models that have it: {', '.join(takers)}.",
    )


def takes(entry: ModelEntry, name: str) -> bool:
    """Whether a model has an option, by its field."""
    return (
        name in entry.options or name in entry.dials or (entry.large and name in ("offload", "quantize", "attention"))
    )


def load_model(
    entry: ModelEntry,
    weights: Path | None,
    device: "torch.device",
    dtype: "torch.dtype",
    *,
    options: ModelOptions | None = None,
    dials: Mapping[Dial, float] = NO_DIALS,
    between: Path | None = None,
    fit: "Fit | None" = None,
) -> "OneStepModel":
    """Load a model onto a device, or as `fit` says, so that it fits it.

    weights: file or folder; None for a model without. between: the compact model's weights, which make the in-between
    frames for a model that is spatial only; without them they are blends. Raises ModelError if weights are missing or
    do not fit, or have no expert for a dial, UsageError for an option the model does not have.
    """
    given = check_options(entry, options or ModelOptions(), dials, fit)
    check_weights(entry, weights)
    asked = Loading(weights=weights, device=device, place=device, dtype=dtype, between=between, options=given)
    if not entry.large:
        return _heeding(entry.load(asked), dials)
    from stvsr_cli.models.fit.asked import Fit
    from stvsr_cli.models.fit.fit import fit_model, loading_device

    fit = fit or Fit()
    model = _heeding(entry.load(replace(asked, place=loading_device(fit, device))), dials)
    fit_model(model, fit, device)
    return model


def _heeding(model: "OneStepModel", dials: Mapping[Dial, float]) -> "OneStepModel":
    """The model, which has an expert for each dial that is turned up. Raises ModelError if it has not."""
    for dial, strength in dials.items():
        if strength and dial in model.traits.lacks:
            raise ModelError(
                f"--{dial}={strength:g}: these weights have no expert of which that is the strength.",
                hint=f"Leave --{dial} out, or name weights that have it.",
            )
    return model


def load_with(
    entry: ModelEntry, weights: Path | None, device: "torch.device", dtype: "torch.dtype", settings: dict[str, Any]
) -> "OneStepModel":
    """Load a model with any of its loader's settings, those too that have no flag, to measure with and without.

    Raises UsageError for a setting that the loader does not have, and what `load_model` does.
    """
    check_weights(entry, weights)
    try:
        return entry.load(Loading(weights=weights, device=device, place=device, dtype=dtype, options=settings))
    except TypeError as error:
        if "keyword argument" not in str(error):
            raise
        raise UsageError(f"{entry.name} has no such setting: {error}.", hint="See its `load` in the code.") from error


def check_weights(entry: ModelEntry, weights: Path | None) -> None:
    """Raise ModelError unless a model that needs weights is given some that exist."""
    if not entry.has_weights:
        return
    if weights is None:
        raise ModelError(f"the model {entry.name} needs weights.", hint="Name them with --weights.")
    if not weights.exists():
        raise ModelError(f"there are no weights at {weights}.", hint="Check --weights.")
