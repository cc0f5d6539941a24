import pytest
import torch

from stvsr_cli.models.contract import Request, Traits
from stvsr_cli.models.step import padding, run_window


class Recorder:
    """Enlarges by repetition, blends in time, and remembers which verbs ran on what shape."""

    def __init__(self, **traits):
        self.traits = Traits(name="recorder", **traits)
        self.calls = []

    def initialise(self, frames, request):
        self.calls.append(("initialise", tuple(frames.shape)))
        factor = request.fps_factor
        between = [torch.lerp(frames[:, :-1], frames[:, 1:], j / factor) for j in range(factor)]
        return torch.cat([torch.stack(between, 2).flatten(1, 2), frames[:, -1:]], 1)

    def encode(self, init, request):
        self.calls.append(("encode", tuple(init.shape)))
        return init

    def condition(self, init, latent, request):
        self.calls.append(("condition", tuple(latent.shape)))

    def denoise(self, latent, condition, request):
        self.calls.append(("denoise", tuple(latent.shape)))
        return latent

    def decode(self, latent, init, request):
        self.calls.append(("decode", tuple(latent.shape)))
        scale = self.traits.scale
        return latent.repeat_interleave(scale, -1).repeat_interleave(scale, -2)


def test_each_verb_runs_once_and_in_order():
    model = Recorder()
    run_window(model, torch.rand(1, 3, 3, 8, 8), Request())
    assert [name for name, _ in model.calls] == ["initialise", "encode", "condition", "denoise", "decode"]


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 13), (16, 24), (33, 16)])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_size_and_count_comes_back_exactly(count, height, width, factor):
    model = Recorder(multiple_px=8, minimum_px=16, minimum_window=3, scale=2)
    frames = torch.rand(2, count, 3, height, width)
    output = run_window(model, frames, Request(fps_factor=factor))
    assert output.shape == (2, (count - 1) * factor + 1, 3, 2 * height, 2 * width)
    assert torch.equal(output[:, ::factor, :, ::2, ::2], frames)


def test_the_model_sees_only_sizes_that_suit_it():
    model = Recorder(multiple_px=8, minimum_px=32, minimum_window=4)
    run_window(model, torch.rand(1, 2, 3, 50, 10), Request())
    assert model.calls[0] == ("initialise", (1, 4, 3, 56, 32))


@pytest.mark.parametrize(("side", "expected"), [(1, 31), (32, 0), (33, 7), (40, 0)])
def test_padding_is_the_least_that_does(side, expected):
    traits = Traits(name="x", multiple_px=8, minimum_px=32)
    assert padding(side, 32, traits) == (expected, 0)
    assert padding(32, side, traits) == (0, expected)


def test_no_gradient_is_recorded():
    weight = torch.ones(1, requires_grad=True)
    model = Recorder()
    model.denoise = lambda latent, condition, request: latent * weight
    assert not run_window(model, torch.rand(1, 2, 3, 4, 4), Request()).requires_grad
