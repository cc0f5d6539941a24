"""Frames of half the model's scale, as `Request.halved` asks for them."""

import pytest
import torch
from torch.nn import functional

from stvsr_cli.engine.stitch import Runner
from stvsr_cli.job.windows import TileConfig
from stvsr_cli.models.compact import load
from stvsr_cli.models.contract import Request
from stvsr_cli.models.step import run_window
from tests.clips import BUNNY, ROOT, read_frames

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def frames():
    """[1, 3, 3, 60, 78]: sides that the model must pad."""
    read = torch.stack([torch.from_numpy(frame) for frame in read_frames(BUNNY)[0][:3]])
    return read[:, 60:120, 100:178].permute(0, 3, 1, 2)[None] / 255


def compact(dtype=torch.float32):
    return load(ROOT / "weights/compact", CPU, dtype)


def psnr(a, b):
    return float(-10 * torch.log10((a - b).square().mean() + 1e-12))


def reduced(frames):
    half = [side // 2 for side in frames.shape[-2:]]
    return functional.interpolate(frames.flatten(0, 1), half, mode="bicubic", antialias=True)[None]


@pytest.mark.parametrize("asked", [{}, {"detail": 0.0}, {"restore": 1.0, "fps_factor": 3}])
def test_they_are_the_models_own_reduced(frames, asked):
    model = compact()
    whole, half = (run_window(model, frames, Request(halved=halved, **asked)) for halved in (False, True))
    assert half.shape[-2:] == (120, 156) and half.shape[:3] == whole.shape[:3]
    assert psnr(half, reduced(whole)) > 43
    fine = (half - functional.avg_pool2d(half.flatten(0, 1), 3, 1, 1)[None]).abs().mean()
    wanted = reduced(whole)
    assert 0.95 < fine / (wanted - functional.avg_pool2d(wanted.flatten(0, 1), 3, 1, 1)[None]).abs().mean() < 1.02


@pytest.mark.parametrize("in_8_bits", [False, True])
def test_openvino_makes_the_same(frames, in_8_bits):
    pytest.importorskip("openvino")
    model = compact()
    whole, half = (run_window(model, frames, Request(halved=halved)) for halved in (False, True))
    model.use_openvino(in_8_bits=in_8_bits)
    assert psnr(run_window(model, frames, Request(halved=True)), half) > (52 if in_8_bits else 90)
    assert psnr(run_window(model, frames, Request()), whole) > (52 if in_8_bits else 90)


def test_tiles_of_them_join_to_the_whole(frames):
    parts = [
        Runner(compact(), Request(halved=True), TileConfig(size_px=side, overlap_px=32), 1).run(frames)[0]
        for side in (0, 64)
    ]
    assert parts[0].shape == (5, 3, 120, 156)
    assert psnr(*parts) > 40
