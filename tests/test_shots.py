"""Cuts are found, and what is none is left alone."""

from pathlib import Path

import numpy as np
import pytest

from stvsr_cli.media.decode import decode
from stvsr_cli.media.probe import probe
from stvsr_cli.media.shots import mark_cuts
from tests.clips import make_video, pattern

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
    frames = mark_cuts(decode(probe(Path(__file__).parent / "bunny.mp4")))
    assert [frame.index for frame in frames if frame.cut] == [0]


@pytest.mark.parametrize("speed", [3, 8, 16])
def test_a_pan_is_no_cut(tmp_path: Path, speed: int) -> None:
    assert cuts_of(tmp_path / "p.mp4", [pattern(i, *SIZE, speed=speed) for i in range(30)]) == [0]


def test_a_flash_is_no_cut_to_a_new_scene_and_back(tmp_path: Path) -> None:
    pictures = scene(1, 20)
    pictures[10] = np.full_like(pictures[10], 250)
    assert len(cuts_of(tmp_path / "f.mp4", pictures)) <= 2


def test_a_fade_is_no_cut(tmp_path: Path) -> None:
    still = scene(1, 1)[0]
    pictures = [(still * (1 - i / 25)).astype(np.uint8) for i in range(26)]
    assert cuts_of(tmp_path / "fade.mp4", pictures) == [0]
