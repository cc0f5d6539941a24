"""When memory runs out, every system goes on with less, loses no frame and says so in one line."""

import logging

import pytest
import torch

from stvsr_cli.engine.stitch import Runner, upscale_shot
from stvsr_cli.job.windows import TileConfig, WindowConfig
from stvsr_cli.models.contract import Request
from tests.benchmark.full_size import build

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
    assert [record.message for record in caplog.records] == [f"out of memory: going on with tiles of {half} pixels"]
    assert small.failures == 1 and output.shape == (9, 3, 64, 576)
    assert torch.equal(output, upscaled(model, frames, runner.tile)[0])


def test_then_the_window_is_halved(model, monkeypatch, caplog):
    frames = clip(16)
    small = Small(model, monkeypatch, most_frames=2)
    with caplog.at_level(logging.WARNING, "stvsr_cli"):
        output, runner = upscaled(model, frames)
    assert [record.message for record in caplog.records] == ["out of memory: going on with 2 frames a call"]
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
