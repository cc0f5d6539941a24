"""Inputs that change, live pipes that are left, outputs that are pipes, and what does not forbid going on."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from stvsr_cli.durable.journal import journal_folder
from stvsr_cli.errors import InputError, Interrupted, UsageError
from stvsr_cli.media.read.count import measure
from stvsr_cli.media.write.encode import EncoderConfig
from stvsr_cli.pipeline.upscale import upscale
from tests.clips import make_video, pattern
from tests.durable.test_resume import job_of

COMMAND = [sys.executable, "-m", "stvsr_cli", "upscale"]
QUICK = ["--model", "linear", "--scale", "1", "--preset", "ultrafast", "--progress", "json"]
WINDOWED = {"segment_frames": 12, "window": 3}


def clip(path, count=60, size=32):
    return make_video(path, [pattern(i, size, size) for i in range(count)])


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_an_input_that_changes_while_it_is_read(tmp_path, resume):
    source, target = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"

    def write(progress):
        if progress.done == 60:
            source.write_bytes(clip(tmp_path / "other.mp4", 61).read_bytes())

    with pytest.raises(InputError, match="changed while it was read") as caught:
        upscale(job_of(source, target, resume=resume, **WINDOWED), progress=write)
    assert caught.value.exit_code == 3
    assert not target.exists() and not journal_folder(target).exists()


def test_an_input_that_is_only_touched_is_the_same(tmp_path):
    source, target = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    upscale(job_of(source, target), progress=lambda progress: os.utime(source, (1, 1)))
    assert measure(target).num_frames == 120


def begun(job):
    """A run that is stopped with some of its segments kept."""
    stop = threading.Event()
    with pytest.raises(Interrupted):
        upscale(job, progress=lambda progress: progress.done >= 40 and stop.set(), stop=stop)
    assert list(journal_folder(job.output).glob("*.segment"))


def test_a_touched_input_and_other_threads_do_not_forbid_going_on(tmp_path):
    source, target = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    job = job_of(source, target, **WINDOWED)
    begun(job)
    os.utime(source, (1, 1))
    encoder = replace(job.encoder, threads=3)
    upscale(replace(job, threads=3, encoder=encoder))
    assert measure(target).num_frames == 120 and not journal_folder(target).exists()


def test_another_input_of_the_same_size_forbids_it(tmp_path):
    source, target = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    begun(job_of(source, target, **WINDOWED))
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 255
    source.write_bytes(data)
    with pytest.raises(UsageError, match="input hash was"):
        upscale(job_of(source, target, **WINDOWED))


def live(target, *options):
    """A run that reads an endless YUV4MPEG2 stream, and what is set when much of that has been written."""
    reader, writer = os.pipe()
    started = threading.Event()

    def write():
        try:
            os.write(writer, b"YUV4MPEG2 W32 H32 F25:1 C420mpeg2\n")
            for number in range(100_000):
                os.write(writer, b"FRAME\n" + bytes([number % 200]) * (32 * 32 * 3 // 2))
                if number == 400:
                    started.set()
        except OSError:  # nobody reads it any more
            os.close(writer)

    process = subprocess.Popen([*COMMAND, "-", str(target), *options], stdin=reader, stderr=subprocess.PIPE)
    os.close(reader)
    threading.Thread(target=write, daemon=True).start()
    return process, started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_live_pipe_that_is_interrupted_is_finished(tmp_path, number):
    target = tmp_path / "out.mp4"
    process, started = live(target, *QUICK)
    with process:
        for line in process.stderr:
            if b'"upscale"' in line and started.is_set():
                break
        process.send_signal(number)
        said = process.stderr.read().decode()
        assert process.wait(60) == 130
    assert "interrupted; what had been read is finished" in said and "Traceback" not in said
    assert measure(target).num_frames >= 100
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_a_second_signal_gives_it_up(tmp_path):
    target = tmp_path / "out.mp4"
    process, _ = live(target, "--model", "compact", "--preset", "ultrafast", "--progress", "json")
    with process:
        for line in process.stderr:
            if b'"upscale"' in line:
                break
        process.send_signal(signal.SIGINT)
        for line in process.stderr:
            if b"stopping" in line:
                break
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait(30) == 130
    assert not target.exists() or measure(target).num_frames > 0  # finished before the second one came


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_an_output_like_any_other(tmp_path):
    source, fifo = clip(tmp_path / "in.mp4", 10), tmp_path / "fifo.mkv"
    os.mkfifo(fifo)
    got = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    upscale(job_of(source, fifo, encoder=EncoderConfig(preset="ultrafast")))
    reader.join(30)
    (tmp_path / "got.mkv").write_bytes(got[0])
    assert measure(tmp_path / "got.mkv").num_frames == 20 and fifo.is_fifo()


def test_what_a_shell_gives_for_an_output(tmp_path):
    source = clip(tmp_path / "in.mp4", 10)
    script = f'exec "$@" >(cat > {tmp_path}/got.mkv) {" ".join(QUICK)}'
    done = subprocess.run(["bash", "-c", script, "bash", *COMMAND, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for _ in range(100):  # the reader may still write
        if (tmp_path / "got.mkv").exists() and (tmp_path / "got.mkv").stat().st_size:
            break
        threading.Event().wait(0.05)
    threading.Event().wait(0.3)
    assert measure(tmp_path / "got.mkv").num_frames == 20
