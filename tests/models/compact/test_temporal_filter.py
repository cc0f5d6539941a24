"""The temporal filter: what trembles becomes steadier, what moves along the flow stays, what is not alike is left alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from stvsr_cli.errors import ModelError
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.motion import Motion
from stvsr_cli.models.compact.temporal_filter import COEFFICIENTS, temporally_filtered

STRIDE = 8
EXACT = 1e-5
"""Rounding of float32 for values in [0, 1]."""


def moving(count: int, height: int, width: int, step: tuple[int, int] = (0, 0)) -> tuple[Tensor, Motion]:
    """A smooth picture that goes round by so many pixels (x, y) a frame, [1, count, 3, height, width], and its motion."""
    grain = torch.rand(1, 3, height // 4, width // 4, generator=torch.Generator().manual_seed(7))
    picture = functional.interpolate(grain, (height, width), mode="bicubic", align_corners=False)
    frames = torch.stack([picture.roll((i * step[1], i * step[0]), (-2, -1)) for i in range(count)], 1)
    flow = torch.tensor(step, dtype=torch.float32) / STRIDE
    field = flow.view(1, 1, 2, 1, 1).expand(1, count - 1, 2, height // STRIDE, width // STRIDE)
    return frames, Motion(field, -field)


@torch.no_grad()
def filtered(frames: Tensor, motion: Motion, strength: float = 0.25) -> Tensor:
    return temporally_filtered(frames.clone(), motion, strength)


def inner(frames: Tensor) -> Tensor:
    """Without what has come in at the border."""
    return frames[..., 16:-16, 16:-16]


@pytest.mark.parametrize("step", [(0, 0), (3, 0), (-2, 5)])
def test_what_moves_along_the_flow_stays(step: tuple[int, int]) -> None:
    frames, motion = moving(4, 96, 128, step)
    assert (inner(filtered(frames, motion)) - inner(frames)).abs().max() < EXACT


@pytest.mark.parametrize("step", [(0, 0), (3, -1)])
def test_what_trembles_becomes_steadier(step: tuple[int, int]) -> None:
    frames, motion = moving(5, 96, 128, step)
    noise = 0.01 * torch.randn(1, 5, 1, 96, 128, generator=torch.Generator().manual_seed(1))
    left = filtered(frames + noise, motion) - frames
    assert inner(left).std() < 0.75 * inner(noise).std()


def test_another_picture_is_left_alone() -> None:
    frames, motion = moving(3, 96, 128)
    frames[:, 1] = 1 - frames[:, 1]
    change = (filtered(frames, motion) - frames)[:, 1].abs()
    assert change.mean() < 0.1 * (frames[:, 1] - frames[:, 0]).abs().mean() * 0.5


def test_colour_differences_stay() -> None:
    frames, motion = moving(3, 64, 64)
    frames = (frames + 0.02 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    made = filtered(frames, motion)
    assert ((made[:, :, 0] - made[:, :, 1]) - (frames[:, :, 0] - frames[:, :, 1])).abs().max() < EXACT
    assert sum(COEFFICIENTS) == pytest.approx(1)


@settings(deadline=None, max_examples=20)
@given(count=st.integers(1, 4), strength=st.floats(0, 0.5), seed=st.integers(0, 99), batch=st.integers(1, 2))
def test_time_has_no_direction(count: int, strength: float, seed: int, batch: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.rand(batch, count, 3, 32, 48, generator=generator)
    to_next, to_previous = torch.randn(2, batch, count - 1, 2, 4, 6, generator=generator).unbind(0)
    there = filtered(frames, Motion(to_next, to_previous), strength)
    back = filtered(frames.flip(1), Motion(to_previous.flip(1), to_next.flip(1)), strength).flip(1)
    assert torch.allclose(there, back, atol=EXACT)
    alone = filtered(frames[:1], Motion(to_next[:1], to_previous[:1]), strength)
    assert torch.allclose(there[:1], alone, atol=EXACT)  # members of a batch never meet


def test_training_sees_the_same_and_learns_through_it() -> None:
    frames, motion = moving(3, 32, 48, (1, 0))
    frames = frames + 0.02 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(3))
    leaf = frames.clone().requires_grad_()
    trained = temporally_filtered(leaf, motion, 0.25)
    assert torch.equal(leaf.detach(), frames), "what is trained is not overwritten"
    assert torch.allclose(trained.detach(), filtered(frames, motion), atol=EXACT)
    trained[:, 1].sum().backward()
    assert leaf.grad is not None
    assert leaf.grad[:, 0].any(), "a frame's neighbours have a part in it"


def test_strength_is_checked() -> None:
    for name in ("temporal_filter", "restored_temporal_filter"):
        with pytest.raises(ModelError, match=f"^{name}=0.6"):
            CompactConfig(**{name: 0.6})
