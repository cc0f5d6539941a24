"""Rates as people write them, on the command line, in a configuration and in another file's record."""

from fractions import Fraction

import pytest
from typer.testing import CliRunner

from stvsr_cli.cli import app
from stvsr_cli.cli.values import parse_pace, parse_rate
from stvsr_cli.errors import UsageError
from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.record import read_record
from tests.clips import make_video, pattern, sequence


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("60", Fraction(60)),
        ("60.0", Fraction(60)),
        (" 25 ", Fraction(25)),
        ("60000/1001", Fraction(60000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        ("23.976", Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("119.88", Fraction(120000, 1001)),
        ("12.5", Fraction(25, 2)),
        ("59.9", Fraction(599, 10)),
    ],
)
def test_rates_are_read_as_they_are_meant(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "fast", "60fps", "60 fps", "-1", "+1", "1e3", "nan", "inf", "1/0", "0x3c", "६०", "6_0"]
)
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(UsageError, match="not a frame rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("fps", "factor", "slower", "comes_to"),
    [
        (None, None, 1, (2, None)),
        (None, "4", 1, (4, None)),
        (None, "5/2", 1, (Fraction(5, 2), None)),
        (None, None, 3, (3, None)),
        (None, None, Fraction(3, 2), (Fraction(3, 2), None)),
        (None, "4", 2, (4, None)),
        (None, "1", 2, (2, None)),
        ("3x", None, 1, (3, None)),
        ("1X", None, 2, (2, None)),
        ("0.5x", None, 1, (Fraction(1, 2), None)),
        ("60", None, 1, (2, Fraction(60))),
        ("60", None, 4, (4, Fraction(60))),
    ],
)
def test_what_is_asked_for(fps, factor, slower, comes_to):
    assert parse_pace(fps, factor, Fraction(slower)) == comes_to


def run(*arguments):
    plain = ("--model", "linear", "--scale", "1", "--preset", "ultrafast", "--no-space-check")
    return CliRunner().invoke(app, ["upscale", *map(str, arguments), *plain])


@pytest.fixture
def clip(tmp_path):
    return make_video(tmp_path / "in.mp4", [pattern(i, 48, 32) for i in range(20)], rate=20)


def test_a_rate_and_what_the_output_says_of_it(tmp_path, clip):
    assert run(clip, tmp_path / "a.mp4", "--fps", "59.94").exit_code == 0
    info = probe(tmp_path / "a.mp4")
    assert (info.average_rate, info.num_frames) == (Fraction(60000, 1001), 60)
    assert read_record(tmp_path / "a.mp4").options["target_fps"] == "60000/1001"
    assert run(clip, tmp_path / "b.mp4", "--like", tmp_path / "a.mp4").exit_code == 0
    assert probe(tmp_path / "b.mp4").average_rate == Fraction(60000, 1001)
    assert run(clip, tmp_path / "c.mp4", "--like", tmp_path / "a.mp4", "--fps-factor", "1").exit_code == 0
    assert probe(tmp_path / "c.mp4").average_rate == 20  # what is given replaces what the other file was made with


@pytest.mark.parametrize(
    ("arguments", "rate", "count"),
    [
        (("--fps", "1.5x"), 30, 30),
        (("--fps", "0.5x"), 10, 10),
        (("--slow-motion", "3"), 20, 60),
        (("--slow-motion", "1.5"), 20, 30),
        (("--slow-motion", "2", "--fps", "50"), 50, 100),
        (("--slow-motion", "2", "--fps", "2x"), 40, 80),
    ],
)
def test_what_is_written_again_like_another(tmp_path, clip, arguments, rate, count):
    assert run(clip, tmp_path / "a.mp4", *arguments).exit_code == 0
    assert run(clip, tmp_path / "b.mp4", "--like", tmp_path / "a.mp4").exit_code == 0
    for name in ("a.mp4", "b.mp4"):
        info = probe(tmp_path / name)
        assert (info.average_rate, info.num_frames) == (rate, count)


def test_a_configuration_has_rates(tmp_path, clip, monkeypatch):
    (tmp_path / "stvsr.toml").write_text("[upscale]\nfps = 40\nslow_motion = 2\n")
    monkeypatch.chdir(tmp_path)
    assert run(clip, "a.mp4").exit_code == 0
    assert (probe(tmp_path / "a.mp4").average_rate, probe(tmp_path / "a.mp4").num_frames) == (40, 80)
    assert run(clip, "b.mp4", "--fps-factor", "1", "--slow-motion", "1").exit_code == 0
    assert probe(tmp_path / "b.mp4").average_rate == 20


def test_pictures_take_a_rate_to_be_read_at(tmp_path):
    sequence(tmp_path / "in", 12)
    assert run(tmp_path / "in", tmp_path / "a.mp4", "--fps", "12").exit_code == 0
    assert run(tmp_path / "in", tmp_path / "b.mp4", "--fps", "30", "--input-fps", "12").exit_code == 0
    assert run(tmp_path / "in", tmp_path / "c.mp4", "--fps", "3x").exit_code == 0
    rates = [probe(tmp_path / name).average_rate for name in ("a.mp4", "b.mp4", "c.mp4")]
    assert rates == [24, 30, 75]


def test_a_batch_has_names_and_rates(tmp_path, clip):
    folder = tmp_path / "out"
    folder.mkdir()
    options = ("--fps", "30", "--name-template", "{stem}_{fps}_{fps_factor}{suffix}")
    assert run(clip, f"{folder}/", *options).exit_code == 0
    assert probe(folder / "in_30_1.5.mp4").num_frames == 30
    again = run(clip, f"{folder}/", *options, "--skip-existing")
    assert again.exit_code == 0 and "skipped" in again.stderr


def test_a_dry_run_says_what_is_made(tmp_path, clip):
    said = run(clip, tmp_path / "a.mp4", "--fps", "50", "--slow-motion", "2", "--dry-run")
    assert said.exit_code == 0 and "50 fps, 100 frames" in said.stdout
