"""A stage that hangs is named, and the run ends so that it can go on."""

import os
import subprocess
import sys
import threading
import time

import pytest

from stvsr_cli.durable.journal import journal_folder
from stvsr_cli.errors import StallError, UsageError
from stvsr_cli.runtime import watchdog
from stvsr_cli.runtime.watchdog import Watch
from stvsr_cli.runtime.workers import Ahead, Worker
from tests.clips import ROOT, make_video, pattern
from tests.durable.test_resume import clip, content

HANGS = """
import sys, time
from stvsr_cli import cli
{patch}
sys.argv = ["stvsr", *sys.argv[1:]]
cli.main()
"""
IN_MODEL = """
from stvsr_cli.models.linear import LinearModel
decode, calls = LinearModel.decode, 0
def slow(*args):
    global calls
    calls += 1
    if calls > 12:
        time.sleep(100)
    return decode(*args)
LinearModel.decode = slow
"""
IN_ENCODER = """
from stvsr_cli.media.write import encode
to_av, calls = encode.to_av, 0
def slow(*args):
    global calls
    calls += 1
    if calls > 30:
        time.sleep(100)
    return to_av(*args)
encode.to_av = slow
"""
SETTINGS = ["--model", "linear", "--preset", "ultrafast", "--segment-frames", "12", "--window", "3", "--progress",
            "none"]  # fmt: skip


def test_a_stage_that_hangs_is_named():
    freed = threading.Event()

    def frames():
        yield 1
        with watchdog.busy("read"):
            freed.wait(20)
        yield 2

    with Watch(0.3, hint="Look at the disk."):
        ahead = Ahead(frames(), 1)
        assert next(ahead) == 1
        with pytest.raises(StallError, match="no progress for 0.3 s in the stage read: reading the input. Look at"):
            next(ahead)
        ahead.close()
    freed.set()


def test_a_thread_that_waits_for_another_is_not_the_one_that_hangs():
    freed = threading.Event()
    worker = None
    with Watch(0.4) as watched:
        worker = Worker(lambda item: freed.wait(20), "encode", 1)
        with pytest.raises(StallError, match="in the stage encode"), watchdog.busy("model"):
            for number in range(5):
                worker.put(number)
        assert not worker.abort() and not worker.has_ended
        assert watched.error is not None
    freed.set()


def test_steps_that_end_in_time_are_no_stall():
    with Watch(0.4) as watched:
        begin = time.monotonic()
        while time.monotonic() - begin < 1.2:
            with watchdog.busy("model"):
                time.sleep(0.05)
                with watchdog.busy("write"):
                    time.sleep(0.05)
        watchdog.check()
        assert watched.error is None


@pytest.mark.parametrize(("timeout_s", "patient", "stalls"), [(None, True, False), (None, False, True), (0, False, False), (0.2, True, True)])  # fmt: skip
def test_the_patient_are_spared_by_default_only(monkeypatch, timeout_s, patient, stalls):
    monkeypatch.setattr(watchdog, "DEFAULT_S", 0.2)
    with Watch(timeout_s) as watched:
        with watchdog.busy("model", patient=patient):
            time.sleep(0.6)
        assert (watched.error is not None) == stalls


def test_a_process_that_was_stopped_has_not_stalled(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    with Watch(2.0) as watched, watchdog.busy("read"):
        now[0] += 10000
        time.sleep(0.7)
        assert watched.error is None and 0 < watched._now <= 1.0


def test_the_last_resort_comes_when_the_driving_thread_hangs(monkeypatch):
    monkeypatch.setattr(watchdog, "GRACE_S", 0.3)
    errors = []
    with Watch(0.2, last_resort=errors.append), watchdog.busy("model"):
        time.sleep(1.5)
    assert len(errors) == 1 and "stage model" in str(errors[0])


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), float("inf")])
def test_timeouts_that_are_none_are_refused(timeout_s):
    with pytest.raises(UsageError, match="stall-timeout"):
        Watch(timeout_s)


@pytest.mark.parametrize("whole", [False, True])
def test_a_pipe_that_stalls_ends_with_its_code(tmp_path, whole):
    source = tmp_path / "in.y4m"
    make_video(tmp_path / "in.mkv", [pattern(i, 48, 32) for i in range(20)])
    import imageio_ffmpeg

    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", tmp_path / "in.mkv", source], check=True)
    data = source.read_bytes() if whole else (tmp_path / "in.mkv").read_bytes()
    command = [sys.executable, "-m", "stvsr_cli", "upscale", "-", str(tmp_path / "out.mp4"), *SETTINGS]
    process = subprocess.Popen([*command, "--stall-timeout", "1.5"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(data[: len(data) // 2])
    process.stdin.flush()
    errors = process.stderr.read().decode()
    assert process.wait(30) == 8, errors
    process.stdin.close()
    process.stderr.close()
    assert [line for line in errors.splitlines() if "error" in line] == [
        "stvsr: error: no progress for 1.5 s in the stage read: reading the input. Check the other end of the pipe, the "
        "disk and the device."
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "in.y4m"]


def test_a_reader_that_stalls_ends_with_its_code(tmp_path):
    source = make_video(tmp_path / "in.mp4", [pattern(i, 96, 64) for i in range(30)])
    command = [sys.executable, "-m", "stvsr_cli", "upscale", str(source), "-", "--format", "y4m", *SETTINGS]
    process = subprocess.Popen([*command, "--stall-timeout", "1.5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.wait(60) == 8
        assert b"in the stage write: writing the output" in process.stderr.read()
    finally:
        process.kill()
        process.stdout.close()
        process.stderr.close()


@pytest.mark.parametrize(("patch", "stage"), [(IN_MODEL, "model"), (IN_ENCODER, "encode")])
def test_what_hangs_is_gone_on_with(tmp_path, patch, stage):
    source, target = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    (tmp_path / "hangs.py").write_text(HANGS.format(patch=patch))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = ["upscale", str(source), str(target), *SETTINGS]
    command = [sys.executable, str(tmp_path / "hangs.py"), *arguments, "--stall-timeout", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=90, check=False)
    assert done.returncode == 8, done.stderr
    assert f"no progress for 2 s in the stage {stage}" in done.stderr and "the same command to continue" in done.stderr
    assert list(journal_folder(target).glob("*.segment")) and not target.exists()
    for path in (target, tmp_path / "whole.mp4"):
        arguments[2] = str(path)
        subprocess.run([sys.executable, "-m", "stvsr_cli", *arguments], check=True, cwd=ROOT)
    assert content(target) == content(tmp_path / "whole.mp4")
    assert not journal_folder(target).exists()
