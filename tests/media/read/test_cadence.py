"""Uneven motion is told from rests: animation on twos and film in a faster rate, not text that is typed."""

from pathlib import Path

import numpy as np
import pytest

from stvsr_cli.media.read.cadence import with_repeats
from stvsr_cli.media.read.probe import probe
from tests.clips import BUNNY, make_video, pattern


def smooths(path: Path, mode: str = "auto") -> bool:
    return with_repeats(probe(path), mode).smooths_repeats


def film(shown: list[int]) -> list[np.ndarray]:
    return [pattern(i, 96, 64, 3) for i in shown]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("on twos", [i // 2 * 2 for i in range(40)]),
        ("on threes", [i // 3 * 3 for i in range(40)]),
        ("24 in 60", [int(2.5 * int(i * 0.4 + 1e-9)) for i in range(60)]),
        ("24 in 30", [i - (i + 1) // 5 for i in range(40)]),
        ("on twos, long", [i // 2 * 2 for i in range(200)]),
    ],
)
def test_uneven_motion_is_found(tmp_path: Path, name: str, shown: list[int]) -> None:
    clip = make_video(tmp_path / "in.mp4", film(shown), options={"crf": "20", "g": "12"})
    assert smooths(clip) and smooths(clip, "smooth") and not smooths(clip, "keep")


def typed() -> list[np.ndarray]:
    page = np.full((96, 160, 3), 240, np.uint8)
    letters = np.random.default_rng(0).random((16, 8, 5)) < 0.5
    pictures = []
    for i in range(48):
        picture = page.copy()
        for k in range(i // 3):
            picture[40:48, 8 + 7 * k : 13 + 7 * k][letters[k]] = 20
        pictures.append(picture)
    return pictures


def figure() -> list[np.ndarray]:
    ground = pattern(0, 160, 96)
    pictures = []
    for i in range(48):
        picture = ground.copy()
        picture[40:72, 10 + i // 3 * 6 : 34 + i // 3 * 6] = 250
        pictures.append(picture)
    return pictures


def still() -> list[np.ndarray]:
    return [pattern(0, 96, 64)] * 60


def even() -> list[np.ndarray]:
    return film(list(range(60)))


def once() -> list[np.ndarray]:
    return film([i - (i > 10) - (i > 30) for i in range(60)])


@pytest.mark.parametrize("made", [typed, figure, still, even, once], ids=lambda made: made.__name__)
def test_rests_and_even_motion_stay(tmp_path: Path, made) -> None:
    assert not smooths(make_video(tmp_path / "in.mp4", made(), options={"crf": "20"}))


def test_a_stretch_on_twos_does_not_make_a_long_video_uneven(tmp_path: Path) -> None:
    shown = [i // 2 * 2 for i in range(60)] + list(range(60, 300))
    assert not smooths(make_video(tmp_path / "in.mp4", film(shown), options={"crf": "20", "g": "12"}))


def test_what_ships_and_what_is_broken_stay(tmp_path: Path) -> None:
    assert not smooths(BUNNY)
    info = probe(BUNNY)
    with pytest.raises(ValueError, match="must be one of"):
        with_repeats(info, "maybe")
