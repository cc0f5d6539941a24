"""A real Ray cluster of two nodes on this machine: equal to the local engine, whatever happens to it meanwhile."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'stvsr[ray]'")

import ray
from ray.cluster_utils import Cluster

from stvsr_cli import upscale
from stvsr_cli.batch.batch import BatchConfig, run_batch
from stvsr_cli.batch.inputs import Item
from stvsr_cli.durable.journal import journal_folder
from stvsr_cli.engine.ray.cluster import RayConfig
from stvsr_cli.media.write.encode import EncoderConfig
from stvsr_cli.pipeline import distributed, scan
from tests.clips import ROOT, make_video, pattern
from tests.durable.test_resume import job_of

pytestmark = pytest.mark.filterwarnings("ignore")
NODE = {"num_cpus": 2, "object_store_memory": 80 << 20, "include_dashboard": False}
MANY_PIECES = {"segment_frames": 8, "window": 3, "threads": 1, "encoder": EncoderConfig(preset="ultrafast", threads=1)}


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of two cores each: one for a worker, one for the scan."""
    nodes = Cluster(initialize_head=True, head_node_args=dict(NODE))
    nodes.add_node(**{k: v for k, v in NODE.items() if k != "include_dashboard"})
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of two shots, and what the local engine makes of it."""
    folder = tmp_path_factory.mktemp("clip")
    pictures = [pattern(7 * i, 64, 48)[:, :, [0, 1, 2] if i < 50 else [2, 0, 1]] for i in range(160)]
    source = make_video(folder / "in.mp4", pictures, audio_s=6.4, options={"g": "20", "preset": "ultrafast"})
    upscale(job_of(source, folder / "whole.mp4", **MANY_PIECES))
    return source


@pytest.fixture(scope="module")
def crew(cluster, clip):
    """Two workers, one a node."""
    with distributed.workers(RayConfig(workers=2), job_of(clip, clip.parent / "x.mp4", **MANY_PIECES)) as workers:
        yield workers


def all_there(workers):
    """Whether all workers have started."""
    return all(seat.facts is not None for seat in workers.pool.seats)


def expected(source):
    return (source.parent / "whole.mp4").read_bytes()


def test_two_nodes_give_what_the_local_engine_gives(crew, clip, tmp_path, monkeypatch):
    job = job_of(clip, tmp_path / "out.mp4", **MANY_PIECES)
    shown, looked = [], []

    def looks(*arguments):
        for found in crew.looks(*arguments):
            looked.append(len(found))
            yield found

    monkeypatch.setattr(scan, "CHUNK_FRAMES", 40)
    while not all_there(crew):
        time.sleep(0.1)
    distributed.distribute(job, replace(crew, ship="always", looks=looks), progress=shown.append)
    assert len(looked) > 2
    assert job.output.read_bytes() == expected(clip)
    assert len({seat.facts.node for seat in crew.pool.seats}) == 2
    assert len(shown[-1].workers) == 2 and all(rate > 0 for rate in shown[-1].workers.values())
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_a_killed_worker_changes_nothing(crew, clip, tmp_path, caplog):
    job = job_of(clip, tmp_path / "out.mp4", **MANY_PIECES)
    killed = []

    def kill(progress):
        seat = next((s for s in crew.pool.seats if s.task is not None and s.facts is not None), None)
        if progress.done > 40 and not killed and seat is not None:
            os.kill(seat.facts.pid, signal.SIGKILL)
            killed.append(seat)

    distributed.distribute(job, crew, progress=kill)
    assert killed and "lost (" in caplog.text
    assert job.output.read_bytes() == expected(clip)


def test_a_batch_with_a_broken_file(crew, clip, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(clip.read_bytes()[:3000])
    small = make_video(tmp_path / "small.mp4", [pattern(i, 64, 48) for i in range(4)])
    items = [Item(s, tmp_path / "out" / s.name) for s in (clip, tmp_path / "broken.mp4", small)]
    job = job_of(clip, tmp_path / "x.mp4", **MANY_PIECES)
    config = BatchConfig(folder=tmp_path / "out", report=tmp_path / "report.json")
    entries = run_batch(items, job, config, crew=crew)
    again = run_batch(items, job, replace(config, skip_existing=True), crew=crew)
    assert [entry.status for entry in entries] == ["done", "failed", "done"]
    assert [entry.status for entry in again] == ["skipped", "failed", "skipped"]
    assert (tmp_path / "out" / clip.name).read_bytes() == expected(clip)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_program_that_was_ended_goes_on(cluster, crew, clip, tmp_path, number):
    target = tmp_path / "out.mp4"
    command = [sys.executable, "-m", "stvsr_cli", "upscale", str(clip), str(target), "--model", "linear", "--preset",
               "ultrafast", "--segment-frames", "8", "--window", "3", "--threads", "1", "--engine", "ray",
               "--progress", "json"]  # fmt: skip
    begun = [*command, "--address", "local", "--workers", "2"]
    process = subprocess.Popen(begun, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    folder = journal_folder(target)
    until = time.monotonic() + 60
    while len(list(folder.glob("??????.segment"))) < 4 and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == (130 if number == signal.SIGINT else -number), said
    assert number == signal.SIGKILL or "are kept in" in said
    kept = len(list(folder.glob("??????.segment")))
    assert 0 < kept < 40 and not target.exists()
    done = subprocess.run(begun, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == expected(clip)
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.slow  # whether a worker is on the node that goes is Ray's choice, once one was started anew
def test_a_lost_node_changes_nothing(cluster, crew, clip, tmp_path, caplog):
    """The last test: the node does not come back. It is lost during the first run, and not there in those after it."""
    jobs = [job_of(clip, tmp_path / f"{name}.mp4", **MANY_PIECES) for name in "abcdef"]
    lost = threading.Event()

    def remove(progress):
        if progress.done > 0 and not lost.is_set() and all_there(crew):
            cluster.remove_node(next(iter(cluster.worker_nodes)))
            lost.set()

    for number, job in enumerate(jobs):
        distributed.distribute(job, crew, progress=remove)
        assert job.output.read_bytes() == expected(clip)
        if number and "lost (" in caplog.text:  # a short run may end before the cluster has noticed
            break
    assert lost.is_set() and "lost (" in caplog.text
