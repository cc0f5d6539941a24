"""Frame windows and spatial tiles: which frames and which pixels one model call sees. Integers only."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from stvsr_cli.errors import UsageError

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowConfig:
    size: int
    """Source frames per model call."""
    overlap: int
    """Frames two windows share; at least 1, so that every pair to interpolate lies in one window."""

    def __post_init__(self) -> None:
        if self.size < 2:
            raise UsageError(f"window={self.size} must be at least 2.", hint="Raise --window.")
        if not 1 <= self.overlap < self.size:
            raise UsageError(
                f"overlap={self.overlap} must lie in [1, {self.size}).", hint="Lower --overlap or raise --window."
            )


@dataclass(frozen=True, slots=True)
class Span:
    """Where a window lies in its shot, in source frames."""

    start: int
    """First frame."""
    stop: int
    """One past the last frame."""
    lead: int
    """Frames at the start that the window before has, too; 0 for the first window."""
    last: bool
    """Whether the shot ends with this window."""


def windowed(items: Iterable[Item], config: WindowConfig) -> Iterator[tuple[Span, list[Item]]]:
    """Yield overlapping windows over a stream, each with its span; the last one may be shorter.

    Every item is new in exactly one window (`window[span.lead:]`). Holds one window and one item.
    """
    source = iter(items)
    window: list[Item] = []
    start = lead = 0
    for item in source:
        if len(window) == config.size:
            yield Span(start, start + len(window), lead, last=False), window
            lead = config.overlap
            start += len(window) - lead
            window = window[-lead:]
        window.append(item)
    if window:
        yield Span(start, start + len(window), lead, last=True), window


def num_windows(count: int, config: WindowConfig) -> int:
    """Number of windows that `windowed` yields for `count` items."""
    if count <= 0:
        return 0
    step = config.size - config.overlap
    return 1 + max(0, -(-(count - config.size) // step))


@dataclass(frozen=True, kw_only=True, slots=True)
class TileConfig:
    size_px: int
    """Side of a tile in input pixels; 0: one tile, the whole frame."""
    overlap_px: int
    """Fewest input pixels that two neighbouring tiles share."""

    def __post_init__(self) -> None:
        if self.size_px and not 0 <= self.overlap_px <= self.size_px // 2:
            raise UsageError(
                f"tile={self.size_px} is too small for an overlap of {self.overlap_px} pixels.",
                hint=f"Use --tile {4 * self.overlap_px} or more.",
            )


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the input in pixels."""

    top: int
    left: int
    height: int
    width: int


def tile_starts(length: int, size: int, overlap: int) -> list[int]:
    """Starts of as few equal pieces as cover `length` with at least `overlap` shared, spread evenly."""
    if size <= 0 or size >= length:
        return [0]
    count = 1 + -(-(length - size) // (size - overlap))
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


def tiles(height: int, width: int, config: TileConfig) -> list[Tile]:
    """Tiles of equal size that cover a frame, row by row."""
    tall = min(config.size_px or height, height)
    wide = min(config.size_px or width, width)
    return [
        Tile(top, left, tall, wide)
        for top in tile_starts(height, tall, config.overlap_px)
        for left in tile_starts(width, wide, config.overlap_px)
    ]
