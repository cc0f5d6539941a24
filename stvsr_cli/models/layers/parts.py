"""Work on many frames, some at a time: what is made on the way stays small."""

from collections.abc import Callable

import torch
from torch import Tensor

POSITIONS_AT_ONCE = 2**16
"""Positions of 64 channels that convolutions take at once on a processor: what they make stays in its caches, and its memory
is taken again for the next ones in place of fresh memory, which the kernel would clear first."""


def positions_at_once(x: Tensor) -> int:
    """Positions that convolutions take at once of features like x: all, where it is trained or on a card."""
    return POSITIONS_AT_ONCE if x.device.type == "cpu" and not torch.is_grad_enabled() else x.numel()


def frames_at_once(x: Tensor, counted: int = 1) -> int:
    """How many frames like those of x, [..., H, W], convolutions take at once, each `counted` times; one at least."""
    return max(1, positions_at_once(x) // (counted * x.shape[-2] * x.shape[-1]))


def in_parts(work: Callable[..., Tensor], most: int, *frames: Tensor) -> Tensor:
    """Join what `work` makes of frames, [N, ., ., .] each, of as many at once as have `most` positions in the first; one at least.

    work: takes and returns as many frames as it is given, and looks at each alone.
    """
    at_once = max(1, most // (frames[0].shape[-2] * frames[0].shape[-1]))
    if at_once >= len(frames[0]):
        return work(*frames)
    parts = (work(*part) for part in zip(*(x.split(at_once) for x in frames), strict=True))
    if torch.is_grad_enabled():
        return torch.cat(list(parts))
    joined: Tensor | None = None  # written to part by part: joined at the end, all of it would be there twice
    for place, part in enumerate(parts):
        if joined is None:
            last = part.is_contiguous(memory_format=torch.channels_last) and not part.is_contiguous()
            order = torch.channels_last if last else torch.contiguous_format
            joined = torch.empty(
                len(frames[0]), *part.shape[1:], dtype=part.dtype, device=part.device, memory_format=order
            )
        joined[place * at_once : (place + 1) * at_once] = part
        del part
    assert joined is not None
    return joined
