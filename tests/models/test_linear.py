import pytest
import torch

from stvsr_cli.color.resize import to_size
from stvsr_cli.models import linear
from stvsr_cli.models.contract import Request
from stvsr_cli.models.step import run_window

MODEL = linear.LinearModel(torch.device("cpu"), scale=4)


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_output_shape(count, factor):
    output = run_window(MODEL, torch.rand(2, count, 3, 5, 7), Request(fps_factor=factor))
    assert output.shape == (2, (count - 1) * factor + 1, 3, 20, 28)


def test_a_constant_stays_constant():
    output = run_window(MODEL, torch.full((1, 3, 3, 6, 6), 0.3), Request())
    assert torch.allclose(output, torch.tensor(0.3), atol=1e-6)


def test_frames_between_are_the_blend():
    frames = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])[None]
    output = run_window(MODEL, frames, Request(fps_factor=4))
    assert torch.allclose(output[0, :, 0, 8, 8], torch.tensor([0, 0.25, 0.5, 0.75, 1.0]), atol=1e-6)


def test_output_lies_between_black_and_white():
    output = run_window(MODEL, torch.rand(1, 2, 3, 8, 8).round(), Request())
    assert output.min() >= 0 and output.max() <= 1
    assert MODEL.window_bytes(2, 8, 8, 2) >= output.nbytes


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_frames_brought_to_size_one_by_one_are_the_same_to_the_bit(scale):
    frames = torch.rand(1, 3, 3, 9, 14).round(decimals=1)
    whole = run_window(linear.LinearModel(torch.device("cpu"), scale=scale), frames, Request())[0]
    small = run_window(linear.load(torch.device("cpu")), frames, Request())[0]
    single = torch.cat([to_size(frame[None], 9 * scale, 14 * scale) for frame in small])
    assert torch.equal(single, whole) and small.shape[-2:] == (9, 14)
