"""How strongly a video was degraded is told by a look at it: from real film, coded well and badly."""

from pathlib import Path

import numpy as np
import pytest

from stvsr_cli.media.read.degradation import STRETCHES, estimated, luma, statistics, with_degradation
from stvsr_cli.media.read.picture import Picture
from stvsr_cli.media.read.probe import ColorTags, probe
from tests.clips import BUNNY, make_video
from tests.zoo import made

SMALL = "scale=240:136:flags=area"
WORN = "gblur=sigma=1.2,noise=alls=12:allf=t"
"""Blur and noise at the small size."""


def told(path: Path) -> float:
    found = with_degradation(probe(path)).degradation
    assert found is not None
    return found


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return made(tmp_path / "clean.mp4", "-i", BUNNY, "-vf", SMALL, "-c:v", "libx264", "-crf", "10", "-an")


@pytest.mark.parametrize("more", [(WORN, "28"), ("null", "36"), (WORN, "16"), ("gblur=sigma=1.5", "30")])
def test_what_was_degraded_is_told_from_what_was_not(tmp_path: Path, clean: Path, more: tuple[str, str]) -> None:
    filters, crf = more
    worn = made(tmp_path / "worn.mp4", "-i", BUNNY, "-vf", f"{SMALL},{filters}", "-c:v", "libx264", "-crf", crf, "-an")
    assert told(worn) > told(clean) + 0.15


def test_the_same_pictures_tell_the_same_however_they_come(tmp_path: Path, clean: Path) -> None:
    deep = made(tmp_path / "deep.mkv", "-i", clean, "-c:v", "ffv1", "-pix_fmt", "yuv420p10le")
    full = made(tmp_path / "full.mkv", "-i", clean, "-vf", "scale=out_range=full", "-c:v", "ffv1", "-color_range", "pc")
    rgb = made(tmp_path / "rgb.mkv", "-i", clean, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    assert told(deep) == pytest.approx(told(clean), abs=0.06)  # other frames can be come to
    for path in (full, rgb):
        assert told(path) == pytest.approx(told(clean), abs=0.12)


def test_a_look_is_at_a_few_frames_only(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stvsr_cli.media.read import degradation

    seen: list[Picture] = []
    monkeypatch.setattr(degradation, "luma", lambda picture: seen.append(picture) or luma(picture))
    told(clean)
    assert 0 < len(seen) <= STRETCHES * degradation.LENGTH


def test_what_shows_nothing_is_taken_for_clean(tmp_path: Path) -> None:
    black = make_video(tmp_path / "black.mp4", [np.zeros((96, 160, 3), np.uint8)] * 4)
    tiny = make_video(tmp_path / "tiny.mp4", [np.full((32, 32, 3), 99, np.uint8)] * 4)
    assert told(black) == 0 and told(tiny) == 0


def test_brightness_of_all_formats() -> None:
    white = {"yuv420p": 235, "yuv420p10le": 940, "gray": 235, "gbrp": 255, "gbrp10le": 1020}
    for pix_fmt, code in white.items():
        plane = np.full((4, 4), code, np.uint16 if pix_fmt.endswith("le") else np.uint8)
        color = ColorTags(matrix=0, range=2) if pix_fmt.startswith("gbrp") else ColorTags()
        assert luma(Picture((plane,) * 3, pix_fmt, color)) == pytest.approx(1, abs=0.01)


def test_statistics_have_one_length_and_are_numbers() -> None:
    rng = np.random.default_rng(0)
    lengths = set()
    for shape in ((1, 64, 64), (4, 64, 300), (2, 540, 70), (3, 96, 160)):
        found = statistics(rng.random(shape, dtype=np.float32))
        assert np.isfinite(found).all()
        lengths.add(len(found))
    assert len(lengths) == 1


def test_one_picture_tells_something(clean: Path, tmp_path: Path) -> None:
    plain = luma_of(clean)
    noisy = np.clip(plain + np.random.default_rng(0).normal(0, 0.04, plain.shape), 0, 1)
    pictures = [Picture((np.rint(16 + 219 * y).astype(np.uint8),), "gray", ColorTags()) for y in (plain, noisy)]
    before, after = (estimated([iter([picture])]) for picture in pictures)
    assert after > before


def luma_of(path: Path) -> np.ndarray:
    from stvsr_cli.media.read.decode import decode

    return luma(next(iter(decode(probe(path)))).picture)
