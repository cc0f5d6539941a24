import logging
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stvsr_cli.engine.stitch import Runner, crossfade, join, tile_weight, upscale_shot
from stvsr_cli.errors import DeviceError
from stvsr_cli.job.windows import TileConfig, WindowConfig, tiles
from stvsr_cli.models.contract import Request
from stvsr_cli.models.linear import LinearModel

CPU = torch.device("cpu")
WHOLE = TileConfig(size_px=0, overlap_px=8)


def clip(count, height=12, width=16, seed=0):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def upscaled(frames, *, model=None, factor=2, size=4, overlap=1, tile=WHOLE, batch=1):
    runner = Runner(model or LinearModel(CPU, scale=4), Request(fps_factor=factor), tile, batch)
    return torch.stack(list(upscale_shot(runner, frames, WindowConfig(size=size, overlap=overlap))))


def whole(frames, factor=2):
    return upscaled(frames, factor=factor, size=max(2, len(frames)))


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 23),
    factor=st.sampled_from([1, 2, 4]),
    windows=st.integers(2, 8).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size - 1))),
    batch=st.integers(1, 4),
    how=st.sampled_from(["discard", "crossfade"]),
)
def test_windows_and_batches_change_nothing_for_a_local_model(count, factor, windows, batch, how):
    frames = clip(count, 4, 4)
    model = LinearModel(CPU, scale=4)
    model.traits = replace(model.traits, join=how)
    output = upscaled(frames, model=model, factor=factor, size=windows[0], overlap=windows[1], batch=batch)
    assert output.shape == ((count - 1) * factor + 1, 3, 16, 16)
    assert torch.allclose(output, whole(frames, factor), atol=1e-6)


@pytest.mark.parametrize("size", [18, 24, 40])
@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_change_nothing_for_a_local_model(size, batch):
    frames = clip(3, 37, 50)
    tiled = upscaled(frames, tile=TileConfig(size_px=size, overlap_px=8), batch=batch)
    assert torch.allclose(tiled, whole(frames), atol=1e-5)


def test_the_batch_changes_not_one_bit():
    frames = clip(11)
    tile = TileConfig(size_px=10, overlap_px=4)
    one = upscaled(frames, tile=tile, batch=1)
    assert all(torch.equal(one, upscaled(frames, tile=tile, batch=batch)) for batch in (2, 5))


class Drifting(LinearModel):
    """Adds an error that grows along each window, as a recurrent network's does."""

    def decode(self, latent, init, request):
        drift = torch.linspace(0, 0.1, latent.shape[1]).view(1, -1, 1, 1, 1)
        return (super().decode(latent, init, request) + drift).clamp(0, 1)


@pytest.mark.parametrize("how", ["discard", "crossfade"])
def test_no_seam_on_a_static_scene(how):
    frames = torch.full((30, 3, 4, 4), 0.4)
    output = upscaled(frames, size=7, overlap=3)
    assert (output - output[0]).abs().max() < 1e-6
    model = Drifting(CPU, scale=4)
    model.traits = replace(model.traits, join=how)
    steps = upscaled(frames, model=model, size=9, overlap=4).mean((1, 2, 3)).diff().abs()
    assert steps.max() < (0.035 if how == "crossfade" else 0.06)  # a hard seam would be 0.1 minus the overlap's share


def test_crossfade_weighs_all_frames_and_fades_one_way():
    faded = crossfade(torch.zeros(5, 1, 1, 1), torch.ones(5, 1, 1, 1)).flatten()
    assert (faded.diff() > 0).all() and torch.allclose(faded + faded.flip(0), torch.ones(5))
    same = torch.rand(4, 3, 2, 2)
    assert torch.allclose(crossfade(same, same), same)
    with pytest.raises(ValueError, match="shapes differ"):
        crossfade(same, same[:2])


def test_discard_takes_each_frame_from_one_window():
    kept = join(torch.zeros(5, 1, 1, 1), torch.ones(5, 1, 1, 1), "discard").flatten()
    assert kept.tolist() == [0, 0, 0, 1, 1]


@given(length=st.integers(9, 60), size=st.integers(8, 30), overlap=st.integers(0, 4))
def test_tile_weights_are_positive_and_sum_to_the_same_at_their_middle(length, size, overlap):
    plan = tiles(length, length, TileConfig(size_px=size, overlap_px=overlap))
    total = torch.zeros(2 * length, 2 * length)
    for t in plan:
        weight = tile_weight(t, length, length, overlap, 2, CPU)
        assert weight.shape == (2 * t.height, 2 * t.width) and (weight > 0).all() and (weight <= 1).all()
        total[2 * t.top : 2 * (t.top + t.height), 2 * t.left : 2 * (t.left + t.width)] += weight
    assert (total > 0).all()


class Cramped(LinearModel):
    """Runs out of memory above a number of input values."""

    def __init__(self, limit):
        super().__init__(CPU, scale=4)
        self.limit, self.sizes = limit, []

    def initialise(self, frames, request):
        self.sizes.append(tuple(frames.shape))
        if frames.numel() > self.limit:
            raise torch.OutOfMemoryError("no")
        return super().initialise(frames, request)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (3 * 4 * 96 * 96, ["batch of 2", "batch of 1"]),
        (3 * 4 * 64 * 64, ["batch of 2", "batch of 1", "tiles of 64"]),
        (3 * 2 * 64 * 64, ["batch of 2", "batch of 1", "tiles of 64", "2 frames"]),
    ],
)
def test_out_of_memory_gives_way_step_by_step_and_changes_nothing(limit, said, caplog):
    frames = clip(7, 96, 96)
    model = Cramped(limit)
    with caplog.at_level(logging.WARNING):
        output = upscaled(frames, model=model, batch=4)
    assert torch.allclose(output, whole(frames), atol=1e-5)
    assert len(caplog.messages) == len(said)
    assert all(words in message for words, message in zip(said, caplog.messages, strict=True))


def test_memory_that_never_suffices_is_a_device_error():
    with pytest.raises(DeviceError, match="out of memory"):
        upscaled(clip(5, 96, 96), model=Cramped(10))


def test_frames_stream_through_one_window_at_a_time():
    taken = []

    def source():
        for k, frame in enumerate(clip(50)):
            taken.append(k)
            yield frame

    runner = Runner(LinearModel(CPU, scale=4), Request(), WHOLE)
    stream = upscale_shot(runner, source(), WindowConfig(size=4, overlap=1))
    for _ in range(40):
        next(stream)
    assert len(taken) <= 20 + 2 * 4
