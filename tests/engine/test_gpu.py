"""What must hold on any device, and is tried on the CPU too wherever a CPU can: `pytest -m gpu` tries it on a GPU.

pytest -m gpu            # all tests that need a card, here and elsewhere
"""

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from stvsr_cli import Job, upscale
from stvsr_cli.bench.measure import BenchConfig, measure
from stvsr_cli.bench.random_models import build
from stvsr_cli.engine import local
from stvsr_cli.engine.handover import DeviceHandover
from stvsr_cli.errors import OutputError
from stvsr_cli.job.report import Loaded
from stvsr_cli.media.write import encoders
from stvsr_cli.media.write.settings import INSTEAD, EncoderConfig
from tests.clips import make_video, pattern, read_frames
from tests.engine.runs import CPU, frames, made_by, run_of

logger = logging.getLogger(__name__)

CUDA = torch.device("cuda")
GPU = pytest.mark.gpu
DEVICES = [pytest.param(CPU, id="cpu"), pytest.param(CUDA, id="cuda", marks=GPU)]
SIZE = {"height": 64, "width": 96}
MOST_TIMES_FLOOR = 8.0
"""How far from its floor a window of the compact model may be on a card in half precision."""
GOAL_FPS = 60.0
"""Output frames a second at 1080p on one card of the data centre."""


@pytest.fixture(autouse=True)
def _exact():
    """Products in full float32, so that devices can be held against each other."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def as_device(monkeypatch):
    """Even a CPU's frames take the way of a device."""
    monkeypatch.setattr(local, "handover_of", DeviceHandover)


def model_on(device, name="compact", dtype=torch.float32):
    return build(name, "tiny", device, dtype)


def luma(made):
    return np.stack([picture.planes[0] for picture, *_ in made]).astype(int)


def made_on(device, count=9, **changes):
    return made_by(run_of(lambda: frames(count, **SIZE), model=model_on(device), device=device, **SIZE, **changes))


@pytest.mark.parametrize("scale", [4, 2])
@pytest.mark.parametrize("device", DEVICES)
def test_a_device_makes_what_the_cpu_makes(device, as_device, monkeypatch, scale):
    changes = {"window": 5, "overlap": 2, "scale": Fraction(scale)}
    ours = luma(made_on(device, **changes))
    monkeypatch.undo()
    difference = np.abs(ours - luma(made_on(CPU, **changes)))
    assert difference.max() <= 3 and (difference <= 1).mean() > 0.999


@pytest.mark.parametrize("device", DEVICES)
def test_the_batch_does_not_show(device, as_device):
    changes = {"window": 3, "overlap": 1}
    one, four = (luma(made_on(device, batch=batch, **changes)) for batch in (1, 4))
    assert np.abs(one - four).max() <= 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_of_a_local_model_do_not_show(device, as_device, batch):
    def made(**changes):
        model = build("linear", "tiny", device, torch.float32)
        return luma(made_by(run_of(lambda: frames(7, **SIZE), model=model, device=device, **SIZE, **changes)))

    assert np.abs(made() - made(tile=48, batch=batch)).max() <= 1


def clip(path, count=30):
    pictures = [pattern(3 * i, 64, 48) for i in range(count)]
    return make_video(path, pictures, rate=Fraction(25))


class Stops:
    """A model that breaks at a call."""

    def __init__(self, model, at):
        self._model, self._left = model, at

    def __getattr__(self, name):
        return getattr(self._model, name)

    def initialise(self, batch, request):
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("the model broke")
        return self._model.initialise(batch, request)


@pytest.mark.parametrize("device", DEVICES)
def test_a_run_goes_on_to_the_bit(device, tmp_path):
    source = clip(tmp_path / "in.mp4")

    def job(name):
        return Job(input=source, output=tmp_path / name, model="compact", window=3, overlap=1, batch=2, segment_frames=8,
                   cuts="ignore", encoder=EncoderConfig(codec="libx264", preset="ultrafast"), record=False)  # fmt: skip

    loaded = Loaded(model_on(device), device, torch.float32, 0.0)
    upscale(job("whole.mp4"), loaded=loaded)
    with pytest.raises(RuntimeError, match="broke"):
        upscale(job("parts.mp4"), loaded=replace(loaded, model=Stops(loaded.model, 5)))
    assert not (tmp_path / "parts.mp4").exists()
    report = upscale(job("parts.mp4"), loaded=loaded)
    assert report.frames_out == 60
    whole, parts = (np.stack(read_frames(tmp_path / name)[0]) for name in ("whole.mp4", "parts.mp4"))
    assert np.array_equal(whole, parts)


@GPU
def test_a_window_loop_never_waits_for_the_card():
    run = run_of(lambda: frames(20, **SIZE), model=model_on(CUDA), device=CUDA, window=3, overlap=1, **SIZE)
    made_on(CUDA)  # the first calls set up what later ones use
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert len(made_by(run)) == 40
    finally:
        torch.cuda.set_sync_debug_mode("default")


@GPU
def test_a_run_gives_way_when_the_cards_memory_runs_out(caplog):
    large = {"height": 256, "width": 384}
    needed = run_of(lambda: frames(4, **large), model=model_on(CUDA), device=CUDA, **large).plan.memory
    share = 2.5 * needed / torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    try:
        with caplog.at_level("WARNING", "stvsr_cli"):
            run = run_of(lambda: frames(40, **large), model=model_on(CUDA), device=CUDA, batch=8, window=9, **large)
            assert len(made_by(run)) == 80
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert caplog.messages and all("out of memory: continuing with" in message for message in caplog.messages)


def job_for(device, **changes):
    return Job(**{"input": Path("in.mkv"), "output": Path("out.mkv"), "device": device, "cuts": "ignore",
                  "encoder": EncoderConfig(codec="libx264", preset="ultrafast")} | changes)  # fmt: skip


@GPU
@pytest.mark.parametrize("size", [(480, 270), (960, 540)])
def test_the_memory_plan_is_near_what_the_card_used(size):
    row = measure(job_for("cuda"), BenchConfig(width=size[0], height=size[1], windows=0))
    logger.info("%s", row)
    assert row.peak_bytes == pytest.approx(row.planned_bytes, rel=0.15)


@GPU
@pytest.mark.parametrize("size", [(480, 270), (960, 540)])
def test_the_compact_model_is_as_fast_as_its_floor_lets_it_be(size):
    # many groups of windows: while the first is read and the last is written, the device has nothing to do
    row = measure(job_for("cuda", batch=2), BenchConfig(width=size[0], height=size[1], windows=48))
    logger.info("%s", row)
    assert sum(row.verbs.values()) <= MOST_TIMES_FLOOR * max(row.floor_s, row.traffic_s)
    assert row.busy > 0.9 or row.stages["encode"] > 0.9 * row.stages["total"]
    if size == (480, 270):
        assert row.window_fps >= GOAL_FPS


@GPU
@pytest.mark.parametrize("codec", sorted(INSTEAD))
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_a_cards_encoder_writes_what_it_is_given(tmp_path, codec, pix_fmt):
    encoder = EncoderConfig(codec=codec, crf=10, pix_fmt=pix_fmt)
    try:
        report = upscale(
            Job(input=clip(tmp_path / "in.mp4"), output=tmp_path / "out.mkv", model="linear", encoder=encoder)
        )
    except OutputError as error:
        pytest.skip(error.message)
    assert report.frames_out == 60 and report.output.bit_depth == (10 if pix_fmt.endswith("10le") else 8)
    upscale(Job(input=tmp_path / "in.mp4", output=tmp_path / "x264.mkv", model="linear",
                encoder=EncoderConfig(codec="libx264", crf=10, pix_fmt=pix_fmt)))  # fmt: skip
    ours, theirs = (np.stack(read_frames(tmp_path / name)[0]).astype(int) for name in ("out.mkv", "x264.mkv"))
    assert np.abs(ours - theirs).mean() < 2


def test_the_rehearsal_of_the_figures_runs_here():
    encoders.has_card.cache_clear()
    row = measure(job_for("cpu", window=3, precision="fp32"), BenchConfig(width=32, height=16, windows=2, size="tiny"))
    assert row.run_fps > 0 and row.peak_bytes > 0 and row.planned_bytes > 0 and row.floor_s > 0
