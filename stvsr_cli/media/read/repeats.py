"""Frames that show what the one before them shows: animation on twos, film in a faster rate, screen recordings."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from stvsr_cli.media.read.decode import Frame, Picture

BLOCK_PX = 16
LITTLE_MEAN, LITTLE_BLOCK = 0.6, 3.0
"""Change in code values, of the picture and of its most changed block, that coding alone makes. Measured: repeats in
clips coded by x264 at crf 12 to 23 change by at most 0.44 and 5, frames with motion by at least 1 and 6."""
SHARE_MEAN, SHARE_BLOCK = 0.25, 0.4
"""Of the usual change: what is below both is a repeat too."""
LONGEST = 6
"""Frames with one picture; where there are more, the scene itself is still."""
REMEMBERED = 8
"""Changes that the usual one is the median of."""


@dataclass(frozen=True, slots=True)
class Change:
    """How far a picture differs from another, in code values of 8 bits."""

    mean: float
    block: float
    """Mean of the block that differs most."""
    share: float = 1.0
    """Share of the blocks that differ by more than coding alone makes."""

    @classmethod
    def between(cls, a: Picture, b: Picture) -> "Change":
        """The change of the first plane: luma, or green."""
        scale = 2 ** (a.bit_depth - 8)
        apart = np.abs(a.planes[0].astype(np.int32) - b.planes[0]).astype(np.float32) / scale
        rows, columns = (max(1, side // BLOCK_PX) for side in apart.shape)
        tall, wide = (min(side, BLOCK_PX) for side in apart.shape)
        blocks = apart[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide)
        means = blocks.mean((1, 3))
        return cls(float(apart.mean()), float(means.max()), float((means > LITTLE_BLOCK).mean()))


class Repeats:
    """Tells which frames of a shot repeat the picture before them."""

    def __init__(self) -> None:
        self._usual: deque[Change] = deque(maxlen=REMEMBERED)

    def is_repeat(self, change: Change) -> bool:
        """Whether a frame with this change against the last new picture repeats it; learns what is usual."""
        little = change.mean < LITTLE_MEAN and change.block < LITTLE_BLOCK
        if len(self._usual) < 2:
            repeat = little
        else:
            mean, block = (float(np.median([getattr(c, name) for c in self._usual])) for name in ("mean", "block"))
            repeat = change.mean < SHARE_MEAN * mean and (little or change.block < SHARE_BLOCK * block)
        if not repeat:
            self._usual.append(change)
        return repeat

    def note_still(self, change: Change) -> None:
        """Learn that so small a change is usual, since the scene is still."""
        self._usual.extend([change] * REMEMBERED)


def groups(frames: Iterable[Frame]) -> Iterator[tuple[list[Frame], Frame | None]]:
    """Yield frames together with those that repeat them, and the next one of their shot; lags by a group.

    frames: with their cuts marked. Most groups are of one frame. Holds `LONGEST` frames.
    """
    repeats, group, change = Repeats(), list[Frame](), Change(0.0, 0.0)
    for frame in frames:
        if not group or frame.cut:
            repeats = Repeats()
        else:
            change = Change.between(group[0].picture, frame.picture)
            if repeats.is_repeat(change) and len(group) < LONGEST:
                group.append(frame)
                continue
        if len(group) == LONGEST:
            repeats.note_still(change)
            yield from (([held], None) for held in group[:-1])
            group = group[-1:]
        if group:
            yield group, None if frame.cut else frame
        group = [frame]
    if group:
        yield group, None
