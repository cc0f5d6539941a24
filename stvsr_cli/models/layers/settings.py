"""Settings that a file gives, and those that are known."""

import inspect
import logging
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from stvsr_cli.errors import StvsrError

logger = logging.getLogger(__name__)


def refuse_unknown(
    given: Iterable[str], known: type, what: str, error: type[StvsrError], *, hint: str | None = None
) -> None:
    """Raise an error that names settings which a dataclass does not have. what: stands before them in the line."""
    unknown = sorted(set(given) - {field.name for field in fields(known)})
    if unknown:
        raise error(f"{what} {', '.join(unknown)}.", hint=hint)


def those_known(given: Mapping[str, Any], cls: type, folder: Path) -> dict[str, Any]:
    """The settings that a class of diffusers takes; others are named in a warning, but for its own bookkeeping."""
    known = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    unknown = [name for name in given if name not in known and not name.startswith("_")]
    if unknown:
        logger.warning("%s: settings unknown to this version of diffusers are not used: %s", folder, ", ".join(unknown))
    return {name: value for name, value in given.items() if name in known}
