"""Cut detection while frames stream by."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from stvsr_cli.media.decode import Frame, Picture

GRID = (24, 32)
NUM_BINS = 32
MIN_SHOT_FRAMES = 4


def mark_cuts(frames: Iterable[Frame], *, mode: str = "hold", threshold: float = 0.55) -> Iterator[Frame]:
    """Yield the frames with `cut` set where a new shot begins; the first frame always begins one.

    mode: "ignore" takes the whole stream as one shot. threshold: how different two frames must be in layout and in
    brightness distribution together, from 0 (equal) to 2. A cut must also stand out from the changes just before
    it, so that fast motion is none, and a flash, which comes back, is none either.
    """
    last: tuple[np.ndarray, np.ndarray] | None = None
    before: tuple[np.ndarray, np.ndarray] | None = None
    recent: list[float] = []
    since = MIN_SHOT_FRAMES
    for frame in frames:
        if mode == "ignore":
            yield replace(frame, cut=last is None)
            last = last or _signature(frame.picture)
            continue
        current = _signature(frame.picture)
        cut = last is None
        if last is not None:
            change = _difference(last, current)
            usual = float(np.median(recent)) if recent else 0.0
            returned = before is not None and _difference(before, current) < threshold / 3
            cut = change > threshold and change > 2.5 * usual and since >= MIN_SHOT_FRAMES and not returned
            recent = [*recent[-4:], change]
        if cut:
            recent, since = [], 0
        since += 1
        before, last = (None if cut else last), current
        yield replace(frame, cut=cut)


def _signature(picture: Picture) -> tuple[np.ndarray, np.ndarray]:
    """Reduced brightness [24, 32] and its histogram [32], both of the first plane (luma, or green)."""
    plane = picture.planes[0]
    rows, columns = max(1, plane.shape[0] // GRID[0]), max(1, plane.shape[1] // GRID[1])
    used = plane[: plane.shape[0] // rows * rows, : plane.shape[1] // columns * columns]
    shape = (used.shape[0] // rows, rows, used.shape[1] // columns, columns)
    small = used.reshape(shape).mean((1, 3)) / (2**picture.bit_depth - 1)
    histogram, _ = np.histogram(plane[::2, ::2], NUM_BINS, (0, 2**picture.bit_depth))
    return small, histogram / histogram.sum()


def _difference(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
    """How different two frames are: layout, relative to the contrast there is, plus distribution; each at most 1."""
    contrast = 0.5 * (a[0].std() + b[0].std()) + 0.02
    layout = min(1.0, float(np.abs(a[0] - b[0]).mean()) / contrast)
    distribution = 0.5 * float(np.abs(a[1] - b[1]).sum())
    return layout + distribution
