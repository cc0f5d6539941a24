"""How strongly a video was degraded before it came here, by noise, coding and blur: by a look at frames from all over it.

Networks for single pictures are told so as well (CBDNet, arXiv 1807.04686); here it is one number for a whole video, so
that it looks alike from beginning to end. Small statistics of brightness, and a small network over them that
`stvsr_cli.train.degradation` fits.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files

import numpy as np

from stvsr_cli.media.read.picture import Picture
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.read.sampler import looked_at

STRETCHES, LENGTH = 6, 4
"""Places that are looked at, and frames there, which follow each other."""
CELLS = (12, 20)
"""Rows and columns of cells whose means are compared: noise is told from texture where there is none."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of a stretch's cells, from the calmest to the busiest."""
OCTAVES = (1, 2, 4)
"""Distances in pixels at which brightness is compared."""
BLOCK_PX, HARD_EDGE = 8, 0.1
"""Side of what most codecs take at once, and the change above which an edge is none of theirs."""
STEP = 1 / 510
"""Half a code value of eight bits: less is no change."""
SMALLEST = 1e-7
LEAST_PX = 64
"""Shortest side that tells anything."""
MOST_PX = (432, 768)
"""Rows and columns of the middle, which is looked at in larger pictures."""
GREEN_BLUE_RED = (0.587, 0.114, 0.299)
"""Shares of the planes of gbrp in brightness (BT.601)."""
BLACK, WHITE = 16, 235
"""Codes of brightness in a video of limited range."""
SLOPE = 0.1


def with_degradation(info: VideoInfo) -> VideoInfo:
    """Return the description with how strongly the video was degraded; as it is, where frames cannot be looked at."""
    found = looked_at(info, lambda sampler: estimated(sampler.stretches(STRETCHES, LENGTH)), info.degradation)
    return replace(info, degradation=found)


def estimated(stretches: Iterable[Iterable[Picture]]) -> float:
    """How strongly a video was degraded, in [0, 1], in steps of a hundredth: the mean of what stretches of it tell; 0 if none does.

    stretches: each of one frame, or of some that follow each other.
    """
    told = []
    for stretch in stretches:
        values = [_middle(luma(picture)) for picture in stretch]
        shapes = {value.shape for value in values}
        if len(shapes) == 1 and min(next(iter(shapes))) >= LEAST_PX and np.ptp(values[0]) > STEP:
            told.append(_told(statistics(np.stack(values))))
    return round(float(np.mean(told)), 2) if told else 0.0


def luma(picture: Picture) -> np.ndarray:
    """Brightness of a picture, [H, W] float32, black 0 and white 1."""
    if picture.pix_fmt.startswith("gbrp"):
        plane = sum(
            share * values.astype(np.float32) for share, values in zip(GREEN_BLUE_RED, picture.planes, strict=True)
        )
    else:
        plane = picture.planes[0].astype(np.float32)
    black, white = (0, 255) if picture.color.is_full_range else (BLACK, WHITE)
    finer = 2 ** (picture.bit_depth - 8)
    return (np.asarray(plane, np.float32) / finer - black) / (white - black)


def _middle(plane: np.ndarray) -> np.ndarray:
    """What is looked at of a plane, [H, W]."""
    y, x = (max(side - most, 0) // 2 for side, most in zip(plane.shape, MOST_PX, strict=True))
    return plane[y : y + MOST_PX[0], x : x + MOST_PX[1]]


def statistics(frames: np.ndarray) -> np.ndarray:
    """Statistics in which noise, coding and blur show, [S] float32; frames: [T, H, W] float32, brightness in [0, 1]."""
    found = []
    for octave in OCTAVES:
        x = _reduced(frames, octave)
        across, down = np.diff(x, axis=-1), np.diff(x, axis=-2)
        both = np.diff(across, axis=-2)
        found += [_energies(part) for part in (across, down, both)]
        if octave == 1:
            bends = np.diff(across, axis=-1), np.diff(down, axis=-2)
            found += [_energies(bend) for bend in bends]
            found += [_blocks(bends[0], -1), _blocks(bends[1], -2)]
            found += [_unchanged(part) for part in (across, down, both)]
    later = np.diff(frames, axis=0) if len(frames) > 1 else np.zeros_like(frames)
    fine = np.diff(np.diff(later, axis=-1), axis=-2)
    level = np.array([frames.mean(), frames.std()], np.float32)
    return np.concatenate([*found, _energies(later), _energies(fine), _unchanged(later), level]).astype(np.float32)


def _reduced(frames: np.ndarray, octave: int) -> np.ndarray:
    """Means over squares of octave x octave pixels, [T, H // octave, W // octave]."""
    height, width = (side // octave for side in frames.shape[1:])
    whole = frames[:, : height * octave, : width * octave]
    return whole.reshape(len(frames), height, octave, width, octave).mean((2, 4))


def _energies(x: np.ndarray) -> np.ndarray:
    """Logarithms of the mean squares of the cells of x, [T, ., .], at some quantiles: [Q]."""
    squares = np.square(x)
    for axis, most in ((1, CELLS[0]), (2, CELLS[1])):
        number = min(most, squares.shape[axis])
        edges = np.arange(number) * squares.shape[axis] // number
        counts = np.diff(np.append(edges, squares.shape[axis]))
        shape = [1, 1, 1]
        shape[axis] = number
        squares = np.add.reduceat(squares, edges, axis=axis) / counts.reshape(shape)
    return np.log(np.quantile(squares, QUANTILES, method="nearest") + SMALLEST)


def _blocks(bend: np.ndarray, axis: int) -> np.ndarray:
    """How much the change of slope along an axis of [T, ., .] depends on the place within a block: the strongest places, [4]."""
    other = -1 if axis == -2 else -2
    lines = np.minimum(np.abs(bend), HARD_EDGE).mean((0, other))
    whole = lines[: len(lines) // BLOCK_PX * BLOCK_PX].reshape(-1, BLOCK_PX).mean(0)
    return np.log((np.sort(whole)[::-1][:4] + SMALLEST) / (whole.mean() + SMALLEST))


def _unchanged(x: np.ndarray) -> np.ndarray:
    """Share of x that is nothing: [1]."""
    return np.array([(np.abs(x) < STEP).mean()], np.float32)


def _told(found: np.ndarray) -> float:
    """What the network makes of statistics."""
    fitted = _fitted()
    x = np.clip((found - fitted["centre"]) / fitted["spread"], -4, 4)
    for layer in ("look", "weigh"):
        x = fitted[f"{layer}.weight"] @ x + fitted[f"{layer}.bias"]
        x = np.maximum(x, SLOPE * x)
    (told,) = fitted["tell.weight"] @ x + fitted["tell.bias"]
    return float(1 / (1 + np.exp(-told)))


@lru_cache
def _fitted() -> dict[str, np.ndarray]:
    with files(__package__).joinpath("degradation.npz").open("rb") as file, np.load(file) as stored:
        return dict(stored)
