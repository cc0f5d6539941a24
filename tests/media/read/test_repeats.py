"""Repeated frames are found where pictures repeat, and neither in motion nor in a still scene."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stvsr_cli.media.read.decode import Frame, Picture, decode
from stvsr_cli.media.read.probe import ColorTags, probe
from stvsr_cli.media.read.repeats import LONGEST, groups
from stvsr_cli.media.read.shots import mark_cuts
from tests.clips import BUNNY, make_video, pattern


def frame(index: int, shown: int, *, cut: bool = False, noise: float = 0.0) -> Frame:
    """A frame that shows the picture of a number."""
    luma = pattern(shown, 64, 48, 3)[..., 0].astype(np.float64)
    luma += noise * np.random.default_rng(index).standard_normal(luma.shape)
    return Frame(index, index, 1, Picture((luma.clip(0, 255).round().astype(np.uint8),), "gray", ColorTags()), cut)


def sizes(frames: list[Frame]) -> list[int]:
    return [len(group) for group, _ in groups(frames)]


def test_on_twos_and_threes() -> None:
    assert sizes([frame(i, i // 2, cut=i == 0, noise=0.3) for i in range(12)]) == [2] * 6
    assert sizes([frame(i, i // 3, cut=i == 0) for i in range(12)]) == [3] * 4
    film = [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert sizes([frame(i, n, cut=i == 0) for i, n in enumerate(film)]) == [2, 3, 2, 3]


def test_motion_has_none_however_slow_it_is_to_what_was_before() -> None:
    assert sizes([frame(i, i, cut=i == 0, noise=2) for i in range(20)]) == [1] * 20
    assert sizes([frame(i, 3 * i if i < 10 else 27 + i - 9, cut=i == 0) for i in range(20)]) == [1] * 20


def test_a_still_scene_stays_as_it_is() -> None:
    found = sizes([frame(i, 0 if i < 20 else i - 19, cut=i == 0) for i in range(30)])
    assert sum(found) == 30
    assert found[: LONGEST - 1] == [1] * (LONGEST - 1)
    assert max(found) <= 2


def test_a_repeat_is_not_sought_across_a_cut() -> None:
    frames = [frame(i, 0, cut=i in (0, 2)) for i in range(4)]
    assert [(len(group), following) for group, following in groups(frames)] == [(2, None), (2, None)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30))
def test_every_frame_comes_once_and_in_order(shown: list[tuple[int, bool]]) -> None:
    frames = [frame(i, n, cut=cut or i == 0) for i, (n, cut) in enumerate(shown)]
    found = [held.index for group, _ in groups(frames) for held in group]
    assert found == list(range(len(frames)))
    assert all(not held.cut for group, _ in groups(frames) for held in group[1:])


@pytest.mark.parametrize("crf", ["12", "23"])
def test_through_a_codec(tmp_path: Path, crf: str) -> None:
    clip = make_video(tmp_path / "twos.mp4", [pattern(i // 2, 96, 64, 4) for i in range(20)], options={"crf": crf})
    assert sizes(list(mark_cuts(decode(probe(clip))))) == [2] * 10


def test_the_clip_that_ships_has_two() -> None:
    found = list(groups(mark_cuts(decode(probe(BUNNY), end=Fraction(2)))))
    assert [group[0].index for group, _ in found if len(group) > 1] == [1, 26]
