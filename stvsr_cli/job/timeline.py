"""From input timestamps to output slots, in exact integer ticks."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

MOST_FACTOR = 32
"""Most output frames for one input frame; where a pause asks for more, the frame before it is held."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One output frame: what it shows, and when."""

    source: int
    """Index of the input frame at or before this moment."""
    step: int
    """How many slots of that input frame come before this one."""
    moment: Fraction
    """How much of the way to the next input frame is gone, in [0, 1); 0: the input frame itself."""
    made: int
    """Which of the frames that are made from there on shows it; 0: the input frame's own."""
    pts: int
    """Presentation time in ticks of the output time base."""
    duration: int
    """Ticks of the output time base."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """When output frames are shown. The slots of an input frame depend on nothing but its number and its time.

    Without `step`, frames are counted: the output's frame n lies n / `multiple` of the way, and a variable frame rate
    stays variable. With it they come at a constant rate.
    """

    multiple: Fraction
    """Output frames for each input frame; with `step`, on average."""
    factor: int | None
    """Frames that are made for each input frame, at even steps; None: they are made at the slots' own moments."""
    step: Fraction | None = None
    """Ticks of the input's time base from one output frame to the next."""
    begin: int = 0
    """When output frame 0 is shown, in ticks of the input's time base."""
    first: int = 0
    """The same in ticks of the output's time base, of which each frame then lasts one."""
    tolerance: int = 0
    """Ticks by which the input's clock may err: what is no farther from an input frame shows that frame."""

    def __post_init__(self) -> None:
        if not 0 < self.multiple:
            raise ValueError(f"{self.multiple = } must be positive")

    def slots(self, index: int, pts: int, duration: int) -> list[Slot]:
        """The output slots from one input frame on, up to the next.

        pts, duration: ticks of the input's time base. Raises ValueError if duration < 0.
        """
        if duration < 0:
            raise ValueError(f"{duration = } must be at least 0")
        if self.step is None:
            return self._counted(index, pts, duration)
        return self._timed(index, pts, duration, self.step)

    def between(self, slots: list[Slot]) -> tuple[Fraction, ...]:
        """The moments in (0, 1) at which frames are made for an input frame's slots."""
        return tuple(slot.moment for slot in slots if slot.moment)

    def num_frames(self, count: int) -> int:
        """Output frames of so many input frames; about, where they come at a constant rate."""
        return ceil(count * self.multiple)

    def _counted(self, index: int, pts: int, duration: int) -> list[Slot]:
        """Slots at t_k + (n / M - k) d_k: with M = p / q, in ticks of the output time base, t_k p + (n q - k p) d_k."""
        p, q = self.multiple.numerator, self.multiple.denominator
        numbers = range(-(-index * p // q), -(-(index + 1) * p // q))
        times = [(Fraction(n * q - index * p, p), pts * p + (n * q - index * p) * duration) for n in numbers]
        return self._shown(index, times, q * duration)

    def _timed(self, index: int, pts: int, duration: int, step: Fraction) -> list[Slot]:
        """Slots at the moments of a constant rate that lie in [t_k, t_k + d_k), as far as the input's clock can tell."""
        offset = pts - self.tolerance - self.begin
        # The first frame is shown from the output frame on in which it begins: nothing comes before it.
        start = max(1, ceil(offset / step)) if index else max(0, floor((pts - self.begin) / step))
        numbers = range(start, max(start + (index == 0), ceil((offset + duration) / step)))
        after = [self.begin + n * step - pts for n in numbers]
        moments = [Fraction(0) if ticks <= self.tolerance else Fraction(ticks) / duration for ticks in after]
        if len(moments) > MOST_FACTOR:
            moments = [Fraction(0)] * len(moments)
        return self._shown(index, [(m, self.first + n) for m, n in zip(moments, numbers, strict=True)], 1)

    def _shown(self, index: int, times: list[tuple[Fraction, int]], duration: int) -> list[Slot]:
        slots, made = [], 0
        for step, (moment, pts) in enumerate(times):
            made += moment > 0
            shown = made if self.factor is None else min(self.factor - 1, floor(moment * self.factor + Fraction(1, 2)))
            slots.append(Slot(index, step, moment, shown, pts, duration))
        return slots
