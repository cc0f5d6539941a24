"""The memory plan against what is alive: counted over every tensor, at full size on the meta device, and on CUDA."""

import gc
from contextlib import nullcontext
from unittest.mock import patch

import pytest
import torch

from stvsr_cli.bench import random_models as full_size
from stvsr_cli.bench.live_memory import peak_bytes, stage_peaks
from stvsr_cli.models.compact import codec, pixels
from stvsr_cli.models.contract import Request
from stvsr_cli.models.dloral.vae import FrameCodec
from stvsr_cli.models.fit.memory import plan_memory
from stvsr_cli.models.step import run_window

SYSTEMS = ("osdenhancer", "dloral", "diffst")
META, CPU = torch.device("meta"), torch.device("cpu")
TOLERANCE = 0.15


def counted(model, size, device):
    count, height, width, factor = size
    frames = torch.rand(1, count, 3, height, width, device=device)
    return stage_peaks(model, frames, Request(fps_factor=factor))


def test_the_count_is_of_what_is_alive_and_of_nothing_else():
    weight = torch.rand(1000, 1000)

    def run():
        first = torch.rand(1000, 1000) @ weight  # 8 MB, of which 4 stay
        second = first.view(-1)[:10]  # no bytes of its own
        first = None
        third = torch.zeros(500_000)
        return second, third

    assert peak_bytes(run, [weight]) == 8_000_000


@pytest.mark.parametrize("name", ["osdenhancer", "diffst"])
def test_the_meta_device_counts_as_a_cpu_does(name):
    size = (3, 16, 32, 2)
    peaks = [
        max(counted(full_size.build(name, "tiny", device, torch.float32), size, device).values())
        for device in (META, CPU)
    ]
    assert peaks[0] == pytest.approx(peaks[1], rel=0.05)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("dloral", (1, 128, 128, 1)),
        ("diffst", (5, 64, 64, 2)),
        pytest.param("dloral", (4, 192, 160, 2), marks=pytest.mark.slow),
        pytest.param("diffst", (9, 128, 192, 2), marks=pytest.mark.slow),
        pytest.param("osdenhancer", (5, 60, 90, 2), marks=pytest.mark.slow),
        pytest.param("osdenhancer", (9, 90, 120, 2), marks=pytest.mark.slow),
    ],
)
def test_the_estimate_at_full_size_is_near_what_is_alive(name, size, monkeypatch):
    monkeypatch.setitem(full_size.COGVIDEOX_1_5_5B, "num_layers", 1)  # blocks run one after the other
    model = full_size.build(name, "full", META, torch.bfloat16)
    alive = max(counted(model, size, META).values())
    assert model.window_bytes(*size) == pytest.approx(alive, rel=TOLERANCE)


@pytest.mark.parametrize(
    ("size", "dtype", "device", "window"),
    [
        ("full", torch.bfloat16, CPU, (2, 384, 512, 2)),
        ("full", torch.float32, META, (9, 270, 480, 2)),
        ("full", torch.float32, META, (9, 1080, 1920, 4)),
        ("tiny", torch.float32, META, (9, 256, 384, 2)),
    ],
)
@pytest.mark.parametrize("halved", [False, True])
def test_the_compact_models_estimate_for_a_card_is_near_what_is_alive(size, dtype, device, window, halved, monkeypatch):
    count, height, width, factor = window
    monkeypatch.setattr(codec, "PIXELS_AT_ONCE", codec.CARD_PIXELS_AT_ONCE)
    monkeypatch.setattr(pixels, "ROWS_AT_ONCE", 10**9)
    model = full_size.build("compact", size, device, dtype)
    frames = torch.rand(1, count, 3, height, width, device=device)
    with patch("torch.autocast", lambda *_, **__: nullcontext()) if device == META else nullcontext():
        request = Request(fps_factor=factor, halved=halved)
        alive = peak_bytes(lambda: run_window(model, frames, request), model.network.parameters())
    estimate = model.card_bytes((count - 1) * factor + 1, height, width, 2 if halved else 4)
    assert estimate == pytest.approx(alive, rel=TOLERANCE)


def test_dlorals_autoencoder_is_planned_with_what_it_took_on_a_card():
    model = full_size.build("dloral", "full", META, torch.float16)
    model.codec = FrameCodec(model.codec.vae, tile_px=None, posterior="mode", on_card=True)
    assert model.stage_bytes(9, 270, 480, 2)["vae"] == pytest.approx(5745 * 2**20, rel=0.05)  # on an H200


@pytest.mark.gpu
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_plan_holds_on_cuda(name):
    device = torch.device("cuda")
    gc.collect()  # of the system before, which would count as there already
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    model = full_size.build(name, "full", device, torch.bfloat16)
    torch.cuda.reset_peak_memory_stats()
    size = (9, 270, 480, 2)
    run_window(model, torch.rand(1, size[0], 3, size[1], size[2], device=device), Request(fps_factor=size[3]))
    used = torch.cuda.max_memory_allocated() - before
    assert plan_memory(model, *size).total == pytest.approx(used, rel=TOLERANCE)
