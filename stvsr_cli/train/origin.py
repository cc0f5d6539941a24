"""Where a stage begins: the weights and settings of the stage before it, or those that ship with the program."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.models.catalogue import find_model, training_of
from stvsr_cli.train.config import StageConfig
from stvsr_cli.weights.places import find_weights

logger = logging.getLogger(__name__)

SETTINGS = "config.json"
"""Settings of a network, beside its weights."""


def find_start(config: StageConfig, out: Path) -> Path | None:
    """Return the weights to start from: of the stage before in the output folder, or else the model's own if they serve.

    None: the stage starts from scratch. Raises ModelError if there are none.
    """
    if not config.start_from:
        return None
    entry, path = find_model(config.model), out / config.start_from
    own = training_of(entry).start
    if path.exists() or not own:
        return path
    shipped = find_weights(entry.name, entry.needs) / own
    logger.warning("there is no %s: the stage starts from the weights in %s", path, shipped.parent)
    return shipped


def settings_of(start: Path | None) -> dict[str, Any]:
    """The settings of the network whose weights these are, so that a stage goes on with the same parts switched on.

    They lie beside weights that are published, and in the published folder of a stage's other weights.
    """
    if start is None:
        return {}
    for path in (start.with_suffix("") / SETTINGS, start.with_name(SETTINGS)):
        if path.is_file():
            table: dict[str, Any] = json.loads(path.read_text())
            return table
    return {}


def losses_within(config: StageConfig, relies_on: Mapping[str, str], start: Path | None) -> dict[str, float]:
    """The losses of a configuration without those whose reference the weights to start from do not have; that is said.

    relies_on: by loss, the prefix of the parameters that give its reference. Raises UsageError if no loss is left.
    """
    if start is None:
        return config.losses
    names = [*_names(start), *config.start_parts]
    absent = [
        loss
        for loss, prefix in relies_on.items()
        if config.losses.get(loss) and not any(name.startswith(prefix) for name in names)
    ]
    kept = {loss: weight for loss, weight in config.losses.items() if loss not in absent}
    if not any(kept.values()):
        raise UsageError(
            f"{start} lacks what the loss {absent[0]} of the stage {config.stage} is measured by.",
            hint="Train the stages before this one first; the first is "
            f"{config.model}/{training_of(find_model(config.model)).stages[0]}.",
        )
    for loss in absent:
        logger.warning("the loss %s is left out: %s lacks the %s* that it is measured by", loss, start, relies_on[loss])
    return kept


def _names(path: Path) -> list[str]:
    try:
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: {error}.", hint="Train the stage before this one first.") from error


def load_weights(network: nn.Module, path: Path, adds: tuple[str, ...] = ()) -> None:
    """Load weights strictly, but for the parts a stage adds, which may start anew or be left out.

    Raises ModelError if they do not fit.
    """
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(str(path)).items()}
        own = network.state_dict()
        new = {name: tensor for name, tensor in own.items() if adds and name.startswith(adds)}
        wanted = {name: t for name, t in tensors.items() if name in own or not (adds and name.startswith(adds))}
        network.load_state_dict(new | wanted)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path}: {error}.", hint="Train the stage before this one first.") from error


def load_part(network: nn.Module, path: Path, prefix: str) -> None:
    """Load the weights whose names begin with a prefix, and all of those; the file may be of another model.

    Raises ModelError if they do not fit.
    """
    try:
        tensors = {n: t.float() for n, t in load_file(str(path)).items() if n.startswith(prefix)}
        own = network.state_dict()
        if tensors.keys() != {name for name in own if name.startswith(prefix)} or not tensors:
            raise ModelError(
                f"{path}: its {prefix}* are not those of the network.", hint="Name weights that hold them."
            )
        network.load_state_dict(own | tensors)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path}: {error}.", hint="Train the stage that it comes from first.") from error
