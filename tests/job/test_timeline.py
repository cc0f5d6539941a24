"""Slots tile the input's time exactly, whatever the rate."""

from collections import Counter
from fractions import Fraction
from itertools import accumulate
from math import ceil

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stvsr_cli.job.timeline import MOST_FACTOR, Slot, Timeline

durations = st.lists(st.integers(min_value=1, max_value=10**6), min_size=1, max_size=50)
multiples = st.fractions(min_value=Fraction(1, 20), max_value=MOST_FACTOR, max_denominator=30)
begins = st.integers(-(10**6), 10**9)
factors = st.sampled_from([None, 1, 2, 4])


def even(factor: int) -> Timeline:
    return Timeline(multiple=Fraction(factor), factor=factor)


def every_slot(timeline: Timeline, durations: list[int], start: int) -> list[Slot]:
    every: list[Slot] = []
    for index, duration in enumerate(durations):
        every += timeline.slots(index, start, duration)
        start += duration
    return every


@given(durations=durations, factor=st.integers(1, MOST_FACTOR), start=begins)
def test_slots_cover_the_input_without_gap_or_overlap(durations: list[int], factor: int, start: int) -> None:
    every = every_slot(even(factor), durations, start)
    assert len(every) == factor * len(durations)
    assert every[0].pts == start * factor
    assert all(a.pts + a.duration == b.pts for a, b in zip(every[:-1], every[1:], strict=True))
    assert every[-1].pts + every[-1].duration == (start + sum(durations)) * factor  # the input's duration, to the tick
    assert [slot.made for slot in every] == [slot.step for slot in every] == list(range(factor)) * len(durations)
    assert all(slot.moment == Fraction(slot.step, factor) for slot in every)


@given(durations=durations, multiple=multiples, start=begins, factor=factors)
def test_multiples_count_frames(durations: list[int], multiple: Fraction, start: int, factor: int | None) -> None:
    timeline = Timeline(multiple=multiple, factor=factor)
    every = every_slot(timeline, durations, start)
    assert len(every) == timeline.num_frames(len(durations)) == ceil(len(durations) * multiple)
    assert [slot.source + slot.moment for slot in every] == [n / multiple for n in range(len(every))]
    begin = [start]
    for duration in durations:
        begin.append(begin[-1] + duration)
    for slot in every:  # at the exact time, in ticks of the input's over the multiple's numerator
        time = begin[slot.source] + slot.moment * durations[slot.source]
        assert slot.pts == time * multiple.numerator
        assert 0 <= slot.moment < 1
    assert all(a.pts < b.pts for a, b in zip(every[:-1], every[1:], strict=True))


@settings(deadline=None)
@given(
    durations=durations,
    step=st.fractions(min_value=Fraction(1, 3), max_value=10**6, max_denominator=1001),
    start=begins,
    late=st.integers(0, 1000),
    tolerance=st.integers(0, 1),
    first=st.integers(-1000, 1000),
    factor=factors,
)
def test_a_rate_fills_the_time_evenly(
    durations: list[int], step: Fraction, start: int, late: int, tolerance: int, first: int, factor: int | None
) -> None:
    timeline = Timeline(
        multiple=sum(durations) / step / len(durations), factor=factor, step=step, begin=start, first=first,
        tolerance=tolerance,
    )  # fmt: skip
    begin = start + late
    assume(sum(durations) / step < 2000 and (not tolerance or not late or min(durations) > tolerance))
    every = every_slot(timeline, durations, begin)
    ticks = [slot.pts for slot in every]
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))  # one after the other, none twice, none left out
    assert all(slot.duration == 1 for slot in every)
    times = [start + (tick - first) * step for tick in ticks]
    end = begin + sum(durations)
    assert begin - step < times[0] <= begin  # so that nothing comes before the first frame
    assert times[-1] < end - tolerance or len(every) == 1
    assert times[-1] + step >= end - tolerance  # the last one lasts to the end, and less than one frame beyond
    begins, counts = [begin, *(begin + passed for passed in accumulate(durations))], Counter(s.source for s in every)
    for slot, time in zip(every, times, strict=True):
        shown = begins[slot.source]
        if 0 < slot.moment:
            assert shown + slot.moment * durations[slot.source] == time  # made at its exact time
        elif counts[slot.source] <= MOST_FACTOR:
            assert abs(time - shown) <= tolerance or (slot.source == 0 and time < shown)


@given(durations=durations, multiple=multiples, factor=factors)
def test_made_frames_are_numbered_in_order(durations: list[int], multiple: Fraction, factor: int | None) -> None:
    timeline = Timeline(multiple=multiple, factor=factor)
    for index, duration in enumerate(durations):
        slots = timeline.slots(index, 0, duration)
        made = [slot.made for slot in slots]
        assert made == sorted(made) and [slot.step for slot in slots] == list(range(len(slots)))
        if factor is None:
            between = timeline.between(slots)
            assert [slot.moment for slot in slots if slot.made] == list(between)
            assert all(slot.moment == (between[slot.made - 1] if slot.made else 0) for slot in slots)
        else:
            assert all(0 <= number < factor for number in made)
            off = [abs(Fraction(number, factor) - slot.moment) for number, slot in zip(made, slots, strict=True)]
            assert all(miss <= Fraction(1, factor) for miss in off)
            assert all(
                miss <= Fraction(1, 2 * factor) for miss, number in zip(off, made, strict=True) if number < factor - 1
            )


def test_moments_lie_evenly_between_two_frames() -> None:
    moments = [slot.pts * Fraction(1, 4000) for slot in even(4).slots(0, 100, 33)]
    assert moments == [Fraction(1, 10) + Fraction(33 * j, 4000) for j in range(4)]


def test_film_at_sixty() -> None:
    timeline = Timeline(multiple=Fraction(5, 2), factor=None, step=Fraction(2))  # ticks of 1/120 s
    slots = [timeline.slots(k, 5 * k, 5) for k in range(3)]
    assert [[slot.moment for slot in some] for some in slots] == [
        [0, Fraction(2, 5), Fraction(4, 5)], [Fraction(1, 5), Fraction(3, 5)], [0, Fraction(2, 5), Fraction(4, 5)]
    ]  # fmt: skip
    assert [[slot.made for slot in some] for some in slots] == [[0, 1, 2], [1, 2], [0, 1, 2]]


def test_rounded_times_are_taken_for_what_they_mean() -> None:
    """Milliseconds of 30 frames a second, 60 to be made: every other one is an input frame, not one made beside it."""
    times = [round(Fraction(1000 * k, 30)) for k in range(31)]
    timeline = Timeline(multiple=Fraction(2), factor=None, step=Fraction(1000, 60), tolerance=1)
    slots = [timeline.slots(k, times[k], times[k + 1] - times[k]) for k in range(30)]
    assert all([slot.moment == 0 for slot in some] == [True, False] for some in slots)


def test_a_long_pause_is_held() -> None:
    timeline = Timeline(multiple=Fraction(2), factor=None, step=Fraction(1))
    assert any(slot.moment for slot in timeline.slots(0, 0, MOST_FACTOR))
    held = timeline.slots(0, 0, MOST_FACTOR + 1)
    assert len(held) == MOST_FACTOR + 1 and timeline.between(held) == ()


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        Timeline(multiple=Fraction(0), factor=None)
    with pytest.raises(ValueError, match="duration"):
        even(2).slots(0, 0, -1)
