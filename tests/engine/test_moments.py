"""Frames at any moments, through windows, batches, tiles and short memory."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stvsr_cli.engine.stitch import Runner, upscale_shot
from stvsr_cli.job.windows import TileConfig, WindowConfig
from stvsr_cli.models.contract import Request
from stvsr_cli.models.linear import LinearModel

WHOLE = TileConfig(size_px=0, overlap_px=8)
moments = st.lists(st.fractions(Fraction(1, 50), Fraction(49, 50)), max_size=5, unique=True).map(sorted).map(tuple)


def outputs(asked, *, size=4, overlap=1, batch=1, tile=WHOLE, longest=0, factor=3, how="discard", side=4):
    """Output frames of frames whose brightness tells their number."""
    model = LinearModel(torch.device("cpu"))
    model.traits = replace(model.traits, join=how)
    runner = Runner(model, Request(fps_factor=factor), tile, batch, longest)
    frames = [torch.full((3, side, side), number / 100) for number in range(len(asked))]
    return torch.stack(list(upscale_shot(runner, frames, WindowConfig(size=size, overlap=overlap), moments=asked)))


@settings(max_examples=60, deadline=None)
@given(
    asked=st.lists(moments, min_size=1, max_size=14),
    windows=st.integers(2, 8).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size - 1))),
    batch=st.integers(1, 4),
    longest=st.sampled_from([0, 2, 3]),
    factor=st.integers(1, 4),
    how=st.sampled_from(["discard", "crossfade"]),
)
def test_every_moment_is_made_once_and_in_order(asked, windows, batch, longest, factor, how):
    made = outputs(
        asked, size=windows[0], overlap=windows[1], batch=batch, longest=longest, factor=factor, how=how
    )  # fmt: skip
    told = [k + float(moment) for k, some in enumerate(asked[:-1]) for moment in (0, *some)] + [len(asked) - 1]
    assert (made.mean((1, 2, 3)) * 100).tolist() == pytest.approx(told, abs=1e-3)


def test_even_moments_are_the_factor_to_the_bit():
    asked = [(Fraction(1, 3), Fraction(2, 3))] * 9
    model = LinearModel(torch.device("cpu"))
    frames = torch.rand(9, 3, 8, 8)
    windows = WindowConfig(size=4, overlap=2)
    even = list(upscale_shot(Runner(model, Request(fps_factor=3), WHOLE), frames, windows))
    same = list(upscale_shot(Runner(model, Request(fps_factor=7), WHOLE), frames, windows, moments=asked))
    assert torch.equal(torch.stack(even), torch.stack(same))


def test_tiles_and_batches_do_not_show():
    asked = [
        (Fraction(1, 5),),
        (Fraction(1, 3), Fraction(4, 5)),
        (),
        (Fraction(1, 5),),
        (Fraction(1, 3), Fraction(4, 5)),
        (),
    ] * 3
    whole = outputs(asked, side=40)
    for batch in (1, 3):
        tiled = outputs(asked, side=40, batch=batch, tile=TileConfig(size_px=24, overlap_px=8))
        assert torch.allclose(whole, tiled, atol=1e-5)


def test_no_call_makes_more_than_was_planned():
    """A burst of frames in one window is made in parts."""
    counts = []

    class Counting(LinearModel):
        def initialise(self, frames, request):
            counts.append(request.num_outputs(frames.shape[1]))
            return super().initialise(frames, request)

    asked = [tuple(Fraction(j, 11) for j in range(1, 11))] * 4 + [(Fraction(1, 3),)] + [()] * 4
    runner = Runner(Counting(torch.device("cpu")), Request(fps_factor=2), WHOLE)
    frames = torch.rand(9, 3, 8, 8)
    made = list(upscale_shot(runner, frames, WindowConfig(size=9, overlap=1), moments=asked))
    assert len(made) == 9 + 40 + 1
    assert max(counts) <= 17 and len(counts) > 2
