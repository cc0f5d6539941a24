"""A configuration as text, to compare it with another and to write it down."""

import dataclasses
from typing import Any


def described(configuration: Any) -> dict[str, str]:
    """The fields of a dataclass, and of dataclasses in it, as text by name."""
    found: dict[str, str] = {}
    for entry in dataclasses.fields(configuration):
        value = getattr(configuration, entry.name)
        if dataclasses.is_dataclass(value):
            inner = described(value).items()
            found |= {f"{entry.name} {name}": text for name, text in inner}
        else:
            found[entry.name] = str(value)
    return found
