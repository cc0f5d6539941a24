"""The comparison's page in a real browser: both videos at the same frame, whatever moves them, and no error."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stvsr_cli.compare.compare import CompareConfig, compare
from stvsr_cli.compare.page import check_page, write_page
from stvsr_cli.errors import OutputError, UsageError
from tests.browser import Page, browser, find_chromium
from tests.clips import make_video, pattern

needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="needs Chromium: apt-get install chromium")

READ = """([video, letter]) => {
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
  canvas.width = 64; canvas.height = 8;
  pen.drawImage(video, 0, 0, video.videoWidth, video.videoHeight / 8, 0, 0, 64, 8);
  const pixels = pen.getImageData(0, 4, 64, 1).data;
  let number = 0;
  for (let bit = 0; bit < 8; bit++) if (pixels[4 * (8 * bit + 4)] > 128) number += 1 << bit;
  return [letter, number];
}"""
"""Reads the number that `numbered` drew into a frame."""


def numbered(count: int, width: int, height: int, speed: int) -> list[np.ndarray]:
    """Pictures whose top rows hold their number in black and white squares."""
    pictures = []
    for index in range(count):
        picture = pattern(index, width, height, speed)
        for bit in range(8):
            picture[: height // 8, bit * width // 8 : (bit + 1) * width // 8] = 255 if index >> bit & 1 else 0
        pictures.append(picture)
    return pictures


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    small = make_video(folder / "in & out.mp4", numbered(20, 96, 64, 2), rate=10)
    large = make_video(folder / "large.mkv", numbered(40, 192, 128, 1), rate=20, codec="mpeg4", options={"qscale": "2"})
    target = folder / "page.html"
    write_page(compare(small, large, config=CompareConfig(measures=frozenset({"psnr", "sharpness"}))), target)
    return target


def shown(page: Page) -> dict[str, int]:
    page.until("active().every(([v]) => !v.seeking && v.readyState >= 2)")
    return dict(page.eval(f"active().map({READ})"))


def test_the_page_is_one_file_that_asks_for_nothing(page_file: Path) -> None:
    text = page_file.read_text()
    assert "in &amp; out.mp4 against large.mkv" in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)
    assert "default-src 'none'" in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    assert data["videos"]["A"]["inside"] == "the file itself"
    assert data["videos"]["B"]["inside"] == "encoded anew with libx264"
    assert data["videos"]["B"]["times"] == pytest.approx([i / 20 for i in range(40)], abs=1e-6)
    assert {s["measure"] for s in data["series"]} == {"psnr", "sharpness"}


def test_a_page_is_not_written_over_another(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        check_page(tmp_path / "page.html", overwrite=False)
    with pytest.raises(UsageError, match="end in .html"):
        check_page(tmp_path / "page.mp4", overwrite=False)


@pytest.fixture(scope="module")
def opened(page_file: Path) -> Iterator[Page]:
    with browser() as page:
        page.view(1200, 900)
        page.open(page_file)
        yield page


@pytest.fixture
def page(opened: Page) -> Iterator[Page]:
    opened.view(1200, 900)
    opened.eval("pause(), setMode('slider'), setZoom(0), state.split = 0.5, layout(), seek(0)")
    yield opened
    assert opened.errors == []


@needs_chromium
def test_both_videos_step_together(page: Page) -> None:
    assert shown(page) == {"A": 0, "B": 0}
    for _ in range(3):
        page.key("ArrowRight")
    assert shown(page) == {"A": 1, "B": 3}
    page.key("ArrowLeft")
    assert shown(page) == {"A": 1, "B": 2}
    page.key("End")
    assert shown(page) == {"A": 19, "B": 39}
    page.key("Home")
    assert shown(page) == {"A": 0, "B": 0}


@needs_chromium
def test_every_frame_can_be_had(page: Page) -> None:
    for frame in (1, 8, 17, 30, 38):
        page.eval(f"seek({frame} / 20)")
        assert shown(page) == {"A": frame // 2, "B": frame}


@needs_chromium
def test_the_plot_seeks(page: Page) -> None:
    page.eval("document.getElementById('plot').scrollIntoView()")
    x, y, wide = page.eval("(r => [r.x, r.y, r.width])(document.getElementById('plot').getBoundingClientRect())")
    left, right = page.eval("[pad.left, pad.right]")
    page.drag((x + left, y + 60), (x + left + 0.5 * (wide - left - right) + 2, y + 60))
    assert shown(page) == {"A": 10, "B": 20}
    assert page.eval("document.getElementById('clock').textContent").startswith("0:01.000")
    page.eval("scrollTo(0, 0)")


@needs_chromium
def test_the_divider_follows_the_mouse(page: Page) -> None:
    x, y, wide, tall = page.eval("(r => [r.x, r.y, r.width, r.height])(stage.getBoundingClientRect())")
    page.drag((x + wide / 2, y + tall / 2), (x + wide / 4, y + tall / 2))
    assert page.eval("state.split") == pytest.approx(0.25, abs=0.01)
    assert page.eval("parseFloat(slider.style.left) / stage.clientWidth") == pytest.approx(0.25, abs=0.01)
    page.key("]", "]")
    assert page.eval("state.split") == pytest.approx(0.3, abs=0.01)


@needs_chromium
def test_zoom_keeps_the_place_and_pans(page: Page) -> None:
    page.key("8", "8")
    place = "(r => [r.x, r.width])(active()[1][0].getBoundingClientRect())"
    x, wide = page.eval(place)
    assert wide == pytest.approx(192 * 8, abs=1)
    left, top, stage_wide, tall = page.eval("(r => [r.x, r.y, r.width, r.height])(stage.getBoundingClientRect())")
    page.drag((left + 150, top + tall / 2), (left + 110, top + tall / 2))
    assert page.eval(place)[0] == pytest.approx(x - 40, abs=1)
    page.eval("setZoom(4)")
    page.mouse("mouseWheel", left + 300, top + 200, deltaX=0, deltaY=-120)
    page.until("state.zoom > 4.1")
    assert page.eval("state.zoom") < 8
    page.key("0", "0")
    assert page.eval("active()[0][0].getBoundingClientRect().height") <= tall + 1
    first, second = (page.eval(f"(r => [r.x, r.y, r.width])(active()[{i}][0].getBoundingClientRect())") for i in (0, 1))
    assert first == second


@needs_chromium
def test_playing_keeps_both_in_step(page: Page) -> None:
    page.key(" ", " ")
    page.until("state.time > 0.6", 30)
    page.key(" ", " ")
    frames = shown(page)
    assert frames["B"] // 2 == frames["A"]
    assert page.eval("state.playing") is False


@needs_chromium
def test_sides_beside_each_other_and_their_difference(page: Page) -> None:
    page.key("v", "v")
    left, right = page.eval(
        "['left', 'right'].map((s) => document.getElementById('layer-' + s).getBoundingClientRect().x)"
    )
    assert right - left == pytest.approx(page.eval("stage.clientWidth") / 2, abs=1)
    page.key("v", "v")
    assert page.eval("getComputedStyle(document.getElementById('layer-right')).mixBlendMode") == "difference"
    page.key("x", "x")
    assert page.eval("[state.left, state.right]") == ["B", "A"]
    page.key("x", "x")


@needs_chromium
@pytest.mark.parametrize("dark", [True, False])
def test_a_phone_shows_all_of_it(page: Page, dark: bool) -> None:
    page.view(360, 740, dots=2, dark=dark, phone=True)
    page.until("stage.clientWidth < 360")
    assert page.eval("document.documentElement.scrollWidth") <= 360
    assert page.eval("stage.clientWidth") > 300
    button = page.eval("(r => [r.width, r.height])(document.getElementById('play').getBoundingClientRect())")
    assert min(button) >= 36


@needs_chromium
def test_the_original_can_stand_on_either_side(page: Page, page_file: Path, tmp_path: Path) -> None:
    clips = [make_video(tmp_path / f"{name}.mp4", numbered(6, 96, 64, 2)) for name in ("one", "other", "original")]
    target = tmp_path / "page.html"
    write_page(compare(*clips, CompareConfig(measures=frozenset({"psnr"}))), target)
    page.open(target)
    page.eval("document.querySelector('#pick-right [data-value=R]').click()")
    page.key("ArrowRight")
    assert shown(page) == {"A": 1, "R": 1}
    page.key("x", "x")
    pressed = "['left', 'right'].map((s) => document.querySelector(`#pick-${s} [aria-pressed=true]`).dataset.value)"
    assert page.eval(pressed) == ["R", "A"]
    assert page.eval("document.getElementById('name-left').textContent") == "original.mp4"
    page.open(page_file)
