"""Black bars: found where there are some, in every format, and nothing else is taken for them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stvsr_cli.media.read.bars import find_bars, with_bars
from stvsr_cli.media.read.black import black_codes, has_picture
from stvsr_cli.media.read.decode import PLANAR, decode
from stvsr_cli.media.read.picture import Picture
from stvsr_cli.media.read.probe import ColorTags, probe
from stvsr_cli.media.read.sampler import spread
from tests.clips import BUNNY, make_video, pattern, read_frames

BUNNIES = [np.ascontiguousarray(picture[::2, ::2]) for picture in read_frames(BUNNY)[0]]
"""Frames of 160x90."""
CODED = {"crf": "26", "preset": "veryfast", "g": "10"}


def boxed(picture: np.ndarray, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0) -> np.ndarray:
    return np.pad(picture, ((top, bottom), (left, right), (0, 0)))


def bars_of(path: Path, mode: str = "auto") -> tuple[int, int, int, int]:
    return with_bars(probe(path), mode).bars


def textured(
    pix_fmt: str, size: tuple[int, int], bars: tuple[int, int, int, int], *, full: bool, sigma: float, seed: int
) -> Picture:
    """A picture of noise with bars around it, and faint noise all over."""
    generator = np.random.default_rng(seed)
    color = ColorTags(matrix=0 if pix_fmt.startswith("gbrp") else 1, range=2 if full else 1)
    bits = 10 if pix_fmt.endswith("10le") else 8
    unit, (height, width), (left, top, right, bottom) = 2 ** (bits - 8), size, bars
    small = "420" in pix_fmt, "420" in pix_fmt or "422" in pix_fmt
    planes = []
    for number in range(1 if pix_fmt.startswith("gray") else 3):
        tall, wide = (1 + (number > 0 and halved) for halved in small)
        black = black_codes(pix_fmt, is_full_range=full)[number > 0]
        plane = np.full((-(-height // tall), -(-width // wide)), float(black))
        inside = plane[-(-top // tall) : (height - bottom) // tall, -(-left // wide) : (width - right) // wide]
        inside[:] = generator.integers(60 * unit, 200 * unit, inside.shape)
        plane += generator.normal(0, sigma * unit, plane.shape)
        planes.append(plane.round().clip(0, 2**bits - 1).astype(np.uint16 if bits > 8 else np.uint8))
    return Picture(tuple(planes), pix_fmt, color)


@given(
    pix_fmt=st.sampled_from(sorted(PLANAR)),
    bars=st.tuples(*[st.integers(0, 30)] * 4),
    size=st.tuples(st.integers(120, 160), st.integers(120, 160)),
    full=st.booleans(),
    sigma=st.floats(0, 2),
    seed=st.integers(0, 1000),
)
@settings(max_examples=120, deadline=None)
def test_bars_are_found_to_the_line_and_no_picture_is_lost(pix_fmt, bars, size, full, sigma, seed) -> None:
    pictures = [textured(pix_fmt, size, bars, full=full, sigma=sigma, seed=seed + i) for i in range(4)]
    kept, removed = find_bars(pictures), find_bars(pictures, "remove")
    for found, gone, lines in zip(kept, removed, bars, strict=True):
        assert found % 2 == gone % 2 == 0
        assert found <= lines
        if lines >= 6:
            assert found >= lines - 1 and lines <= gone <= lines + 1


@pytest.mark.parametrize(
    "bars", [(0, 24, 0, 24), (20, 0, 20, 0), (16, 12, 24, 18), (0, 10, 0, 0)], ids=["letter", "pillar", "window", "top"]
)
@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
def test_bars_are_found_in_what_is_coded(tmp_path: Path, bars, codec: str) -> None:
    ways = {"libx264": CODED, "mpeg4": {"qmin": "2", "qmax": "4", "b": "20000000"}}
    options = ways.get(codec, {"x265-params": "log-level=none", "preset": "ultrafast"})
    clip = make_video(tmp_path / "in.mp4", [boxed(p, *bars) for p in BUNNIES], codec=codec, options=options)
    assert all(lines - 2 <= found <= lines for found, lines in zip(bars_of(clip), bars, strict=True))
    info = with_bars(probe(clip))
    assert info.whole_size == (160 + bars[0] + bars[2], 90 + bars[1] + bars[3])
    frame = next(decode(info))
    assert frame.picture.planes[0].shape == (info.height, info.width) and frame.picture.around is None


@pytest.mark.parametrize(("pix_fmt", "color"), [("yuv420p10le", (9, 1)), ("yuv420p", (1, 2)), ("yuv444p10le", (1, 2))])
def test_ranges_and_bits(tmp_path: Path, pix_fmt: str, color: tuple[int, int]) -> None:
    pictures = [boxed(p, 0, 20, 0, 20) for p in BUNNIES[:20]]
    clip = make_video(tmp_path / "in.mkv", pictures, pix_fmt=pix_fmt, color=color, options=CODED)
    assert bars_of(clip) == (0, 20, 0, 20)


def test_faint_noise_in_bars_is_no_picture(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pictures = []
    for picture in BUNNIES[:20]:
        noisy = boxed(picture, 0, 20, 0, 20) + generator.normal(0, 4, (130, 160, 1))
        pictures.append(noisy.clip(0, 255).astype(np.uint8))
    assert bars_of(make_video(tmp_path / "in.mp4", pictures, options=CODED)) == (0, 20, 0, 20)


def dark() -> list[np.ndarray]:
    return [(picture * 0.12).astype(np.uint8) for picture in BUNNIES]


def vignette() -> list[np.ndarray]:
    y, x = np.mgrid[-1:1:90j, -1:1:160j]
    light = (1.1 - np.hypot(x, y)).clip(0, 1)[..., None]
    return [(picture * light).astype(np.uint8) for picture in BUNNIES]


def fades() -> list[np.ndarray]:
    return [(p * min(1, i / 20, (49 - i) / 20)).astype(np.uint8) for i, p in enumerate(BUNNIES)]


def moon() -> list[np.ndarray]:
    y, x = np.mgrid[:90, :160]
    return [
        np.where((np.hypot(x - 80 - i // 5, y - 45) < 35)[..., None], 220, 2).astype(np.uint8).repeat(3, 2)
        for i in range(30)
    ]


def credits() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    page = np.zeros((400, 160), np.uint8)
    for line in range(0, 400, 16):
        half = int(generator.integers(6, 24))
        page[line : line + 8, 80 - half : 80 + half] = (generator.random((8, 2 * half)) < 0.5) * 200
    return [np.roll(page, -2 * i, 0)[:90, :, None].repeat(3, 2) for i in range(30)]


def nothing() -> list[np.ndarray]:
    return [np.zeros((90, 160, 3), np.uint8)] * 20


@pytest.mark.parametrize("made", [dark, vignette, fades, moon, credits, nothing], ids=lambda made: made.__name__)
@pytest.mark.parametrize("mode", ["auto", "remove"])
def test_what_is_dark_is_not_taken_for_bars(tmp_path: Path, made, mode: str) -> None:
    assert not any(bars_of(make_video(tmp_path / "in.mp4", made(), options=CODED), mode))


def test_dark_scenes_and_fades_do_not_hide_bars(tmp_path: Path) -> None:
    pictures = [boxed(p, 0, 20, 0, 20) for p in [*nothing(), *dark(), *fades()]]
    assert bars_of(make_video(tmp_path / "in.mp4", pictures, options=CODED)) == (0, 20, 0, 20)


def test_an_intro_with_smaller_bars_counts(tmp_path: Path) -> None:
    intro = [boxed(pattern(i, 160, 110), 0, 10, 0, 10) for i in range(15)]
    clip = make_video(tmp_path / "in.mp4", [*intro, *(boxed(p, 0, 20, 0, 20) for p in BUNNIES)], options=CODED)
    assert bars_of(clip) == bars_of(clip, "remove") == (0, 10, 0, 10)


def test_an_intro_with_larger_bars_does_not(tmp_path: Path) -> None:
    intro = [boxed(pattern(i, 100, 70), 30, 30, 30, 30) for i in range(30)]
    clip = make_video(tmp_path / "in.mp4", [*intro, *(boxed(p, 0, 20, 0, 20) for p in BUNNIES)], options=CODED)
    assert bars_of(clip) == (0, 20, 0, 20)


def test_a_short_intro_keeps_its_picture_where_bars_are_put_back(tmp_path: Path) -> None:
    rest = [boxed(p, 0, 20, 0, 20) for p in BUNNIES + BUNNIES[::-1]]
    clip = make_video(tmp_path / "in.mp4", [*(pattern(i, 160, 130) for i in range(3)), *rest], options=CODED)
    assert bars_of(clip) == (0, 20, 0, 20) and not any(bars_of(clip, "remove"))
    around = [frame.picture.around for frame in decode(with_bars(probe(clip)))]
    assert all(a is not None and a.planes[0].shape == (130, 160) for a in around[:3])
    assert not any(around[4:])  # one more may show the intro through the codec


def test_subtitles_in_a_bar_are_picture(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    pictures = [boxed(p, 0, 20, 0, 20) for p in BUNNIES]
    for picture in pictures[10:30]:
        picture[116:124, 50:110] = (generator.random((8, 60, 1)) < 0.5) * 230
    clip = make_video(tmp_path / "in.mp4", pictures, options=CODED)
    left, top, right, bottom = bars_of(clip)
    assert (left, top, right) == (0, 20, 0) and bottom <= 6


def test_a_long_video_is_looked_at_here_and_there(tmp_path: Path) -> None:
    pictures = [boxed(BUNNIES[i % 50][:40, :80], 8, 10, 8, 10) for i in range(700)]
    clip = make_video(tmp_path / "in.mp4", pictures, options=CODED)
    assert bars_of(clip) == (8, 10, 8, 10)
    once = make_video(tmp_path / "once.mp4", pictures, options={**CODED, "g": "10000"})  # one keyframe
    assert bars_of(once) == (8, 10, 8, 10)


def test_the_matrix_that_is_assumed_of_the_whole_frame_stays() -> None:
    info = replace(probe(BUNNY), width=320, height=600, color=ColorTags())
    assert info.color.resolved_matrix(320, 600) != info.color.resolved_matrix(320, 400)
    from stvsr_cli.media.read.bars import leaving_out

    left = leaving_out(info, (0, 100, 0, 100), "auto")
    assert (left.width, left.height, left.crop) == (320, 400, (0, 100, 0, 100))
    assert left.color.resolved_matrix(320, 400) == info.color.resolved_matrix(320, 600)


def test_none_is_said_where_they_were_to_go(caplog: pytest.LogCaptureFixture) -> None:
    assert not any(bars_of(BUNNY, "remove"))
    assert "no black bars were found" in caplog.text
    assert with_bars(info := probe(BUNNY), "off") is info
    with pytest.raises(ValueError, match="must be one of"):
        with_bars(info, "maybe")


@given(number=st.integers(1, 96), count=st.integers(1, 5000))
def test_places_are_all_different_and_begin_far_apart(number: int, count: int) -> None:
    places = spread(number, count)
    assert len(set(places)) == len(places) and all(0 <= place < count for place in places)
    if number >= 4 and count >= 400:
        assert abs(places[1] - places[0]) >= count // 3


def test_a_stroke_in_a_bar_is_seen() -> None:
    picture = textured("yuv420p", (120, 120), (0, 20, 0, 20), full=False, sigma=1, seed=0)
    assert not has_picture(picture, (0, 20, 0, 20))
    picture.planes[0][5:9, 40:48] = 200
    assert has_picture(picture, (0, 20, 0, 20))
    assert not has_picture(picture, (0, 4, 0, 20))
