"""From input timestamps to output slots, in exact integer ticks."""

from dataclasses import dataclass
from enum import StrEnum


class SlotKind(StrEnum):
    """What an output slot shows."""

    SOURCE = "source"
    """An input frame's own moment."""
    BETWEEN = "between"
    """A moment between an input frame and the next."""
    HOLD = "hold"
    """A moment after an input frame that has no partner: the frame stays."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One output frame: what it shows, and when."""

    kind: SlotKind
    source: int
    """Index of the input frame at or before this moment."""
    step: int
    """0 for the input frame's own moment, j for j/F of the way to the next."""
    pts: int
    """Presentation time in ticks of the output time base."""
    duration: int
    """Ticks of the output time base."""


def slots(index: int, pts: int, duration: int, factor: int, *, has_partner: bool) -> list[Slot]:
    """The `factor` output slots of one input frame.

    pts, duration: ticks of the input's time base. With t_k and d_k they lie at t_k + j d_k / F, which in ticks of
    the output time base is t_k F + j d_k. Raises ValueError if factor < 1 or duration < 0.
    """
    if factor < 1 or duration < 0:
        raise ValueError(f"{factor = } must be at least 1 and {duration = } at least 0")
    beyond = SlotKind.BETWEEN if has_partner else SlotKind.HOLD
    return [
        Slot(beyond if step else SlotKind.SOURCE, index, step, pts * factor + step * duration, duration)
        for step in range(factor)
    ]
