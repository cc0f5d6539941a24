"""A run leaves the machine to others: bounded threads, niceness, and nothing printed unasked."""

import os
import subprocess
import sys

import pytest
import torch

from stvsr_cli import upscale
from stvsr_cli.media.write.encode import encoder_options
from stvsr_cli.media.write.settings import EncoderConfig
from tests.clips import ROOT, make_video, pattern
from tests.durable.test_resume import job_of

COUNTED = """
import os, sys, threading, time
from stvsr_cli import cli
most = 0
def count():
    global most
    while True:
        most = max(most, len(os.listdir("/proc/self/task")))
        time.sleep(0.002)
threading.Thread(target=count, daemon=True).start()
sys.argv = ["stvsr", *sys.argv[1:]]
try:
    cli.main()
finally:
    import torch
    print(most, torch.get_num_threads(), os.nice(0))
"""


def counted(tmp_path, *options):
    """Most threads of a process that upscales, the model's threads, and the process's niceness."""
    source = make_video(tmp_path / "in.mp4", [pattern(i, 64, 48) for i in range(30)])
    command = [sys.executable, "-c", COUNTED, "upscale", str(source), str(tmp_path / "out.mp4"), "--model", "linear"]
    done = subprocess.run([*command, "--overwrite", "--progress", "none", *options], capture_output=True, text=True,
                          check=True, cwd=ROOT)  # fmt: skip
    return [int(text) for text in done.stdout.split()]


def test_threads_bound_the_decoder_the_model_and_the_encoder(tmp_path):
    # The main thread, the one that counts, decode, convert, encode, the watch, one of torch's own, and at the start a
    # decoder that looks for fields in a few pictures.
    own = 7 + (os.cpu_count() or 1)
    most, model, _ = counted(tmp_path, "--threads", "1")
    assert model == 1 and most <= own
    more, model, _ = counted(tmp_path, "--threads", "3")
    assert model == 3 and most < more <= own + 10 * 3  # torch has a team for each thread that calls it


def test_the_decoder_gets_its_number_of_threads(tmp_path, monkeypatch):
    from stvsr_cli.pipeline import sources as run

    seen = []
    decode = run.decode
    monkeypatch.setattr(
        run, "decode", lambda *args, **options: seen.append(options["threads"]) or decode(*args, **options)
    )
    source, before = make_video(tmp_path / "in.mp4", [pattern(i, 48, 32) for i in range(3)]), torch.get_num_threads()
    try:
        upscale(job_of(source, tmp_path / "out.mp4", threads=1))
        assert seen == [1] and torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("codec", "given", "name", "wanted"),
    [
        ("libx265", {}, "x265-params", {"pools=2", "log-level=none"}),
        ("libx265", {"x265-params": "pools=1:log-level=none"}, "x265-params", {"pools=1", "log-level=none"}),
        ("libsvtav1", {}, "svtav1-params", {"lp=2"}),
        ("libsvtav1", {"svtav1-params": "lp=5:tune=0"}, "svtav1-params", {"lp=5", "tune=0"}),
    ],
)
def test_encoders_with_threads_of_their_own_are_told(codec, given, name, wanted):
    options = encoder_options(EncoderConfig(codec=codec, threads=2, options=tuple(given.items())))
    assert set(options[name].split(":")) == wanted


def test_niceness(tmp_path):
    assert counted(tmp_path, "--threads", "1", "--nice", "5")[2] == min(19, os.nice(0) + 5)


@pytest.mark.parametrize(("codec", "preset"), [("libx265", "ultrafast"), ("libsvtav1", "12")])
def test_encoders_print_nothing(tmp_path, codec, preset):
    source = make_video(tmp_path / "in.mp4", [pattern(i, 64, 64) for i in range(12)])
    command = [sys.executable, "-m", "stvsr_cli", "upscale", str(source), str(tmp_path / "out.mkv"), "--model", "linear",
               "--codec", codec, "--preset", preset, "--segment-frames", "8", "--window", "3", "--progress", "none", "-q"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
