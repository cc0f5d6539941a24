"""The stages overlap: while one is at a whole group, no other is without work."""

import time
from itertools import pairwise

import pytest
import torch

from stvsr_cli.engine import handover, local
from stvsr_cli.engine.handover import DeviceHandover, HostHandover
from stvsr_cli.models import linear
from stvsr_cli.runtime.workers import Worker
from tests.engine.fakes import Queued
from tests.engine.runs import CPU, frames, run_of

STAGES = ("decode", "device", "convert", "encode")
QUICK = ("device", "encode")
"""Stages that are tried by every run of the tests."""
SLOW_S, QUICK_S = 0.024, 0.019
"""Seconds of a frame in the slowest stage and in the others."""
BUSY = 0.92
TRIES = 3
"""Best of so many counts: on a machine that others use, too, a thread may wake late."""
NEW = 2
"""Frames of a window that the one before has not."""


@pytest.fixture(autouse=True)
def _one_thread():
    """Stages here sleep; threads of PyTorch's that spin would only be in the way of others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Timed:
    """What a stage is at, and when."""

    def __init__(self, seconds):
        self.seconds, self.spans = seconds, []

    def work(self, count=1):
        begin = time.perf_counter()
        time.sleep(self.seconds * count)
        self.spans.append((begin, time.perf_counter()))

    def share(self):
        """Share of the time between its first and last step in which it was at work."""
        spans = sorted(self.spans)
        gaps = sum(max(0.0, begin - end) for (_, end), (begin, _) in pairwise(spans))
        return 1 - gaps / (spans[-1][1] - spans[0][0])


class Model(linear.LinearModel):
    """Takes its time as a CPU does: the call returns when it is over."""

    def __init__(self, stage):
        super().__init__(CPU)
        self._stage = stage

    def initialise(self, frames, request):
        self._stage.work(NEW * len(frames))
        return super().initialise(frames, request)


def shares(monkeypatch, slowest, batch, *, queued):
    """How busy each stage of a run is. queued: whether the device works by itself."""
    stages = {name: Timed(SLOW_S if name == slowest else QUICK_S) for name in STAGES}
    num_frames = 5 * NEW * batch + 1 if batch > 1 else 40

    def source():
        for frame in frames(num_frames, 8, 8):
            stages["decode"].work()
            yield frame

    lanes = Queued(stages["device"].seconds * NEW * batch)
    if queued:
        monkeypatch.setattr(local, "lanes_of", lambda _: lanes)
        monkeypatch.setattr(local, "handover_of", DeviceHandover)
        frame_kind = handover.DeviceFrame
        model = linear.load(CPU)
    else:
        monkeypatch.setattr(local, "handover_of", lambda form, _: HostHandover(form))
        frame_kind = handover.HostFrame
        model = Model(stages["device"])
    plain = frame_kind.picture

    def picture(self):
        if queued:
            handover.wait_for(self._mark)
        stages["convert"].work()
        return plain(self)

    monkeypatch.setattr(frame_kind, "picture", picture)
    encoder = Worker(lambda _: stages["encode"].work(), "encode")
    run = run_of(source, model=model, height=8, width=8, batch=batch, fps_factor=1, window=NEW + 1, overlap=1)
    run.into(lambda *made: encoder.put(made))
    encoder.close()
    if queued:
        stages["device"].spans = lanes.spans
    assert run.frames_out == num_frames == len(stages["encode"].spans)
    return {name: stage.share() for name, stage in stages.items()}


@pytest.mark.parametrize("queued", [False, True], ids=["at once", "queued"])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("slowest", [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in STAGES])
def test_the_slowest_stage_is_always_at_work(slowest, batch, queued):
    found = []
    while len(found) < TRIES and (not found or found[-1][slowest] < BUSY):
        with pytest.MonkeyPatch.context() as monkeypatch:
            found.append(shares(monkeypatch, slowest, batch, queued=queued))
    assert found[-1][slowest] >= BUSY, found
