"""Frames put in between others: the one place that knows their order, and the plainest way to make them."""

from collections.abc import Callable

import torch
from torch import Tensor

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


def insert_mixtures(frames: Tensor, factor: int) -> Tensor:
    """Insert mixtures of the two neighbours, each by how near it is. An `Inserter`."""
    left, right = frames[:, :-1], frames[:, 1:]
    return interleave(frames, [torch.lerp(left, right, step / factor) for step in range(1, factor)])
