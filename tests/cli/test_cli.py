import json
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from stvsr_cli import __version__
from stvsr_cli.cli import app
from stvsr_cli.cli.progress import make_display
from stvsr_cli.cli.values import parse_count, parse_fit, parse_options, parse_scale, parse_time
from stvsr_cli.errors import UsageError
from stvsr_cli.job.report import Progress
from stvsr_cli.media.read.probe import probe
from tests.clips import BUNNY, make_video, pattern, read_frames

QUICK = ("--model", "linear", "--preset", "ultrafast")


@pytest.fixture
def clip(tmp_path):
    return make_video(tmp_path / "in.mp4", [pattern(i, 48, 32) for i in range(8)], audio_s=0.3)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def upscale(source, target, *arguments):
    return run("upscale", source, target, *QUICK, *arguments)


def one_line(result):
    """The line that says what went wrong."""
    lines = [line for line in result.stderr.replace("\r", "\n").splitlines() if "error:" in line]
    assert len(lines) == 1 and "Traceback" not in result.stderr
    return lines[0]


HEAVY = ("torch", "av", "numpy", "diffusers", "transformers", "huggingface_hub", "PIL", "scipy", "cv2")
"""What takes from a tenth of a second to seconds to import."""


def modules_after(*arguments):
    """The exit code of a command in a process of its own, its errors, and the modules that it imported."""
    code = (
        "import sys\ntry:\n    from stvsr_cli.cli import main; main()\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    *errors, modules = done.stderr.splitlines()
    return done.returncode, "\n".join(errors), set(modules.split())


def test_help_and_version_import_little():
    for arguments in (["--help"], ["upscale", "--help"], ["--version"]):
        code, _, modules = modules_after(*arguments)
        assert code == 0 and not modules & set(HEAVY)
        assert len([name for name in modules if name.startswith("stvsr_cli")]) < 45 and len(modules) < 600
    assert run("--version").stdout == f"stvsr {__version__}\n"


def test_what_cannot_be_done_is_said_before_torch_is_imported(clip, tmp_path):
    there = tmp_path / "there.mp4"
    there.write_bytes(b"something")
    (tmp_path / "text.mp4").write_text("no video")
    for arguments, code, said in (
        ((clip, tmp_path / "out.mp4", "--scale", "99"), 2, "must lie in"),
        ((tmp_path / "none.mp4", tmp_path / "out.mp4"), 3, "No such file"),
        ((tmp_path / "text.mp4", tmp_path / "out.mp4"), 3, "cannot be read"),
        ((clip, there), 4, "exists already"),
        ((clip, tmp_path / "none" / "out.mp4"), 4, "does not exist"),
        ((clip, tmp_path / "out.xyz"), 4, "no container"),
        ((clip, tmp_path / "out.mp4", "--cuts", "maybe"), 2, "maybe"),
    ):
        found, errors, modules = modules_after("upscale", *arguments, "--progress", "none")
        assert (found, said in errors) == (code, True), (arguments, errors)
        assert not modules & {"torch", "diffusers", "transformers"}, arguments
    assert there.read_bytes() == b"something"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "text.mp4", "there.mp4"]


def test_every_command_has_help():
    for command in ([], ["upscale"], ["train"], ["models"], ["models", "list"], ["models", "show"]):
        result = run(*command, "--help")
        assert result.exit_code == 0 and "Usage" in result.stdout


def test_a_video_comes_out(clip, tmp_path):
    result = upscale(clip, tmp_path / "out.mp4", "--progress", "plain", "-v")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "out.mp4: 192x128, 50 fps, 0.3 s, 16 frames; made in " in result.stderr
    assert "8 -> 16 frames in 1 shots" in result.stderr
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height, info.num_frames) == (192, 128, 16)


def test_options_reach_the_result(clip, tmp_path):
    arguments = ("--scale", "1.5", "--fps-factor", "4", "--pix-fmt", "yuv420p10le", "--crf", "30", "--end", "0:00.2")
    result = upscale(clip, tmp_path / "out.mkv", *arguments, "--encoder-option", "g=4", "-q")
    assert result.exit_code == 0 and result.stderr == ""
    info = probe(tmp_path / "out.mkv")
    assert (info.width, info.height, info.bit_depth, info.average_rate) == (72, 48, 10, 100)
    assert len(read_frames(tmp_path / "out.mkv")[0]) == 20


def test_json_progress_is_one_object_a_line(clip, tmp_path):
    result = upscale(clip, tmp_path / "out.mp4", "--progress", "json", "-v")
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    phases = [line["phase"] for line in lines if "phase" in line]
    assert phases[0] == "load" and "upscale" in phases and phases[-1] == "finish"
    last = [line for line in lines if "phase" in line][-1] | {"fps": 1}
    assert last == {"file": "in.mp4", "phase": "finish", "done": 16, "expected": 16, "fps": 1, "eta_s": 0.0}
    assert {"level", "message"} == set(lines[-1])


@pytest.mark.parametrize("kind", ["auto", "rich", "plain", "json", "none"])
def test_displays_show_and_say(kind, capsys):
    display = make_display(kind)
    for done in range(3):
        display.show(Progress("upscale", done, 3, 1.5))
    display.say("warning", "careful [now]")
    display.close()
    shown = capsys.readouterr()
    assert shown.out == "" and "careful [now]" in shown.err


def test_a_dry_run_says_what_would_be_done(tmp_path):
    result = upscale(BUNNY, tmp_path / "out.mp4", "--dry-run", "--tile", "96", "--window", "10")
    assert result.exit_code == 0 and not list(tmp_path.iterdir())
    for words in ("320x180, 25 fps, 50 frames, 2.000 s", "1280x720, 50 fps, 100 frames", "linear on cpu",
                  "6 of 10 frames, overlap 1", "of 96 px", "libx264 yuv420p crf=17", "copy audio aac"):  # fmt: skip
        assert words in result.stdout


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda p: p / "none.mp4", 3, "No such file"),
        (lambda p: p, 3, "folder"),
        (lambda p: _with(p / "a.mp4", b""), 3, "empty"),
        (lambda p: _with(p / "a.mp4", b"not a video " * 100), 3, "cannot be read"),
        (lambda p: Path("/dev/null"), 3, "device"),
        (lambda p: "https://example.org/a.mp4", 3, "local"),
    ],
)
def test_inputs_that_cannot_be_read(make, code, words, tmp_path):
    result = upscale(make(tmp_path), tmp_path / "out.mp4")
    assert result.exit_code == code and words in one_line(result)
    assert not (tmp_path / "out.mp4").exists()


def _with(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--codec", "libnothing"), 4, "libnothing"),
        (("--pix-fmt", "rgb48"), 4, "rgb48"),
        (("--scale", "17"), 2, "[1, 16]"),
        (("--scale", "big"), 2, "big"),
        (("--width", "10000"), 2, "cannot be enlarged"),
        (("--scale", "2", "--height", "64"), 2, "cannot be combined"),
        (("--fps-factor", "0"), 2, "(0, 32]"),
        (("--fps-factor", "33"), 2, "(0, 32]"),
        (("--fps-factor", "-2"), 2, "not a number"),
        (("--fps", "0"), 2, "(0, 1000]"),
        (("--fps", "-30"), 2, "not a frame rate"),
        (("--fps", "nan"), 2, "not a frame rate"),
        (("--fps", "inf"), 2, "not a frame rate"),
        (("--fps", "60fps"), 2, "not a frame rate"),
        (("--fps", "60/0"), 2, "not a frame rate"),
        (("--fps", ""), 2, "not a frame rate"),
        (("--fps", "1e3"), 2, "not a frame rate"),
        (("--fps", "1001"), 2, "(0, 1000]"),
        (("--fps", "9" * 400), 2, "too fast"),
        (("--fps", "59.12345678"), 2, "too fine"),
        (("--fps", "1000"), 2, "32 are the most"),
        (("--fps", "0x"), 2, "(0, 32]"),
        (("--fps", "x"), 2, "not a number"),
        (("--fps", "1000x"), 2, "(0, 32]"),
        (("--slow-motion", "0.5"), 2, "[1, 32]"),
        (("--slow-motion", "100"), 2, "[1, 32]"),
        (("--slow-motion", "half"), 2, "not a number"),
        (("--slow-motion", "2", "--fps", "0.5x"), 2, "less than the input's rate"),
        (("--input-fps", "25"), 2, "for pictures that are read"),
        (("--window", "4", "--overlap", "4"), 2, "overlap=4"),
        (("--start", "soon"), 2, "soon"),
        (("--start", "2", "--end", "1"), 2, "after --start"),
        (("--start", "100"), 3, "--start"),
        (("--batch", "many"), 2, "many"),
        (("--tile", "5"), 2, "too small"),
        (("--encoder-option", "x"), 2, "KEY=VALUE"),
        (("--prompt", "a cat"), 2, "--prompt"),
        (("--precision", "fp16", "--device", "cpu"), 6, "fp16"),
        (("--device", "tpu"), 2, "tpu"),
        (("--model", "magic"), 5, "magic"),
        (("--model", "compact", "--weights", "/none"), 5, "/none"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_a_code(arguments, code, words, clip, tmp_path):
    result = run("upscale", clip, tmp_path / "out.mp4", *QUICK, *arguments)
    assert result.exit_code == code, result.stderr
    assert words in one_line(result)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_usage_that_the_parser_refuses(clip, tmp_path):
    for arguments in (("--progress", "loud"), ("--cuts", "blend"), ("--crf", "-1"), ("--nothing",)):
        assert upscale(clip, tmp_path / "out.mp4", *arguments).exit_code == 2


def test_outputs_are_replaced_only_when_asked(clip, tmp_path):
    target = _with(tmp_path / "out.mp4", b"old")
    assert upscale(clip, target).exit_code == 4 and target.read_bytes() == b"old"
    assert upscale(clip, target, "--overwrite").exit_code == 0 and target.stat().st_size > 1000
    before = clip.read_bytes()
    assert upscale(clip, clip, "--overwrite").exit_code == 4 and clip.read_bytes() == before
    assert upscale(clip, tmp_path / "none" / "out.mp4").exit_code == 4
    assert upscale(clip, tmp_path / "out.xyz").exit_code == 4


def test_faults_are_told_in_one_line_too(clip, tmp_path, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("stvsr_cli.pipeline.upscale.upscale", broken)
    result = upscale(clip, tmp_path / "out.mp4")
    assert result.exit_code == 1 and "RuntimeError: first line" in one_line(result)
    result = upscale(clip, tmp_path / "out.mp4", "--traceback")
    assert isinstance(result.exception, RuntimeError)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_soon_and_leaves_nothing(number, tmp_path):
    pictures = [np.full((144, 256, 3), i % 200, np.uint8) for i in range(200)]
    source = make_video(tmp_path / "in.mp4", pictures)
    command = [
        sys.executable,
        "-m",
        "stvsr_cli",
        "upscale",
        str(source),
        str(tmp_path / "out.mp4"),
        "--model",
        "linear",
    ]
    with subprocess.Popen([*command, "--progress", "json"], stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if json.loads(line).get("done", 0) > 10:
                break
        begin = time.monotonic()
        process.send_signal(number)
        if number == signal.SIGINT:  # the first finishes the segment in work, the second stops at once
            process.stderr.readline()
            process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(10) == 130
        assert time.monotonic() - begin < 5
    assert "interrupted" in said and "Traceback" not in said
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_an_interrupt_keeps_finished_segments_and_the_same_command_goes_on(tmp_path):
    pictures = [np.full((64, 96, 3), i % 200, np.uint8) for i in range(300)]
    source = make_video(tmp_path / "in.mp4", pictures)
    command = [sys.executable, "-m", "stvsr_cli", "upscale", str(source), str(tmp_path / "out.mp4"),
               "--model", "linear", "--cuts", "ignore", "--preset", "ultrafast", "--progress", "json"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if json.loads(line).get("done", 0) > 300:
                break
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(30) == 130
    assert "the same command to continue" in said
    assert re.search(r"\b(252|504) (finished )?frames", said)  # one segment, or two if the second came to its end
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4.stvsr"]
    subprocess.run(command, check=True, capture_output=True)
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4"]
    assert len(read_frames(tmp_path / "out.mp4")[0]) == 600


def test_models_are_listed_and_shown():
    listed = run("models", "list").stdout
    assert all(name in listed for name in ("compact", "linear", "osdenhancer", "dloral", "diffst"))
    assert "--color-fix" in run("models", "show", "dloral").stdout
    assert run("models", "show", "magic").exit_code == 5


def test_models_path_and_verify(tmp_path, monkeypatch):
    from stvsr_cli.weights import places as weights
    from stvsr_cli.weights.hashes import sha256

    folder = tmp_path / "compact"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"numbers")
    weights.add_sums(folder, {p.name: sha256(p) for p in folder.iterdir()})
    monkeypatch.setenv(weights.ENVIRONMENT, str(tmp_path))
    assert run("models", "path", "compact").stdout == f"{folder}\n"
    assert "1 files" in run("models", "verify", "compact").stdout
    (folder / "model.safetensors").write_bytes(b"n")
    assert run("models", "verify", "compact").exit_code == 5


def test_values():
    assert parse_time("1:02:03.25", "--start") == Fraction(14893, 4)
    assert parse_time("90", "--start") == 90 and parse_time("1:30", "--end") == 90
    assert parse_time(None, "--start") is None and parse_scale(None) is None
    assert parse_scale("3/2") == parse_scale("1.5") == Fraction(3, 2)
    assert parse_count("7", "--tile", {"off": 0}) == 7 and parse_count("off", "--tile", {"off": 0}) == 0
    assert parse_options(["a=b", "c=d=e"]) == (("a", "b"), ("c", "d=e"))
    assert parse_fit("3840x2160", None, None) == (3840, 2160) and parse_fit(None, 7, None) == (7, None)
    for size in ("", "3840", "0x5", "5x00", "axb", "-1x5", "3840x2160x1"):
        with pytest.raises(UsageError):
            parse_fit(size, None, None)
    with pytest.raises(UsageError):
        parse_fit("8x8", 7, None)
    for text in ("", "-1", "1:2:3:4", "1e3", "x"):
        with pytest.raises(UsageError):
            parse_time(text, "--start")
