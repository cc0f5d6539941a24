"""Numbered pictures go on where an earlier run ended, and nothing of anybody else is replaced."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from stvsr_cli.errors import Interrupted, OutputError, UsageError
from stvsr_cli.pipeline.upscale import upscale
from tests.clips import ROOT
from tests.durable.test_resume import Failing, clip, job_of, loaded

WINDOWED = {"segment_frames": 12, "window": 3}


def pictures(source, folder, *, model=None, format="png", stop=None, **changes):
    folder.mkdir(exist_ok=True)
    job = job_of(source, folder, format=format, **(WINDOWED | changes))
    return upscale(job, loaded=loaded(model), stop=stop)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def source(tmp_path):
    return clip(tmp_path / "in.mp4")


def journal(folder):
    return folder / "%06d.png.stvsr"


def kept(folder):
    return sum(s["num_frames"] for s in json.loads((journal(folder) / "manifest.json").read_text())["segments"])


def test_going_on_after_every_failure_changes_nothing(source, tmp_path):
    whole = pictures(source, tmp_path / "whole")
    target, frames = tmp_path / "out", []
    for at in (2, 9):
        with pytest.raises(RuntimeError):
            pictures(source, target, model=Failing(at=at))
        frames.append(kept(target))
    assert frames == sorted(frames) and 0 < frames[-1] < 80
    report = pictures(source, target)
    assert contents(target) == contents(tmp_path / "whole") and len(contents(target)) == 80
    assert (report.frames_in, report.frames_out) == (whole.frames_in, whole.frames_out) == (40, 80)
    assert not journal(target).exists() and not journal(tmp_path / "whole").exists()


def test_pictures_from_pictures(source, tmp_path):
    pictures(source, tmp_path / "small", fps_factor=1, scale=1)
    pictures(tmp_path / "small", tmp_path / "whole", format=None)
    with pytest.raises(RuntimeError):
        pictures(tmp_path / "small", tmp_path / "out", format=None, model=Failing(at=14))
    assert kept(tmp_path / "out") > 0
    third = (tmp_path / "small" / "000003.png").read_bytes()
    shutil.copy(tmp_path / "small" / "000009.png", tmp_path / "small" / "000003.png")
    with pytest.raises(UsageError, match="input hash was"):
        pictures(tmp_path / "small", tmp_path / "out", format=None)
    (tmp_path / "small" / "000003.png").write_bytes(third)
    pictures(tmp_path / "small", tmp_path / "out", format=None, resume="force")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_picture_that_was_changed_meanwhile_is_made_again(source, tmp_path):
    pictures(source, tmp_path / "whole")
    target = tmp_path / "out"
    with pytest.raises(RuntimeError):
        pictures(source, target, model=Failing(at=17))
    (target / "000002.png").write_bytes(b"spoilt")
    pictures(source, target)
    assert contents(target) == contents(tmp_path / "whole")


def test_what_others_made_is_not_replaced(source, tmp_path):
    target = tmp_path / "out"
    with pytest.raises(RuntimeError):
        pictures(source, target, model=Failing(at=14))
    (target / "000070.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="000070.png exists already"):
        pictures(source, target)
    assert (target / "000070.png").read_bytes() == b"mine"
    (target / "000070.png").unlink()
    pictures(source, target)
    assert len(contents(target)) == 80


def test_the_stop_and_no_journal(source, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted, match="which are kept in"):
        pictures(source, tmp_path / "out", stop=stop)
    assert kept(tmp_path / "out") == len(contents(tmp_path / "out")) > 0
    with pytest.raises(RuntimeError):
        pictures(source, tmp_path / "plain", model=Failing(at=9), resume="never")
    assert not journal(tmp_path / "plain").exists()


def test_a_killed_command_goes_on(source, tmp_path):
    command = [sys.executable, "-m", "stvsr_cli", "upscale", str(source), str(tmp_path / "out"), "--format", "png", "--model",
               "linear", "--segment-frames", "12", "--window", "3", "--progress", "none"]  # fmt: skip
    process = subprocess.Popen(command)
    while len(list(tmp_path.glob("out/*.stvsr/*.segment"))) < 2 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -9 and kept(tmp_path / "out") > 0
    subprocess.run(command, check=True)
    command[5] = str(tmp_path / "whole")
    subprocess.run(command, check=True, cwd=ROOT)
    made = {name: data for name, data in contents(tmp_path / "out").items() if not name.startswith(".")}
    assert made == contents(tmp_path / "whole")
