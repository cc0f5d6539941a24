"""Sizes as people ask for them: by a factor, a side, or a frame to fit."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stvsr_cli import Job
from stvsr_cli.color.box import Box
from stvsr_cli.errors import UsageError
from stvsr_cli.job.size import Size, find_size
from stvsr_cli.media.read.probe import probe
from tests.clips import BUNNY

INFO = probe(BUNNY)
sides = st.integers(16, 4000)


def size(across, down, *, rotation=0, aspect=Fraction(1), **asked):
    info = replace(INFO, width=across, height=down, rotation=rotation, sample_aspect_ratio=aspect)
    return find_size(info, Job(input=Path("a"), output=Path("b.mp4"), **asked))


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, (1280, 720, 1280, 720)),
        ({"scale": Fraction(8)}, (2560, 1440, 2560, 1440)),
        ({"height": 2160}, (3840, 2160, 3840, 2160)),
        ({"width": 1000, "height": 1000}, (1000, 562, 1000, 562)),
        ({"width": 1000, "height": 1000, "fit_mode": "pad"}, (1000, 1000, 1000, 562)),
        ({"width": 1000, "height": 1000, "fit_mode": "crop"}, (1000, 1000, 1778, 1000)),
    ],
)
def test_sizes_of_a_wide_video(asked, wanted):
    found = size(320, 180, **asked)
    assert (found.width, found.height, found.picture.width, found.picture.height) == wanted


def test_what_is_shown_counts():
    turned = size(320, 180, rotation=90, width=1000, height=2000, fit_mode="pad")
    middle = Box(110, 0, 1778, 1000)
    assert turned == Size(2000, 1000, middle, middle, Fraction(50, 9))
    wide = size(160, 180, aspect=Fraction(2), width=1280, height=1280, fit_mode="pad")
    middle = Box(0, 280, 640, 720)
    assert wide == Size(640, 1280, middle, middle, Fraction(4))


@pytest.mark.parametrize(
    "asked",
    [
        {"width": 300},
        {"height": 180 * 17},
        {"scale": Fraction(2), "width": 640},
        {"scale": Fraction(17)},
        {"width": 640, "fit_mode": "pad"},
        {"width": 640, "height": 640, "fit_mode": "stretch"},
    ],
)
def test_what_cannot_be_had_is_refused(asked):
    with pytest.raises(UsageError):
        size(320, 180, **asked)


@given(across=sides, down=sides, box=st.tuples(sides, sides), mode=st.sampled_from(["inside", "pad", "crop"]))
def test_the_picture_keeps_its_shape_and_meets_the_frame(across, down, box, mode):
    asked = (max if mode == "crop" else min)(Fraction(box[0], across), Fraction(box[1], down))
    if not 1 <= asked <= 16:
        return
    found = size(across, down, width=box[0], height=box[1], fit_mode=mode)
    picture = (found.picture.width, found.picture.height)
    assert all(side % 2 == 0 for side in (found.width, found.height, *picture))
    assert abs(picture[0] - across * asked) <= 2 and abs(picture[1] - down * asked) <= 2
    if mode == "inside":
        assert picture == (found.width, found.height)
    else:
        assert abs(found.width - box[0]) <= 1 and abs(found.height - box[1]) <= 1
        smaller, larger = (
            (picture, (found.width, found.height)) if mode == "pad" else ((found.width, found.height), picture)
        )
        assert all(a <= b for a, b in zip(smaller, larger, strict=True))
