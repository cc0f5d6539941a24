"""What is shown can never end the work: readers that go or hang, full disks, closed descriptors, real terminals."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

from stvsr_cli.cli.streams import Shown
from stvsr_cli.media.read.count import measure
from tests.clips import make_video, pattern

KINDS = ("rich", "plain", "json", "none")


@pytest.fixture
def clip(tmp_path):
    return make_video(tmp_path / "in.mp4", [pattern(i, 32, 32) for i in range(60)])


def command(source, target, *arguments):
    return [sys.executable, "-m", "stvsr_cli", "upscale", str(source), str(target), "--model", "linear", "--scale", "1",
            "--preset", "ultrafast", *arguments]  # fmt: skip


def default_signals():
    """Undo what a shell that runs the tests in the background may have set."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def is_whole(path):
    return path.exists() and measure(path).num_frames == 120 and not path.with_name(f"{path.name}.stvsr").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_the_reader_of_stderr_goes_and_the_work_goes_on(clip, tmp_path, kind):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command(clip, tmp_path / "out.mp4", "--progress", kind, "-vv"), stderr=writer, timeout=60)
    os.close(writer)
    assert done.returncode == 0 and is_whole(tmp_path / "out.mp4")


@pytest.mark.parametrize("kind", ["rich", "json"])
def test_the_terminal_goes_and_the_work_goes_on(clip, tmp_path, kind):
    leader, follower = pty.openpty()
    process = subprocess.Popen(command(clip, tmp_path / "out.mp4", "--progress", kind), stdin=follower, stdout=follower,
                               stderr=follower, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))  # fmt: skip
    os.close(follower)
    os.read(leader, 100)
    os.close(leader)
    assert process.wait(60) == 0 and is_whole(tmp_path / "out.mp4")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("kind", KINDS)
def test_the_disk_behind_the_log_is_full_and_the_work_goes_on(clip, tmp_path, kind):
    with open("/dev/full", "w") as full:
        arguments = command(clip, tmp_path / "out.mp4", "--progress", kind, "-vv")
        done = subprocess.run(arguments, stderr=full, stdout=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 0 and is_whole(tmp_path / "out.mp4")


def test_what_was_lost_is_said_on_a_terminal_that_is_left(clip, tmp_path):
    leader, follower = pty.openpty()
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(command(clip, tmp_path / "out.mp4"), stdout=follower, stderr=writer)
    os.close(follower)
    os.close(writer)
    assert process.wait(60) == 0
    assert b"stvsr: a line could not be shown: Broken pipe." in os.read(leader, 1000)
    os.close(leader)


def test_a_reader_that_hangs_is_waited_for_once(tmp_path):
    reader, writer = os.pipe()
    shown, begin = Shown(None, writer), time.monotonic()
    for _ in range(40):
        shown.write("x" * 9999 + "\n")
    assert 1.5 < time.monotonic() - begin < 4 and shown.lost >= 30
    os.read(reader, 65536)
    before = shown.lost
    shown.write("again\n")
    assert shown.lost == before
    os.close(reader)
    os.close(writer)


def test_a_slow_reader_loses_nothing():
    reader, writer = os.pipe()
    found = []

    def read():
        while data := os.read(reader, 8192):
            found.append(data)
            time.sleep(0.002)

    thread = threading.Thread(target=read)
    thread.start()
    shown = Shown(None, writer)
    for number in range(3000):
        shown.write(f"{number:099d}\n")
    os.close(writer)
    thread.join()
    os.close(reader)
    assert shown.lost == 0 and b"".join(found) == "".join(f"{n:099d}\n" for n in range(3000)).encode()


def closing(number, arguments):
    return subprocess.run(["bash", "-c", f'exec "$@" {number}>&-', "bash", *arguments], capture_output=True, text=True)


def test_closed_descriptors_are_told_in_a_line_and_go_into_no_file(clip, tmp_path):
    done = closing(2, command(clip, tmp_path / "a.mp4", "--progress", "plain", "-vv"))
    assert done.returncode == 0 and is_whole(tmp_path / "a.mp4")
    done = closing(1, command(clip, "-"))
    assert (done.returncode, done.stderr) == (
        4,
        "stvsr: error: standard output is closed. Pipe it into something, or name a file.\n",
    )
    done = closing(0, command("-", tmp_path / "b.mp4"))
    assert done.returncode == 3 and done.stderr.startswith("stvsr: error: standard input is closed.")


def test_a_reader_of_stdout_that_goes_is_no_error_but_a_full_disk_is(clip, tmp_path):
    plan = command(clip, tmp_path / "a.mp4", "--dry-run")
    reader, writer = os.pipe()
    os.close(reader)
    assert subprocess.run(plan, stdout=writer, stderr=subprocess.PIPE).returncode == 0
    os.close(writer)
    with open("/dev/full", "w") as full:
        done = subprocess.run(plan, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 4 and "No space left" in done.stderr and "Traceback" not in done.stderr


def begun(source, target, *, ignoring=()):
    """A run that has written its first progress line."""

    def set_signals():
        default_signals()
        for number in ignoring:
            signal.signal(number, signal.SIG_IGN)

    arguments = command(source, target, "--progress", "json", "--segment-frames", "8")
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, preexec_fn=set_signals)
    for line in process.stderr:
        if '"upscale"' in line:
            return process
    raise AssertionError("it ended early")


@pytest.fixture
def long_clip(tmp_path):
    return make_video(tmp_path / "in.mp4", [pattern(i, 256, 144) for i in range(200)])


def test_a_hangup_ends_it_in_order(long_clip, tmp_path):
    with begun(long_clip, tmp_path / "out.mp4") as process:
        process.send_signal(signal.SIGHUP)
        said = process.stderr.read()
        assert process.wait(10) == 130 and "interrupted" in said and not (tmp_path / "out.mp4").exists()


def test_signals_that_it_inherits_as_ignored_stay_ignored(long_clip, tmp_path):
    with begun(long_clip, tmp_path / "out.mp4", ignoring=(signal.SIGINT, signal.SIGHUP)) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait(60) == 0 and measure(tmp_path / "out.mp4").num_frames == 400
