"""Dials: the strengths of a model's experts, which some models have."""

from typing import Literal

Dial = Literal["detail", "restore"]
"""Strengths in [0, 1]."""


def given_dials(detail: float | None, restore: float | None) -> dict[Dial, float]:
    """The strengths that are given."""
    dials: dict[Dial, float | None] = {"detail": detail, "restore": restore}
    return {name: strength for name, strength in dials.items() if strength is not None}
