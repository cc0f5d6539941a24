"""When memory runs out, every system goes on with less, loses no frame and says so in one line."""

import logging

import pytest
import torch

from stvsr_cli.bench.random_models import build
from stvsr_cli.engine.stitch import Runner, upscale_shot
from stvsr_cli.job.windows import TileConfig, WindowConfig
from stvsr_cli.models import linear
from stvsr_cli.models.contract import Request
from stvsr_cli.pipeline import loading
from tests.engine.runs import frames, made_by, run_of

CPU = torch.device("cpu")
WHOLE = TileConfig(size_px=0, overlap_px=4)


@pytest.fixture(params=["osdenhancer", "dloral", "diffst"])
def model(request):
    model = build(request.param, "tiny", CPU, torch.float32)
    if request.param == "dloral":
        model.options = type(model.options)(process_px=64)
    return model


class Small:
    """A device on which calls larger than so many pixels or frames fail, in the middle of the denoiser."""

    def __init__(self, model, monkeypatch, *, most_px=10**9, most_frames=10**9):
        denoiser = model.parts[model.traits.denoiser]
        initialise, forward = model.initialise, denoiser.forward
        self.failures = 0
        self._frames = None

        def begin(frames, request):
            self._frames = frames.shape
            return initialise(frames, request)

        def fail(*args, **kwargs):
            output = forward(*args, **kwargs)
            if self._frames[1] > most_frames or self._frames[-1] > most_px:
                self.failures += 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return output

        monkeypatch.setattr(model, "initialise", begin)
        monkeypatch.setattr(denoiser, "forward", fail)


def upscaled(model, frames, tile=WHOLE, longest=0):
    runner = Runner(model, Request(), tile)
    runner.longest = longest
    outputs = list(upscale_shot(runner, frames, WindowConfig(size=4, overlap=1)))
    return torch.stack(outputs), runner


def clip(width):
    return torch.rand(5, 3, 16, width, generator=torch.Generator().manual_seed(0))


def test_the_tile_is_halved_and_the_same_window_run_again(model, monkeypatch, caplog):
    frames = clip(144)
    small = Small(model, monkeypatch, most_px=80)
    with caplog.at_level(logging.WARNING, "stvsr_cli"):
        output, runner = upscaled(model, frames)
    half = {"diffst": 80}.get(model.traits.name, 72)  # a multiple of what the model takes
    assert [record.message for record in caplog.records] == [f"out of memory: continuing with tiles of {half} pixels"]
    assert small.failures == 1 and output.shape == (9, 3, 64, 576)
    assert torch.equal(output, upscaled(model, frames, runner.tile)[0])


def test_then_the_window_is_halved(model, monkeypatch, caplog):
    frames = clip(16)
    small = Small(model, monkeypatch, most_frames=2)
    with caplog.at_level(logging.WARNING, "stvsr_cli"):
        output, runner = upscaled(model, frames)
    assert [record.message for record in caplog.records] == ["out of memory: continuing with 2 frames a call"]
    assert small.failures == 1 and runner.longest == 2 and output.shape == (9, 3, 64, 64)
    assert torch.equal(output, upscaled(model, frames, longest=2)[0])


def test_another_error_is_not_taken_for_it(model, monkeypatch):
    def fail(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(model, "encode", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        upscaled(model, clip(16))


def test_a_cpu_that_has_no_memory_left_counts_too(model, monkeypatch, caplog):
    encode, calls = model.encode, []

    def fail(*arguments):
        calls.append(0)
        if len(calls) == 1:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return encode(*arguments)

    monkeypatch.setattr(model, "encode", fail)
    assert upscaled(model, clip(16))[0].shape[0] == 9
    assert len(caplog.records) == 1


class Shrinking:
    """A device's memory that is less each time it is looked at, as where others, or PyTorch's cache, take of it."""

    def __init__(self, monkeypatch, free):
        self.free, self.looks = free, 0
        monkeypatch.setattr(loading, "auto_batch", self.batch)

    def batch(self, window_bytes, device, waiting=0):
        self.looks += 1
        self.free //= 2
        return max(1, self.free)


class Cramped(linear.LinearModel):
    """Holds a number of windows at a time, and of input values a window, both of which can shrink on the way."""

    def __init__(self, most_windows, most_px=10**9, error=None):
        super().__init__(CPU)
        self.most_windows, self.most_px, self.calls, self.failures = most_windows, most_px, [], 0
        self.error = error or torch.OutOfMemoryError("CUDA out of memory")

    def initialise(self, frames, request):
        self.calls.append(tuple(frames.shape))
        if len(frames) > self.most_windows or frames.shape[-1] > self.most_px:
            self.failures += 1
            raise self.error
        return super().initialise(frames, request)


SIDE = 68
CUTS = (8, 16, 24, 32)
SHOTS = {"cuts": "hold", "window": 3, "overlap": 1}


def source():
    return frames(40, SIDE, SIDE, cuts=CUTS)


def pixels(made):
    return [(slot, shot, [plane.tobytes() for plane in picture.planes]) for picture, slot, shot in made]


def test_the_batch_is_decided_once_a_run(monkeypatch):
    memory = Shrinking(monkeypatch, 16)
    model = Cramped(10**9)
    run = run_of(source, model=model, height=SIDE, width=SIDE, **SHOTS)
    made = made_by(run)
    assert run.num_shots == len(CUTS) + 1 and len(made) == 80
    assert memory.looks == 1 and run.plan.batch == 8
    assert max(shape[0] for shape in model.calls[-3:]) > 1  # the last shot still in one call


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
)
def test_what_did_not_fit_is_not_tried_again_in_the_next_shot(caplog, error):
    wanted = made_by(run_of(source, model=Cramped(10**9), height=SIDE, width=SIDE, batch=4, **SHOTS))
    model, pins = Cramped(1, error=error), []
    run = run_of(source, model=model, height=SIDE, width=SIDE, batch=4, **SHOTS)
    run.remember({}, lambda **pinned: pins.append(pinned))
    with caplog.at_level(logging.WARNING, "stvsr_cli"):
        made = made_by(run)
    assert pixels(made) == pixels(wanted)
    assert caplog.messages == [f"out of memory: continuing with a batch of {n}" for n in (2, 1)]
    assert model.failures == 2
    assert pins == [{"tile": 0, "window": 3, "batch": 4, "call": n, "longest": 0} for n in (4, 2, 1)]


def test_memory_that_shrinks_on_the_way_is_followed_and_never_tried_larger_again(caplog):
    model = Cramped(8)
    whole = made_by(run_of(source, model=Cramped(10**9), height=SIDE, width=SIDE, batch=4, **SHOTS))

    def shrinking():
        for number, frame in enumerate(source()):
            model.most_windows = (4, 2, 1, 1, 1)[sum(number >= cut for cut in CUTS)]
            model.most_px = 64 if number >= CUTS[3] else 10**9
            yield frame

    with caplog.at_level(logging.WARNING, "stvsr_cli"):
        made = made_by(run_of(shrinking, model=model, height=SIDE, width=SIDE, batch=4, **SHOTS))
    assert [(slot, shot) for _, slot, shot in made] == [(slot, shot) for _, slot, shot in whole]
    assert caplog.messages == [
        "out of memory: continuing with a batch of 2",
        "out of memory: continuing with a batch of 1",
        "out of memory: continuing with tiles of 64 pixels",
    ]
    assert model.failures == 3


def test_a_run_that_goes_on_begins_with_what_fitted():
    model = Cramped(1, most_px=64)
    pinned = {"tile": 64, "batch": 4, "call": 1, "longest": 2}
    run = run_of(source, model=model, height=SIDE, width=SIDE, batch=4, tile=64, **SHOTS)
    run.remember(pinned, lambda **_: None)
    made_by(run)
    assert model.failures == 0 and run.plan.batch == 4
    assert {shape[:2] for shape in model.calls} == {(1, 2)}
