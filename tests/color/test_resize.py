"""Frames brought to a size: alike by every way, with bars or with their sides cut off."""

import numpy as np
import pytest
import torch

from stvsr_cli.color.box import Box
from stvsr_cli.color.planes import PlaneFormat, picture_in
from stvsr_cli.color.resize import brought, to_size
from stvsr_cli.media.read.probe import ColorTags

FRAMES = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))


def test_a_frame_of_the_size_is_left_alone():
    assert to_size(FRAMES, 12, 20) is FRAMES


@pytest.mark.parametrize("size", [(48, 80), (6, 10), (24, 10), (13, 21)])
def test_flat_frames_stay_flat_and_sizes_are_met(size):
    flat = to_size(torch.full((1, 3, 12, 20), 0.25), *size)
    assert flat.shape[-2:] == size and torch.allclose(flat, torch.tensor(0.25), atol=1e-6)


def test_enlarging_stays_between_black_and_white():
    large = to_size(FRAMES.round(), 48, 80)
    assert large.min() >= 0 and large.max() <= 1


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p10le", "gray", "gbrp"])
@pytest.mark.parametrize("full", [False, True])
def test_bars_are_black_and_sharp(pix_fmt, full):
    form = PlaneFormat(width=40, height=40, pix_fmt=pix_fmt, color=ColorTags(matrix=1, range=2 if full else 1))
    out = picture_in(FRAMES[:1], form, Box(0, 8, 40, 24))
    alone = PlaneFormat(width=40, height=24, pix_fmt=pix_fmt, color=form.color)
    picture = picture_in(FRAMES[:1], alone, alone.place)
    for number, (plane, part) in enumerate(zip(out.planes, picture.planes, strict=True)):
        bar = (plane.shape[0] - part.shape[0]) // 2
        assert (plane[bar:-bar] == part).all()
        assert set(np.unique(plane[:bar])) == set(np.unique(plane[-bar:])) == {form.black[number > 0]}


def test_sides_are_cut_off_evenly():
    out = brought(FRAMES, Box(-8, 0, 40, 24), 24, 24)
    assert torch.equal(out, to_size(FRAMES, 24, 40)[..., 8:32])
