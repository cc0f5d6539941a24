"""Slots tile the input's time exactly."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stvsr_cli.job.timeline import SlotKind, slots

durations = st.lists(st.integers(min_value=1, max_value=10**6), min_size=1, max_size=50)


@given(durations=durations, factor=st.sampled_from([1, 2, 4]), start=st.integers(-(10**6), 10**9))
def test_slots_cover_the_input_without_gap_or_overlap(durations: list[int], factor: int, start: int) -> None:
    pts, every = start, []
    for index, duration in enumerate(durations):
        every += slots(index, pts, duration, factor, has_partner=index + 1 < len(durations))
        pts += duration
    assert len(every) == factor * len(durations)
    assert every[0].pts == start * factor
    assert all(a.pts + a.duration == b.pts for a, b in zip(every[:-1], every[1:], strict=True))
    assert every[-1].pts + every[-1].duration == pts * factor  # the duration is the input's, to the tick
    assert all((slot.kind is SlotKind.SOURCE) == (slot.step == 0) for slot in every)
    assert {slot.kind for slot in every[-factor:]} <= {SlotKind.SOURCE, SlotKind.HOLD}


def test_moments_lie_evenly_between_two_frames() -> None:
    moments = [slot.pts * Fraction(1, 4000) for slot in slots(0, 100, 33, 4, has_partner=True)]
    assert moments == [Fraction(1, 10) + Fraction(33 * j, 4000) for j in range(4)]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="factor"):
        slots(0, 0, 1, 0, has_partner=True)
