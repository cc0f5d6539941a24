"""Frames brought to a size: alike by every way, with bars or with their sides cut off."""

import pytest
import torch

from stvsr_cli.color.resize import framed, to_size

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


def test_bars_are_black_and_the_picture_lies_in_their_middle():
    out = framed(FRAMES, 40, 40, (24, 40))
    assert out.shape[-2:] == (40, 40) and torch.equal(out[:, :, 8:32], to_size(FRAMES, 24, 40))
    assert not out[:, :, :8].any() and not out[:, :, 32:].any()


def test_sides_are_cut_off_evenly():
    out = framed(FRAMES, 24, 24, (24, 40))
    assert torch.equal(out, to_size(FRAMES, 24, 40)[..., 8:32])
