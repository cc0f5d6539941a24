"""Comparing: frames of the same moment meet, and each measure says what it should of real files."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from stvsr_cli.cli import app
from stvsr_cli.cli.compare import sparkline
from stvsr_cli.compare.compare import CompareConfig, compare
from stvsr_cli.compare.moments import Shown, in_step
from stvsr_cli.errors import UsageError
from stvsr_cli.media.vmaf import has_vmaf
from tests.clips import make_video, pattern

ALMOST_ALL = frozenset({"psnr", "ssim", "sharpness", "flicker", "weave"})


def evenly(rate: Fraction, count: int) -> list[Shown[int]]:
    return [Shown(i / rate, 1 / rate, i) for i in range(count)]


def test_of_twice_the_rate_every_other_frame_is_taken() -> None:
    pairs = list(in_step(iter(evenly(Fraction(25), 10)), [iter(evenly(Fraction(50), 20))]))
    assert [(a.frame, b.frame) for a, (b,) in pairs] == [(i, 2 * i) for i in range(10)]


@settings(deadline=None)
@given(st.integers(10, 60), st.integers(0, 60), st.integers(1, 40))
def test_no_frame_is_further_away_than_half_a_frame(slow: int, more: int, count: int) -> None:
    coarse, fine = Fraction(slow), Fraction(slow + more)
    other = evenly(fine, int(count * fine / coarse) + 1)
    pairs = list(in_step(iter(evenly(coarse, count)), [iter(other)]))
    assert len(pairs) == count
    for shown, (near,) in pairs:
        assert abs(shown.time - near.time) == min(abs(shown.time - o.time) for o in other)
        assert abs(shown.time - near.time) <= 1 / (2 * fine)


def test_it_ends_with_the_shortest() -> None:
    pairs = list(in_step(iter(evenly(Fraction(10), 10)), [iter(evenly(Fraction(20), 9))]))
    assert [a.frame for a, _ in pairs] == [0, 1, 2, 3, 4]
    assert list(in_step(iter(evenly(Fraction(10), 3)), [iter([])])) == []


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A small half-rate video, one enlarged from it by repeating pixels, and the original."""
    original = [pattern(i, 192, 128, 2) for i in range(8)]
    small = [p.reshape(32, 4, 48, 4, 3).mean((1, 3)).round().astype(np.uint8) for p in original[::2]]
    blocky = [s.repeat(4, 0).repeat(4, 1) for s in small for _ in range(2)]
    return (
        make_video(tmp_path / "small.mp4", small, rate=10),
        make_video(tmp_path / "blocky.mp4", blocky, rate=20),
        make_video(tmp_path / "original.mp4", original, rate=20),
    )


def test_a_video_is_like_itself(clips: tuple[Path, Path, Path]) -> None:
    *_, original = clips
    result = compare(original, original, original, CompareConfig(measures=ALMOST_ALL))
    for track in result.tracks:
        values = track.values()
        assert values["psnr"] == pytest.approx(100, abs=0.1)
        assert values["ssim"] == pytest.approx(1)
        assert values["sharpness"] == pytest.approx(1)
        assert values["flicker"] == pytest.approx(1)


def test_against_an_original_the_better_one_wins(clips: tuple[Path, Path, Path]) -> None:
    small, blocky, original = clips
    result = compare(small, blocky, original, CompareConfig(measures=ALMOST_ALL))
    by_video = {track.video: track for track in result.tracks}
    assert [len(by_video[v].rows) for v in "AB"] == [4, 8]
    a, b = (by_video[v].values() for v in "AB")
    assert a["psnr"] > b["psnr"]  # smooth where the other has blocks, and B holds every second frame
    assert b["weave"] > a["weave"]
    assert b["flicker"] > a["flicker"]
    assert any("A is enlarged to 192x128" in note for note in result.notes)


def test_without_an_original_b_is_held_against_a(clips: tuple[Path, Path, Path]) -> None:
    small, blocky, _ = clips
    result = compare(small, blocky, config=CompareConfig(measures=ALMOST_ALL))
    assert [(t.video, t.against, len(t.rows)) for t in result.tracks] == [("A", None, 4), ("B", None, 8), ("B", "A", 4)]
    assert set(result.tracks[2].values()) == {"psnr", "ssim"}
    assert any("10 and 20 fps" in note for note in result.notes)


def test_rotation_and_parts_and_lengths(tmp_path: Path) -> None:
    pictures = [pattern(i, 96, 64, 2) for i in range(10)]
    upright = make_video(tmp_path / "upright.mp4", pictures)
    turned = make_video(tmp_path / "turned.mp4", [np.rot90(p, -1) for p in pictures[:7]], rotation=90)
    result = compare(upright, turned, config=CompareConfig(measures=frozenset({"psnr"})))
    assert result.clips["B"].size == (96, 64)
    assert len(result.tracks[0].rows) == 7
    assert result.tracks[0].values()["psnr"] > 35
    assert any("Lengths differ" in note for note in result.notes)
    part = CompareConfig(measures=frozenset({"psnr"}), start=Fraction(2, 25), end=Fraction(5, 25))
    assert len(compare(upright, turned, config=part).tracks[0].rows) == 3


@pytest.mark.skipif(not has_vmaf(), reason="the FFmpeg binary lacks libvmaf")
def test_vmaf_comes_frame_by_frame(clips: tuple[Path, Path, Path]) -> None:
    small, blocky, original = clips
    result = compare(original, blocky, original, CompareConfig(measures=frozenset({"vmaf"})))
    same, worse = (track.values()["vmaf"] for track in result.tracks)
    assert [len([row for row in track.rows if "vmaf" in row]) for track in result.tracks] == [8, 8]
    assert same > 95 > worse + 20


def test_the_command_prints_json(clips: tuple[Path, Path, Path]) -> None:
    small, blocky, _ = map(str, clips)
    run = CliRunner().invoke(
        app, ["compare", small, blocky, "--json", "--measures", "psnr,weave", "--progress", "none"]
    )
    assert run.exit_code == 0
    found = json.loads(run.stdout)
    assert found["videos"]["A"]["frames"] == 4
    assert [frame["time"] for frame in found["tracks"][-1]["frames"]] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_the_table_fits_80_columns(clips: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    small, blocky, _ = map(str, clips)
    run = CliRunner().invoke(app, ["compare", small, blocky, "--measures", "psnr,ssim", "--progress", "none"])
    assert run.exit_code == 0
    assert "48x32" in run.stdout and "SSIM" in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 80


def test_what_is_wrong_is_said(clips: tuple[Path, Path, Path], tmp_path: Path) -> None:
    small = str(clips[0])
    run = CliRunner().invoke(app, ["compare", small, str(tmp_path / "none.mp4")])
    assert run.exit_code == 3
    with pytest.raises(UsageError, match="beauty"):
        CompareConfig(measures=frozenset({"beauty"}))


def test_a_plot_rises_from_the_lowest_to_the_highest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([3.0, 3.0]) == "▁▁"
    assert sparkline([]) == ""
    assert len(sparkline([float(i) for i in range(1000)])) == 20
