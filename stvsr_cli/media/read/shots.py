"""Cut detection while frames stream by."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import TypeVar

import numpy as np

from stvsr_cli.media.read.decode import Frame, Picture

Pixels = TypeVar("Pixels")
GRID = (32, 48)
"""Rows and columns to which brightness is reduced."""
REACH = (10, 16)
"""Largest shift between two frames that counts as motion, in cells of the grid: a third of the picture."""
FAINT = 1e-3
"""Variance below which structure is as good as none, so that black frames are like each other."""
LEAST_CHANGE = 0.02
"""Mean change of brightness, of 1, below which nothing is a cut."""
PLAIN_CHANGE = 0.08
"""Change of brightness, of 1, that makes two pictures without structure different."""
STANDS_OUT = 1.5
"""By how much a cut's change exceeds the changes around it."""
SAMPLES = 8
"""Samples taken of a cell in each direction."""


THRESHOLD = 0.2
"""Share of structure, after the best shift, that two frames of different shots do not have in common."""


@dataclass(frozen=True, slots=True)
class Change:
    """What differs between a frame and the one before it."""

    structure: float
    """0 if one is the other moved, brightened or dimmed, 1 if they share nothing."""
    brightness: float
    """Mean absolute difference, of 1."""
    back: float | None = None
    """The same as structure, against the frame before that, where the change is a large one."""

    def is_large(self, threshold: float) -> bool:
        """Whether the change could be a cut."""
        return self.structure > threshold and self.brightness > LEAST_CHANGE


def mark_cuts(frames: Iterable[Frame], *, mode: str = "hold", threshold: float = THRESHOLD) -> Iterator[Frame]:
    """Yield the frames with `cut` set where a new shot begins; the first frame always begins one. Lags one frame.

    mode: "hold" looks for cuts, "ignore" takes the whole stream as one shot. threshold: as of `find_cuts`.
    """
    if mode not in ("hold", "ignore"):
        raise ValueError(f"{mode = } must be hold or ignore")
    if mode == "ignore":
        for number, frame in enumerate(frames):
            yield replace(frame, cut=number == 0)
        return
    held: deque[Frame] = deque()

    def pictures() -> Iterator[Picture]:
        for frame in frames:
            held.append(frame)
            yield frame.picture

    for cut in find_cuts(changes(pictures(), threshold=threshold), threshold=threshold):
        yield replace(held.popleft(), cut=cut)


def changes(pictures: Iterable[Picture], *, threshold: float = THRESHOLD) -> Iterator[Change | None]:
    """Yield how each picture differs from the one before it; None for the first."""
    layouts: deque[np.ndarray] = deque(maxlen=3)
    for picture in pictures:
        layouts.append(_layout(picture))
        change = None if len(layouts) == 1 else _change(layouts[-2], layouts[-1])
        if change is not None and len(layouts) == 3 and change.is_large(threshold):
            change = replace(change, back=_change(layouts[0], layouts[2]).structure)
        yield change


def find_cuts(changes: Iterable[Change | None], *, threshold: float = THRESHOLD) -> Iterator[bool]:
    """Yield, for each frame, whether a new shot begins with it; lags one frame.

    threshold: share of structure, after the best shift, that two frames must not have in common. A cut must also stand
    out from the changes before and after it, so that fades and shaking are none; and what comes back after one frame
    was a flash.
    """
    recent: deque[Change] = deque(maxlen=3)
    change: Change | None = None
    begun = suspect = False
    for following in changes:
        if begun and following is not None:
            is_cut = change is None or (suspect and change.brightness > STANDS_OUT * following.brightness)
            yield is_cut
            if is_cut:
                recent.clear()
            elif change is not None:
                recent.append(change)
            suspect = _is_suspect(following, recent, threshold)
            if suspect and following.back is not None:  # the picture before last again: a flash ends
                suspect = is_cut or following.back >= threshold
        begun, change = True, following
    if begun:
        yield change is None or suspect


def _is_suspect(change: Change, recent: Iterable[Change], threshold: float) -> bool:
    """Whether a change is large, and larger than those before it."""
    if not change.is_large(threshold):
        return False
    usual = list(recent)
    return not usual or (
        change.structure > STANDS_OUT * float(np.median([c.structure for c in usual]))
        and change.brightness > STANDS_OUT * float(np.median([c.brightness for c in usual]))
    )


def _layout(picture: Picture) -> np.ndarray:
    """Reduced brightness [at most 32, at most 48] in [0, 1], of the first plane (luma, or green)."""
    plane = picture.planes[0]
    steps = [max(1, side // (cells * SAMPLES)) for side, cells in zip(plane.shape, GRID, strict=True)]
    used = plane[:: steps[0], :: steps[1]].astype(np.float32)
    for axis, cells in enumerate(GRID):
        count = min(cells, used.shape[axis])
        begins = np.arange(count) * used.shape[axis] // count
        sizes = np.diff(np.append(begins, used.shape[axis]))
        used = np.add.reduceat(used, begins, axis) / np.expand_dims(sizes, 1 - axis)
    return used / (2**picture.bit_depth - 1)


def _change(a: np.ndarray, b: np.ndarray) -> Change:
    brightness = float(np.abs(a - b).mean())
    if max(a.var(), b.var()) < FAINT:  # two plain pictures have only their brightness to tell them apart
        return Change(float(brightness > PLAIN_CHANGE), brightness)
    return Change(1 - _best_correlation(a, b), brightness)


@lru_cache(maxsize=4)
def _overlap(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """Spectrum of a frame of ones, cells that overlap at each shift, and the shifts that are looked at."""
    reach = [min(limit, side // 2) for limit, side in zip(REACH, shape, strict=True)]
    size = (shape[0] + reach[0], shape[1] + reach[1])
    ones = np.fft.rfft2(np.ones(shape), size)
    count = np.fft.irfft2(ones * ones.conj(), size).clip(1)
    return ones, count, np.ix_(*(np.arange(-limit, limit + 1) for limit in reach))


def _best_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Largest correlation coefficient of two frames where they overlap, over all shifts within reach.

    After J. P. Lewis, "Fast Normalized Cross-Correlation" (1995), with all sums through spectra.
    """
    ones, count, shifts = _overlap((a.shape[0], a.shape[1]))
    size = (count.shape[0], count.shape[1])

    def spectrum(x: np.ndarray) -> np.ndarray:
        return np.fft.rfft2(x, size)

    def mean(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.fft.irfft2(x * y.conj(), size) / count

    first, second = spectrum(a), spectrum(b)
    mean_a, mean_b = mean(first, ones), mean(ones, second)
    variance_a = (mean(spectrum(a * a), ones) - mean_a**2).clip(0) + FAINT
    variance_b = (mean(ones, spectrum(b * b)) - mean_b**2).clip(0) + FAINT
    covariance = mean(first, second) - mean_a * mean_b + FAINT
    return float((covariance / np.sqrt(variance_a * variance_b))[shifts].max())


def shots(frames: Iterable[tuple[Frame, Pixels]]) -> Iterator[Iterator[tuple[Frame, Pixels]]]:
    """Split a stream of frames at its cuts, lazily; each shot must be used up before the next."""
    number = 0

    def shot_of(item: tuple[Frame, Pixels]) -> int:
        nonlocal number
        number += item[0].cut
        return number

    for _, shot in groupby(frames, shot_of):
        yield shot
