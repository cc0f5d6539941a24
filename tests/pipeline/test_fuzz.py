"""Damaged files through the command line: a short run, and that the long one would see what is wrong."""

import os
import random
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import av
import pytest

from stvsr_cli import cli
from tests import fuzz
from tests.clips import ROOT, make_video, pattern

LINE = "stvsr: error: in.mp4 cannot be read as a video.\n"


@pytest.mark.parametrize("count", [20, pytest.param(60, marks=pytest.mark.slow)])
def test_damaged_files(count):
    command = [sys.executable, "-m", "tests.fuzz", "--count", str(count), "--seed", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{count} of {count} files passed")


def test_the_same_number_is_damaged_in_the_same_way():
    data, other = bytes(range(256)) * 40, bytes(4000)
    made = [fuzz.damaged(data, other, random.Random("1 7")) for _ in range(2)]
    assert made[0] == made[1] and made[0][1] != data
    kinds = {fuzz.damaged(data, other, random.Random(f"1 {number}"))[0] for number in range(100)}
    assert kinds == {"bits", "header", "cut", "zeros", "repeat", "splice", "join"}


@pytest.mark.parametrize(
    ("code", "text", "wrong"),
    [
        (3, LINE, ""),
        (3, "stvsr: warning: the frame before each is held\n" + LINE, ""),
        (3, LINE + LINE, "2 lines of error"),
        (3, "", "0 lines of error"),
        (1, LINE, "exit code 1"),
        (-11, "", "signal SIGSEGV"),
        (3, LINE + "Traceback (most recent call last):\n", "a traceback"),
    ],
)
def test_what_is_wrong_is_seen(tmp_path, code, text, wrong):
    assert fuzz.judged(code, text, tmp_path / "out.mp4") == wrong


def test_what_is_left_behind_is_seen(tmp_path):
    (tmp_path / ".out.1234.part.mp4").write_bytes(b"")
    assert "left behind" in fuzz.judged(3, LINE, tmp_path / "out.mp4")
    (tmp_path / "out.mp4").write_bytes(b"no video")
    assert fuzz.judged(3, LINE, tmp_path / "out.mp4") == "an output though it failed"
    assert "does not probe clean" in fuzz.judged(0, "", tmp_path / "out.mp4")


@pytest.mark.parametrize(
    ("act", "wrong"),
    [
        (lambda: time.sleep(60), "hung"),
        (lambda: os.kill(os.getpid(), 11), "SIGSEGV"),
        (lambda: sys.exit(1), "exit code 1"),
        (lambda: 1 / 0, "traceback"),
    ],
    ids=["hang", "crash", "code", "exception"],
)
def test_every_way_to_fail_is_seen(tmp_path, monkeypatch, act, wrong):
    monkeypatch.setattr(cli, "main", act)
    source = make_video(tmp_path / "in.mp4", [pattern(0, 16, 16)])
    assert wrong in fuzz.run(source, tmp_path / "out.mp4", fuzz.Bounds(1.0, 2**30)).wrong


@pytest.mark.parametrize(("clip", "mark"), [("vp8.webm", b"vorbis"), ("h264.flv", None)])
def test_sound_that_nothing_could_play_is_left_out(tmp_path, clip, mark):
    clips = {path.name: path for path in fuzz.make_clips(tmp_path)}
    data = bytearray(clips[clip].read_bytes())
    if mark is not None:  # the last of Vorbis's three headers: the codebooks
        begin = data.rindex(b"\x05" + mark) + 7
        data[begin : begin + 200] = bytes(200)
    else:  # the one header of AAC: sound is announced by what follows, and no more is known of it
        begin = data.index(b"\x08\x00\x00", 400)
        data[begin + 11] = 0xAF
        data[begin + 12] = 0x01
        data[begin + 8] = 0x01
    source = tmp_path / f"in.{clip.split('.')[1]}"
    source.write_bytes(data)
    (tmp_path / "run").mkdir()
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:  # a fork of this process has what earlier tests took
        outcome = fresh.submit(fuzz.run, source, tmp_path / "run" / "out.mkv", fuzz.Bounds(60, 2**30)).result()
    assert (outcome.code, outcome.wrong) == (0, "")
    with av.open(str(tmp_path / "run" / "out.mkv")) as container:
        assert len(container.streams.video) == 1 and not container.streams.audio
