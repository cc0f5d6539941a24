"""The decoder's end on OpenVINO gives the pictures that PyTorch gives: exactly, or as near as an eye can tell."""

import pytest
import torch

from stvsr_cli.models.compact import load
from stvsr_cli.models.compact.openvino_pixels import patterns
from stvsr_cli.models.contract import Request
from stvsr_cli.models.step import run_window
from tests.clips import BUNNY, ROOT, read_frames

pytest.importorskip("openvino")
CPU = torch.device("cpu")
LEAST_DB = {("fp32", False): 90, ("bf16", False): 65, ("fp32", True): 52, ("bf16", True): 56}
"""Peak signal-to-noise ratio against PyTorch in float32 that must be kept with the weights that ship; by the precision of
the model and by whether OpenVINO makes its part in 8 bits."""


def clip():
    frames = torch.stack([torch.from_numpy(frame) for frame in read_frames(BUNNY)[0][:3]])  # [T, H, W, 3]
    return frames[:, 60:124, 100:180].permute(0, 3, 1, 2)[None] / 255


def compact(precision="fp32"):
    return load(ROOT / "weights/compact", CPU, torch.bfloat16 if precision == "bf16" else torch.float32)


def upscaled(model, frames, **changes):
    return run_window(model, frames, Request(**changes))


def psnr(a, b):
    return float(-10 * torch.log10((a - b).square().mean() + 1e-12))


@pytest.mark.parametrize(("precision", "in_8_bits"), LEAST_DB)
def test_pictures_are_those_of_pytorch(precision, in_8_bits):
    model, frames = compact(precision), clip()
    model.use_openvino(in_8_bits=in_8_bits)
    for detail in (1.0, 0.0):  # other weights
        found = psnr(upscaled(model, frames, detail=detail), upscaled(compact(), frames, detail=detail))
        assert found >= LEAST_DB[precision, in_8_bits], "with these weights, 8 bits are too coarse: see `patterns`"


def test_what_is_beyond_the_calibration_is_hardly_harmed():
    model, frames = compact(), (2 * patterns() - 0.5).clamp(0, 1)
    whole = upscaled(model, frames)
    model.use_openvino(in_8_bits=True)
    assert psnr(upscaled(model, frames), whole) > 35


def test_any_number_of_threads_and_frames_gives_the_same_in_order():
    model, frames = compact(), clip()
    model.use_openvino(in_8_bits=False)
    before = torch.get_num_threads()
    try:
        made = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            made.append(upscaled(model, frames))
        assert torch.allclose(*made, atol=1e-5)
        two = upscaled(model, torch.cat([frames, frames.flip(-1)]))
        assert torch.allclose(two[:1], made[1], atol=1e-5)
    finally:
        torch.set_num_threads(before)


def test_frames_of_several_sizes_take_turns():
    model, plain, frames = compact(), compact(), clip()
    model.use_openvino(in_8_bits=False)
    for part in (frames, frames[..., :32, :48], frames):
        assert torch.allclose(upscaled(model, part), upscaled(plain, part), atol=1e-4)
