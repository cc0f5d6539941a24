"""A dry run makes the checks of the run, counts what decodes, and says how long it takes."""

import os

import pytest
from typer.testing import CliRunner

from stvsr_cli.cli import app
from tests.clips import make_video, pattern

QUICK = ("--model", "linear", "--preset", "ultrafast", "--scale", "2")


def clip(path, count=20):
    return make_video(path, [pattern(i, 32, 32) for i in range(count)])


def dry(*arguments):
    return CliRunner().invoke(app, ["upscale", *map(str, arguments), *QUICK, "--dry-run"])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--start", "99"), 3, "no frame at or after --start"),
        (("--model", "nosuch"), 5, "nosuch"),
        (("--prompt", "a cat"), 2, "--prompt is not an option"),
        (("--encoder-option", "nosuch=1"), 2, "nosuch"),
        (("--codec", "nosuch"), 4, "nosuch"),
    ],
)
def test_it_ends_as_the_run_would(tmp_path, arguments, code, said):
    source, target = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    options = [*QUICK, *arguments] if "--model" not in arguments else [*QUICK[2:], *arguments]
    run = CliRunner().invoke(app, ["upscale", str(source), str(target), *options])
    rehearsed = CliRunner().invoke(app, ["upscale", str(source), str(target), *options, "--dry-run"])
    assert (run.exit_code, rehearsed.exit_code) == (code, code)
    assert said in run.stderr and said in rehearsed.stderr
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_frames_are_counted_and_the_time_is_told(tmp_path):
    result = dry(clip(tmp_path / "in.mp4"), tmp_path / "out.mp4", "--start", "0.2", "--end", "0.6")
    assert result.exit_code == 0, result.stderr
    assert "64x64, 50 fps, 20 frames" in result.stdout
    assert "time      about" in result.stdout and "by a short trial" in result.stdout
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_a_file_whose_header_promises_more_than_there_is(tmp_path):
    whole = clip(tmp_path / "whole.mkv", 200).read_bytes()
    (tmp_path / "in.mkv").write_bytes(whole[: len(whole) // 4])
    result = dry(tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert result.exit_code == 0, result.stderr
    (line,) = [line for line in result.stdout.splitlines() if "64x64" in line]
    frames = int(line.rpartition(", ")[2].split()[0])
    assert 10 < frames < 250
    run = CliRunner().invoke(app, ["upscale", str(tmp_path / "in.mkv"), str(tmp_path / "out.mp4"), *QUICK])
    assert f"{frames} frames" in run.stderr
