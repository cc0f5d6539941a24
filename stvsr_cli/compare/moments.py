"""Which frames of several videos belong to the same moment, whatever their frame rates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

Pixels = TypeVar("Pixels")


@dataclass(frozen=True, slots=True)
class Shown(Generic[Pixels]):
    """A frame and when it is shown, in seconds from its video's first frame."""

    time: Fraction
    duration: Fraction
    frame: Pixels


class Nearest(Generic[Pixels]):
    """The frame of a stream that begins nearest to a moment; moments must be asked for in order. Holds two frames."""

    def __init__(self, source: Iterator[Shown[Pixels]]) -> None:
        self._source = source
        self._here, self._next = next(source, None), next(source, None)

    def at(self, time: Fraction) -> Shown[Pixels] | None:
        """Return the frame nearest to a moment, or None once the stream is over."""
        while (
            self._next is not None and self._here is not None and self._next.time - time <= abs(self._here.time - time)
        ):
            self._here, self._next = self._next, next(self._source, None)
        here = self._here
        return None if here is None or time >= here.time + here.duration else here


def in_step(
    grid: Iterator[Shown[Pixels]], others: Sequence[Iterator[Shown[Pixels]]]
) -> Iterator[tuple[Shown[Pixels], list[Shown[Pixels]]]]:
    """Yield each frame of `grid` with the frame of each other stream that is nearest to it; ends with the shortest.

    Give the stream with the fewest frames a second as the grid, so that no frame is compared with a held one.
    """
    nearest = [Nearest(other) for other in others]
    for shown in grid:
        found = [other.at(shown.time) for other in nearest]
        if any(other is None for other in found):
            return
        yield shown, [other for other in found if other is not None]
