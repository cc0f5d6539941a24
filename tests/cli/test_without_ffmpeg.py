"""The commands on a machine without the FFmpeg binary: they work, and say what they leave out."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from stvsr_cli.cli import app
from stvsr_cli.media.ffmpeg import NAMED
from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.vmaf import has_vmaf
from tests.clips import BUNNY, make_video, pattern
from tests.zoo import made

CUES = "1\n00:00:00,100 --> 00:00:00,300\nHello\n"


@pytest.fixture
def subtitled(tmp_path: Path) -> Path:
    """A short clip with text subtitles, made while the binary is there."""
    (tmp_path / "cues.srt").write_text(CUES)
    clip = make_video(tmp_path / "plain.mp4", [pattern(i, 64, 48) for i in range(6)])
    return made(tmp_path / "in.mkv", "-i", str(clip), "-i", str(tmp_path / "cues.srt"), "-c:v", "copy", "-c:s", "srt")


@pytest.fixture
def missing(subtitled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(NAMED, str(tmp_path / "nothing"))
    has_vmaf.cache_clear()
    yield
    has_vmaf.cache_clear()


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


def test_a_video_is_upscaled_and_the_subtitles_left_out(missing, subtitled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    arguments = ("upscale", subtitled, out, "--model", "linear")
    rehearsed = run(*arguments, "--dry-run")
    assert rehearsed.exit_code == 0 and "converting srt needs the FFmpeg" in rehearsed.stdout
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert "subtitle stream 1 is dropped: converting srt needs the FFmpeg binary" in result.stderr
    assert probe(out).num_frames and not probe(out).streams


def test_comparing_leaves_out_vmaf(missing, tmp_path: Path) -> None:
    result = run("compare", BUNNY, BUNNY, "--json", "--progress", "none")
    assert result.exit_code == 0, result.stderr
    assert "No VMAF: the FFmpeg binary is missing" in json.dumps(json.loads(result.stdout))


def test_a_preview_refuses_the_loop_alone(missing, subtitled: Path, tmp_path: Path) -> None:
    sheet, loop = tmp_path / "sheet.png", tmp_path / "loop.gif"
    arguments = ("preview", subtitled, "--model", "linear", "--moments", "1", "--out", sheet, "--progress", "none")
    refused = run(*arguments, "--clip", loop)
    assert refused.exit_code == 4 and "--clip needs the FFmpeg binary" in refused.stderr and not sheet.exists()
    assert run(*arguments).exit_code == 0 and sheet.exists()


def test_the_doctor_says_what_it_is_missed_for(missing) -> None:
    result = run("doctor", "--device", "cpu", "--json")
    assert result.exit_code == 0
    check = next(check for check in json.loads(result.stdout) if check["name"] == "ffmpeg")
    assert check["state"] == "warning" and "no VMAF" in check["said"] and NAMED in check["advice"]
