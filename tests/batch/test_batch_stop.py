"""A batch that is stopped keeps what is finished, says what is not, and goes on."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from stvsr_cli.batch.batch import BatchConfig, run_batch
from stvsr_cli.batch.inputs import Item
from stvsr_cli.durable.journal import journal_folder
from stvsr_cli.errors import Interrupted, StallError
from stvsr_cli.job.report import Loaded
from stvsr_cli.pipeline.upscale import upscale
from tests.durable.test_resume import Failing, clip, content, job_of

WINDOWED = {"segment_frames": 12, "window": 3}


@pytest.fixture
def items(tmp_path):
    """Three videos and the folder for their outputs."""
    return [Item(clip(tmp_path / f"{name}.mp4"), tmp_path / "out" / f"{name}.mp4") for name in "abc"]


def job_like(items, **changes):
    return job_of(items[0].source, items[0].target, **WINDOWED, **changes)


def statuses(path):
    return [(Path(file["input"]).stem, file["status"], file["why"]) for file in json.loads(path.read_text())["files"]]


def finished_like_alone(items, tmp_path):
    for item in items:
        alone = tmp_path / f"alone_{item.source.name}"
        upscale(job_of(item.source, alone, **WINDOWED))
        assert content(item.target) == content(alone)


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_wish_to_stop_ends_the_segment_in_work_and_begins_no_other(items, tmp_path, jobs):
    stop, report = threading.Event(), tmp_path / "report.json"
    config = BatchConfig(folder=tmp_path / "out", report=report, jobs=jobs, skip_existing=True)

    def progress(state):
        if state.file.startswith("2/3") and state.done >= 20:
            stop.set()

    with pytest.raises(Interrupted, match="of 3 files are done. Run the same command with --skip-existing to continue"):
        run_batch(items, job_like(items), config, progress=progress, stop=stop)
    found = statuses(report)
    assert [name for name, *_ in found] == ["a", "b", "c"]
    assert found[1][1] == "skipped" and "are kept in" in found[1][2]
    assert found[2] == ("c", "skipped", "not started: interrupted")
    assert list(journal_folder(items[1].target).glob("*.segment"))
    assert not items[1].target.exists() and not list((tmp_path / "out").glob(".*.claim"))
    run_batch(items, job_like(items), config)
    finished_like_alone(items, tmp_path)


def test_a_wish_that_comes_too_late_is_none(items, tmp_path):
    stop = threading.Event()
    config, job = BatchConfig(folder=tmp_path / "out"), job_of(items[0].source, items[0].target, segment_frames=1000)
    entries = run_batch(items[:1], job, config, stop=stop, progress=lambda s: s.phase == "finish" and stop.set())
    assert stop.is_set() and [entry.status for entry in entries] == ["done"]


@pytest.mark.parametrize("times", [1, 2])
def test_control_c_from_the_command_line(items, tmp_path, times):
    (tmp_path / "in").mkdir()
    for item in items:
        item.source.rename(tmp_path / "in" / item.source.name)
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "stvsr_cli", "upscale", str(tmp_path / "in"), str(tmp_path / "out"), "--model", "linear",
               "--preset", "ultrafast", "--segment-frames", "12", "--window", "3", "--progress", "json", "--report",
               str(report), "--skip-existing"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if json.loads(line).get("file", "").startswith("2/3") and json.loads(line)["phase"] == "upscale":
            break
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 130, rest
    assert "Traceback" not in rest and "of 3 files are done" in rest
    found = statuses(report)
    assert found[0][:2] == ("a", "done") and found[2] == ("c", "skipped", "not started: interrupted")
    assert (tmp_path / "out" / "a.mp4").exists() and not (tmp_path / "out" / "c.mp4").exists()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    finished_like_alone([Item(tmp_path / "in" / i.source.name, i.target) for i in items], tmp_path)


def test_a_stall_of_one_file_stops_no_other(items, tmp_path, monkeypatch):
    from stvsr_cli.pipeline import sources as run

    decode, freed = run.decode, threading.Event()

    def stalling(info, **options):
        for frame in decode(info, **options):
            if info.path == items[1].source and frame.index == 20:
                freed.wait(60)
            yield frame

    monkeypatch.setattr(run, "decode", stalling)
    config = BatchConfig(folder=tmp_path / "out", report=tmp_path / "report.json")
    entries = run_batch(items, job_like(items, stall_timeout_s=2.0), config)
    freed.set()
    assert [(entry.status, entry.exit_code) for entry in entries] == [("done", 0), ("failed", 8), ("done", 0)]
    assert "in the stage read" in entries[1].why


def test_the_report_is_written_before_the_last_resort(items, tmp_path, monkeypatch):
    monkeypatch.setattr("stvsr_cli.runtime.watchdog.GRACE_S", 0.2)
    told = []
    given_up = threading.Event()

    class Hanging(Failing):
        def decode(self, *arguments):
            self.decoded = getattr(self, "decoded", 0) + 1
            if self.decoded == 5:
                given_up.wait(20)
            return super().decode(*arguments)

    def last_resort(error):
        told.append(statuses(tmp_path / "report.json"))
        given_up.set()

    config = BatchConfig(folder=tmp_path / "out", report=tmp_path / "report.json")
    loaded = Loaded(Hanging(), torch.device("cpu"), torch.float32, 0.0, "weights")
    run_batch(items[:1], job_like(items, stall_timeout_s=1.0), config, loaded=loaded, last_resort=last_resort)
    (((name, status, why),),) = told
    assert (name, status) == ("a", "failed") and "in the stage model" in why
    assert StallError.exit_code == 8


LATE = """
import os, signal, typer
from stvsr_cli.cli.failures import Stop, reported
from stvsr_cli.errors import Interrupted

stop = Stop()
stop.armed = True
try:
    with reported(traceback=False, stop=stop):
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked.is_set()
        raise Interrupted("stopped in order")
except typer.Exit as ended:
    os.kill(os.getpid(), signal.SIGINT)
    raise SystemExit(ended.exit_code)
"""


def test_a_second_control_c_while_the_process_ends_changes_nothing():
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 130, done.stderr
    assert "stopped in order" in done.stderr and "Traceback" not in done.stderr
