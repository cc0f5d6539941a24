"""Which models there are, and how each is loaded. A model's code is imported when it is asked for."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.weights.catalogue import ModelEntry, ModelOptions, flag_of

if TYPE_CHECKING:
    import torch

    from stvsr_cli.models.contract import OneStepModel
    from stvsr_cli.models.fit.fit import Fit


def check_options(
    entry: ModelEntry, options: ModelOptions, detail: float | None, fit: "Fit | None" = None
) -> dict[str, Any]:
    """The options that were given, for the model's loader. Raises UsageError for one the model does not have."""
    if fit is not None and fit.given and not entry.large:
        raise UsageError(f"--{fit.given[0]} means nothing to the model {entry.name}.", hint="Leave it out.")
    given = {field.name: value for field in fields(ModelOptions) if (value := getattr(options, field.name)) is not None}
    foreign = sorted(set(given) - entry.options)
    if foreign:
        flag = flag_of(foreign[0])
        raise UsageError(f"{flag} means nothing to the model {entry.name}.", hint="Leave it out.")
    if detail is not None and not entry.takes_detail:
        raise UsageError(f"--detail means nothing to the model {entry.name}.", hint="Leave it out.")
    if detail is not None and entry.detail_at_load:
        given["detail"] = detail
    return given


def load_model(
    entry: ModelEntry,
    weights: Path | None,
    device: "torch.device",
    dtype: "torch.dtype",
    *,
    options: ModelOptions | None = None,
    detail: float | None = None,
    between: Path | None = None,
    fit: "Fit | None" = None,
) -> "OneStepModel":
    """Load a model onto a device, or as `fit` says, so that it fits it.

    weights: file or folder; None for a model without. between: the compact model's weights, which make the in-between
    frames for a model that is spatial only; without them they are blends. Raises ModelError if weights are missing or
    do not fit, UsageError for an option the model does not have.
    """
    given = check_options(entry, options or ModelOptions(), detail, fit)
    if entry.large:
        from stvsr_cli.models.fit.fit import Fit, fit_model, loading_device

        fit = fit or Fit()
        model = _load(entry, weights, device, loading_device(fit, device), dtype, given, between)
        fit_model(model, fit, device)
        return model
    return _load(entry, weights, device, device, dtype, given, between)


def _load(
    entry: ModelEntry,
    weights: Path | None,
    device: "torch.device",
    place: "torch.device",
    dtype: "torch.dtype",
    given: dict[str, Any],
    between: Path | None,
) -> "OneStepModel":
    """Load a model. place: where the weights of large models are read to."""
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

        return osdenhancer.load(weights, place, dtype, **given)
    if entry.name == "dloral":
        from stvsr_cli.models import dloral, interpolation

        interpolator = interpolation.load(between, device, dtype)
        return dloral.load(weights, place, dtype, interpolator=interpolator, **given)
    from stvsr_cli.models import diffst

    return diffst.load(weights, place, dtype, **given)
