"""Cuts are found, and what is none is left alone."""

from pathlib import Path

import numpy as np
import pytest

from stvsr_cli.media.read.decode import Frame, Picture, decode
from stvsr_cli.media.read.probe import ColorTags, probe
from stvsr_cli.media.read.shots import mark_cuts
from tests.clips import BUNNY, make_video, pattern

SIZE = (96, 64)


def scene(seed: int, count: int, speed: int = 2) -> list[np.ndarray]:
    """A textured scene with its own colours that moves."""
    rng = np.random.default_rng(seed)
    wall = rng.integers(0, 255, (8, 40, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    return [np.roll(wall, speed * i, axis=1)[: SIZE[1], : SIZE[0]] for i in range(count)]


def cuts_of(path: Path, pictures: list[np.ndarray], mode: str = "hold") -> list[int]:
    make_video(path, pictures)
    return [frame.index for frame in mark_cuts(decode(probe(path)), mode=mode) if frame.cut]


def test_hard_cuts_are_found(tmp_path: Path) -> None:
    pictures = scene(1, 12) + scene(2, 9) + scene(3, 15)
    assert cuts_of(tmp_path / "c.mp4", pictures) == [0, 12, 21]
    assert cuts_of(tmp_path / "i.mp4", pictures, mode="ignore") == [0]


def test_a_real_clip_without_cuts_has_none() -> None:
    frames = mark_cuts(decode(probe(BUNNY)))
    assert [frame.index for frame in frames if frame.cut] == [0]


@pytest.mark.parametrize("speed", [3, 8, 16])
def test_a_pan_is_no_cut(tmp_path: Path, speed: int) -> None:
    assert cuts_of(tmp_path / "p.mp4", [pattern(i, *SIZE, speed=speed) for i in range(30)]) == [0]


def test_a_flash_is_no_cut(tmp_path: Path) -> None:
    pictures = scene(1, 20)
    pictures[10] = np.full_like(pictures[10], 250)
    assert cuts_of(tmp_path / "f.mp4", pictures) == [0]


def test_lightning_over_several_frames_is_no_cut(tmp_path: Path) -> None:
    pictures = scene(1, 20)
    for i in (9, 10, 11):
        pictures[i] = (pictures[i] * 0.3 + 170).astype(np.uint8)
    assert cuts_of(tmp_path / "l.mp4", pictures) == [0]


@pytest.mark.parametrize("length", [4, 6, 12, 25])
def test_a_fade_through_black_is_no_cut(tmp_path: Path, length: int) -> None:
    ramp = np.arange(length + 1) / length
    away = [(picture * (1 - k)).astype(np.uint8) for picture, k in zip(scene(1, length + 1), ramp, strict=True)]
    back = [(picture * k).astype(np.uint8) for picture, k in zip(scene(2, length + 1), ramp, strict=True)]
    pictures = scene(1, 1) * 3 + away + back + scene(2, length + 1)[-1:] * 4
    assert cuts_of(tmp_path / "fade.mp4", pictures) == [0]


def test_a_dissolve_is_no_cut(tmp_path: Path) -> None:
    a, b = scene(1, 13), scene(2, 13)
    mixed = [(x * (1 - i / 12) + y * (i / 12)).astype(np.uint8) for i, (x, y) in enumerate(zip(a, b, strict=True))]
    assert cuts_of(tmp_path / "d.mp4", a[:1] * 3 + mixed + b[-1:] * 3) == [0]


def test_a_cut_from_black_is_found(tmp_path: Path) -> None:
    pictures = [np.zeros((SIZE[1], SIZE[0], 3), np.uint8)] * 6 + scene(2, 8)
    assert cuts_of(tmp_path / "b.mp4", pictures) == [0, 6]


@pytest.mark.parametrize("levels", [(60, 180), (16, 60), (235, 128)])
def test_a_cut_between_plain_pictures_is_found(tmp_path: Path, levels: tuple[int, int]) -> None:
    pictures = [np.full((SIZE[1], SIZE[0], 3), level, np.uint8) for level in levels for _ in range(6)]
    assert cuts_of(tmp_path / "p.mp4", pictures) == [0, 6]


def test_a_plain_flash_and_a_plain_fade_are_no_cuts(tmp_path: Path) -> None:
    levels = [16] * 6 + [240] + [16] * 6 + list(range(16, 240, 16)) + [240] * 4
    pictures = [np.full((SIZE[1], SIZE[0], 3), level, np.uint8) for level in levels]
    assert cuts_of(tmp_path / "p.mp4", pictures) == [0]


def test_shots_of_two_frames_are_found(tmp_path: Path) -> None:
    pictures = scene(1, 5) + scene(2, 2) + scene(3, 2) + scene(4, 5)
    assert cuts_of(tmp_path / "m.mp4", pictures) == [0, 5, 7, 9]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_short_streams_come_through_whole(count: int) -> None:
    picture = Picture((np.zeros((2, 3), np.uint8),), "gray", ColorTags())
    marked = list(mark_cuts(Frame(i, i, 1, picture) for i in range(count)))
    assert [frame.cut for frame in marked] == [True, False][:count]
    with pytest.raises(ValueError, match="mode"):
        list(mark_cuts([], mode="maybe"))
