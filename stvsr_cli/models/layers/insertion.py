"""Frames put in between others: the one place that knows their order, and the plainest way to make them."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate

import torch
from torch import Tensor

Moments = Sequence[Sequence[Fraction]]
"""Of each interval between two keyframes, where frames lie in it, in (0, 1), rising."""
Inserter = Callable[[Tensor, int], Tensor]
"""Inserts frames: ([B, T, 3, h, w] in [0, 1], factor F) -> [B, (T - 1) * F + 1, 3, h, w]; frame k * F is frame k."""


def interleave(keyframes: Tensor, between: list[Tensor]) -> Tensor:
    """Put the intermediate frames between the keyframes.

    keyframes: [B, T, ...]; between: F - 1 tensors [B, T-1, ...] in order of time. Returns [B, (T-1)F + 1, ...].
    """
    if keyframes.shape[1] == 1 or not between:
        return keyframes
    groups = torch.stack([keyframes[:, :-1], *between], 2).flatten(1, 2)
    return torch.cat([groups, keyframes[:, -1:]], 1)


def even_moments(num_frames: int, factor: int) -> Moments:
    """Those of F - 1 frames at even steps in each interval of so many keyframes."""
    return [[Fraction(step, factor) for step in range(1, factor)]] * (num_frames - 1)


def rounds(moments: Moments, device: torch.device) -> list[float | Tensor]:
    """The first moment of all intervals, the second, and so on, for frames that are made of all intervals at once.

    Each is a number where all intervals have the same, else a tensor [T-1], of 1/2 where an interval has none.
    """
    found: list[float | Tensor] = []
    for step in range(max((len(some) for some in moments), default=0)):
        values = [float(some[step]) if step < len(some) else 0.5 for some in moments]
        same = len(set(values)) == 1
        found.append(values[0] if same else torch.tensor(values, device=device))
    return found


def weave(keyframes: Tensor, between: list[Tensor], moments: Moments) -> Tensor:
    """Put the intermediate frames between the keyframes, as many as each interval has moments.

    keyframes: [B, T, ...]; between: [B, T-1, ...] each, as `rounds` orders them. Returns [B, T', ...].
    """
    counts = [len(some) for some in moments]
    woven = interleave(keyframes, between)
    if all(count == len(between) for count in counts):
        return woven
    width = len(between) + 1
    kept = [k * width + j for k, count in enumerate(counts) for j in range(count + 1)] + [len(counts) * width]
    return woven[:, kept]


def keyframe_places(moments: Moments) -> list[int]:
    """Where the keyframes are among the frames that `weave` returns."""
    return [0, *accumulate(len(some) + 1 for some in moments)]


def insert_mixtures(frames: Tensor, factor: int) -> Tensor:
    """Insert mixtures of the two neighbours, each by how near it is. An `Inserter`."""
    return mixtures_at(frames, even_moments(frames.shape[1], factor))


def mixtures_at(frames: Tensor, moments: Moments) -> Tensor:
    """Insert mixtures of the two neighbours at some moments. [B, T, 3, h, w] -> [B, T', 3, h, w]."""
    left, right = frames[:, :-1], frames[:, 1:]
    return weave(frames, [torch.lerp(left, right, spread(t)) for t in rounds(moments, frames.device)], moments)


def spread(value: float | Tensor, num_dims: int = 5) -> float | Tensor:
    """What `rounds` gives, so that it broadcasts over [B, T-1, ...] of so many dimensions."""
    return value if isinstance(value, float) else value.view(1, -1, *[1] * (num_dims - 2))
