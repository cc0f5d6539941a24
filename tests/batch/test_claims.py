"""Who works on what: seen by locks, by what still runs here, and by what is still touched elsewhere."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from stvsr_cli.batch import claims
from stvsr_cli.batch.claims import UNKNOWN, Claims, Owner, claim_path, is_running, parsed, this_process
from stvsr_cli.runtime import locks
from stvsr_cli.runtime.locks import Lock
from tests.batch.test_batch import clip, run, tree

NO_LOCKS = """
#include <errno.h>
#include <stdlib.h>
int flock(int descriptor, int operation) { errno = atoi(getenv("FLOCK_ERRNO")); return -1; }
"""


@pytest.fixture
def target(tmp_path):
    return tmp_path / "a.mp4"


def gone():
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def written(target, **changes):
    mine = this_process()
    claim_path(target).write_text(json.dumps({"pid": mine.pid, "host": mine.host, "started": mine.started} | changes))


def test_a_claim_is_held_by_one_and_goes_with_it(target, tmp_path):
    with Claims().on(target) as first:
        assert first is None and claim_path(target).exists()
        with Claims().on(target) as second:
            assert second == this_process()
        assert claim_path(target).exists()
    assert tree(tmp_path) == []


def test_a_process_that_is_killed_leaves_a_claim_that_can_be_taken(target, tmp_path):
    code = (f"import os\nfrom pathlib import Path\nfrom stvsr_cli.batch.claims import Claims\n"
            f"with Claims().on(Path({str(target)!r})) as other:\n    print(other, flush=True)\n    input()\n")  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "None\n"
    with Claims().on(target) as other:
        assert other.pid == process.pid
    process.kill()
    process.communicate()
    assert claim_path(target).exists()
    with Claims().on(target) as other:
        assert other is None
    assert tree(tmp_path) == []


def test_another_that_took_a_claim_keeps_it(target):
    """Whoever ends removes its own claim, and not the one that has taken its place."""
    with Claims().on(target):
        claim_path(target).unlink()
        written(target, host="another")
    assert parsed(claim_path(target).read_bytes()).host == "another"


@pytest.mark.parametrize("content", [{"host": "another"}, None])
def test_a_claim_of_another_machine_is_watched_by_the_own_clock(target, monkeypatch, content):
    monkeypatch.setattr(claims, "GONE_S", 0.3)
    written(target, **(content or {})) if content else claim_path(target).write_bytes(b"what is this?")
    os.utime(claim_path(target), (4e9, 4e9))  # its clock is a century ahead
    ours = Claims()
    with ours.on(target) as other:
        assert (other.host == "another") if content else (other == UNKNOWN)
    assert ours.is_undecided(target)
    os.utime(claim_path(target), (1, 1))  # it is touched, so that it is alive
    with ours.on(target) as other:
        assert other is not None and not ours.is_undecided(target)
    time.sleep(0.4)
    with ours.on(target) as other:
        assert other is None


def test_without_locks_the_processes_that_run_count(target, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    mine = this_process()
    written(target)
    with Claims().on(target) as other:
        assert other == mine
    written(target, pid=gone())
    with Claims().on(target) as other:
        assert other is None
    assert is_running(mine) and not is_running(Owner(mine.pid, mine.host, (mine.started or 0) + 1))


def test_of_many_that_find_a_stale_claim_one_gets_it(target):
    got, barrier, end = [], threading.Barrier(8), threading.Event()
    written(target, pid=gone())

    def take():
        barrier.wait()
        with Claims().on(target) as other:
            got.append(other)
            if other is None:
                end.wait(10)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(got) < 8:
        time.sleep(0.01)
    end.set()
    for thread in threads:
        thread.join()
    assert got.count(None) == 1


def test_a_held_claim_is_touched(target, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_S", 0.01)
    with Claims().on(target):
        path = claim_path(target)
        os.utime(path, (0, 0))
        for _ in range(500):
            if path.stat().st_mtime > 0:
                break
            time.sleep(0.01)
        assert path.stat().st_mtime > 0


def test_what_is_still_held_at_the_end_is_exit_code_7_and_what_is_left_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "GONE_S", 0.5)
    clip(tmp_path / "in" / "a.mp4")
    clip(tmp_path / "in" / "b.mp4")
    (tmp_path / "out").mkdir()
    written(tmp_path / "out" / "a.mp4", host="another")
    with Claims().on(tmp_path / "out" / "b.mp4"):
        result = run(tmp_path / "in", tmp_path / "out", "--report", tmp_path / "r.json")
    assert result.exit_code == 7 and "1 of 2 files are not done" in result.stderr
    a, b = json.loads((tmp_path / "r.json").read_text())["files"]
    assert a["status"] == "done" and (b["status"], b["exit_code"]) == ("held", 7)
    assert f"process {os.getpid()} on" in b["why"]


def test_a_lock_is_of_the_file_that_is_there(tmp_path):
    """One that waited for a lock whose holder removed the file does not hold the removed file."""
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert first.take() and not second.take()
    first.release(remove=True)
    assert second.take() and second.is_new and (tmp_path / "lock").exists()
    second.release(remove=True)
    assert tree(tmp_path) == []


@pytest.mark.skipif(shutil.which("gcc") is None or not sys.platform.startswith("linux"), reason="needs gcc and Linux")
@pytest.mark.parametrize(("number", "works"), [(37, True), (38, True), (95, True), (5, True), (11, False)])
def test_only_would_block_means_held(tmp_path, number, works):
    """A file system without locks, by a shim of flock: ENOLCK, ENOSYS, ENOTSUP, EIO; EAGAIN is a lock that is held."""
    (tmp_path / "shim.c").write_text(NO_LOCKS)
    shim = tmp_path / "shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, tmp_path / "shim.c"], check=True)
    code = (f"import logging\nfrom pathlib import Path\nfrom stvsr_cli.runtime.locks import Lock\nlogging.basicConfig()\n"
            f"print([Lock(Path({str(tmp_path)!r}) / name).take() for name in 'ab'])")  # fmt: skip
    environment = os.environ | {"LD_PRELOAD": str(shim), "FLOCK_ERRNO": str(number)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == f"{[works, works]}\n"
    assert done.stderr.count("files cannot be locked here") == (1 if works else 0)
