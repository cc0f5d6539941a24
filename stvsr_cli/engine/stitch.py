"""Windows and tiles of a shot through a model, and their outputs back into one stream of frames."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import groupby, repeat
from typing import TypeVar

import torch
from torch import Tensor

from stvsr_cli.engine.lanes import Lanes
from stvsr_cli.errors import DeviceError
from stvsr_cli.job.windows import Span, Tile, TileConfig, WindowConfig, tiles, windowed
from stvsr_cli.models.contract import OneStepModel, Request
from stvsr_cli.models.fit.device import free_cache, is_out_of_memory
from stvsr_cli.models.step import run_window

logger = logging.getLogger(__name__)

Made = TypeVar("Made")
Item = TypeVar("Item")
Moments = tuple[tuple[Fraction, ...], ...]
"""Of each interval of a window, where frames lie in it, in (0, 1), rising."""
SMALLEST_TILE_PX = 64
"""Tiles are not made smaller than this when memory runs out."""
OUTSIDE = 1e-6
"""Weight of a tile's outermost pixels: they count only where no other tile has the pixel."""


def crossfade(prev: Tensor, cur: Tensor) -> Tensor:
    """Fade from `prev` to `cur` over their T shared frames.

    prev, cur: [T, C, H, W]. Returns [T, C, H, W]. Raises ValueError if the shapes differ.
    """
    if prev.shape != cur.shape:
        raise ValueError(f"shapes differ: {prev.shape = }, {cur.shape = }")
    ramp = torch.linspace(0, 1, cur.shape[0] + 2, device=cur.device)[1:-1].view(-1, 1, 1, 1)
    return torch.lerp(prev, cur, ramp)


def join(prev: Tensor, cur: Tensor, how: str) -> Tensor:
    """Make one of two copies of the same T frames, by a crossfade or from the window in which each lies deeper."""
    if how == "crossfade":
        return crossfade(prev, cur)
    keep = (prev.shape[0] + 1) // 2
    return torch.cat([prev[:keep], cur[keep:]])


def tile_weight(tile: Tile, height_px: int, width_px: int, overlap_px: int, scale: int, device: torch.device) -> Tensor:
    """Weight of each output pixel of a tile: 1 inside, falling over the overlap at sides that other tiles share.

    The outer quarter of an overlap, which sees the tile's border most, weighs next to nothing; a ramp lies over its
    middle half. Returns [scale * tile.height, scale * tile.width], float32, positive.
    """
    margin = overlap_px // 4 * scale

    def ramp(start: int, size: int, length: int) -> Tensor:
        position = torch.arange(size * scale, device=device, dtype=torch.float32) + 0.5 - margin
        rise = (position / (overlap_px * scale - 2 * margin + 1.0)).clamp(OUTSIDE, 1)
        weight = torch.ones_like(position)
        if start > 0:
            weight = torch.minimum(weight, rise)
        if start + size < length:
            weight = torch.minimum(weight, rise.flip(0))
        return weight

    return ramp(tile.top, tile.height, height_px)[:, None] * ramp(tile.left, tile.width, width_px)[None]


@dataclass
class Runner:
    """Runs groups of equal windows, in tiles, and gives way when memory runs out; one for all shots of a run.

    Once it has given way it stays so: what did not fit will not fit in the next shot either.
    """

    model: OneStepModel
    request: Request
    tile: TileConfig
    batch: int = 1
    """Windows, or tiles of windows, per model call."""
    longest: int = 0
    """Frames per model call where whole windows do not fit; 0: whole windows."""
    lanes: Lanes = field(default_factory=lambda: Lanes(torch.device("cpu")))
    """Of the device."""
    gave_way: Callable[["Runner"], None] | None = None
    """Told when it has given way."""
    group: int = field(init=False)
    """Windows that are collected for `run`, whatever goes into one call: a run can go on only between groups."""

    def __post_init__(self) -> None:
        self.group = self.batch

    def run(self, frames: Tensor, moments: Sequence[Moments] | None = None) -> Sequence[Tensor] | Tensor:
        """frames: [B, T, 3, h, w]. Returns [T', 3, H, W] of each window, on the device, where work may still be queued.

        moments: of each window, where frames are made in each of its T - 1 intervals; None: as the request says.
        Raises DeviceError if the least that can be asked of the device does not fit either.
        """
        while True:
            try:
                with self.lanes.timed():
                    return self._made(frames.to(self.lanes.device), moments)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # outside the handler, where the failed call's tensors are gone
            free_cache(self.lanes.device)
            self._give_way(frames)
            if self.gave_way is not None:
                self.gave_way(self)

    def _give_way(self, frames: Tensor) -> None:
        """Halve the batch, then the tile, then the window; say so."""
        traits = self.model.traits
        side = max(frames.shape[-2:])
        current = min(self.tile.size_px or side, side)
        overlap = self.tile.overlap_px or traits.tile_overlap_px
        least = max(SMALLEST_TILE_PX, 2 * overlap, traits.minimum_px)
        smaller = -(-max(current // 2, least) // traits.multiple_px) * traits.multiple_px
        length = self.longest or frames.shape[1]
        shorter = max(-(-length // 2), 2, traits.minimum_window)
        if min(self.batch, frames.shape[0]) > 1 or (self.batch > 1 and self.tile.size_px):
            self.batch //= 2
            logger.warning("out of memory: continuing with a batch of %d", self.batch)
        elif smaller < current:
            self.tile = TileConfig(size_px=smaller, overlap_px=overlap)
            logger.warning("out of memory: continuing with tiles of %d pixels", smaller)
        elif shorter < length:
            self.longest = shorter
            logger.warning("out of memory: continuing with %d frames a call", shorter)
        else:
            raise DeviceError(
                "out of memory even with the smallest batch, tile and window.",
                hint="Use a smaller model, --precision bf16 or fp16, or --device cpu.",
            )

    def _made(self, frames: Tensor, moments: Sequence[Moments] | None) -> Sequence[Tensor] | Tensor:
        if moments is None:
            return self._in_parts(frames, self.request)
        outputs: list[Tensor] = []
        # one call has frames at equal moments
        for same, group in groupby(range(len(moments)), key=moments.__getitem__):
            outputs += self._in_parts(frames[list(group)], _asked(self.request, same))
        return outputs

    def _in_parts(self, frames: Tensor, request: Request) -> Tensor:
        """The windows whole, or where memory forbids it in parts that share one frame, one after the other."""
        outputs = []
        for start, stop in self._parts(frames.shape[1], request):
            output = self._tiled(frames[:, start:stop], _of_part(request, start, stop))
            outputs.append(output[:, 1:] if start else output)
        return torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]

    def _parts(self, count: int, request: Request) -> Iterator[tuple[int, int]]:
        """First frame, and one past the last, of parts that share one frame.

        None is longer than memory allows, nor makes more frames than were planned for a whole window.
        """
        longest = self.longest or count
        most = self.request.num_outputs(count)
        start = 0
        while start < count - 1 or start == 0:
            stop = min(start + longest, count)
            while stop - start > 2 and _of_part(request, start, stop).num_outputs(stop - start) > most:
                stop -= 1
            yield start, stop
            start = max(stop - 1, 1)

    def _tiled(self, frames: Tensor, request: Request) -> Tensor:
        height, width = frames.shape[-2:]
        plan = tiles(height, width, self.tile)
        if len(plan) == 1:
            return torch.cat([run_window(self.model, part, request) for part in frames.split(self.batch)])
        scale = self.model.traits.factor(request)
        count = request.num_outputs(frames.shape[1])
        canvas = frames.new_zeros(frames.shape[0], count, 3, height * scale, width * scale)
        total = frames.new_zeros(height * scale, width * scale)
        jobs = [(b, tile) for tile in plan for b in range(frames.shape[0])]
        for start in range(0, len(jobs), self.batch):
            group = jobs[start : start + self.batch]
            cut = torch.stack([frames[b, :, :, t.top : t.top + t.height, t.left : t.left + t.width] for b, t in group])
            if self.model.traits.wants_context:
                request = replace(request, context=torch.stack([frames[b] for b, _ in group]))
            for (b, tile), output in zip(group, run_window(self.model, cut, request), strict=True):
                weight = tile_weight(tile, height, width, self.tile.overlap_px, scale, frames.device)
                rows = slice(tile.top * scale, (tile.top + tile.height) * scale)
                columns = slice(tile.left * scale, (tile.left + tile.width) * scale)
                canvas[b, :, :, rows, columns] += output * weight
                if b == 0:
                    total[rows, columns] += weight
        return canvas.div_(total)


def _of_part(request: Request, start: int, stop: int) -> Request:
    """What is asked of the frames of a window from one up to another."""
    return request if request.moments is None else replace(request, moments=request.moments[start : stop - 1])


def _asked(request: Request, moments: Moments) -> Request:
    """The request for a window, by its factor where frames lie at even steps."""
    factor = len(moments[0]) + 1 if moments else 1
    even = tuple(Fraction(step, factor) for step in range(1, factor))
    if all(some == even for some in moments):
        return replace(request, fps_factor=factor)
    return replace(request, moments=moments)


def upscale_shot(
    runner: Runner,
    frames: Iterable[Tensor],
    windows: WindowConfig,
    *,
    moments: Iterable[tuple[Fraction, ...]] | None = None,
    send: Callable[[Tensor], Iterable[Made]] = iter,  # type: ignore[assignment]
) -> Iterator[Made]:
    """Upscale one shot of any length.

    frames: [3, h, w] each, float32 in [0, 1]. moments: of each frame, where frames are made on the way to the next, in
    (0, 1), rising; None: as the runner's request says. Yields what `send` makes of (N - 1) * F + 1 frames, or of each
    frame and those at its moments, [T, 3, H, W] on the device at a time, in order; by default the frames [3, H, W].
    Holds as many windows as the runner's group has. Where the device's work is queued, the next group is queued before the frames of the one before are yielded, so that the
    device has work while they are waited for.
    """
    factor = runner.request.fps_factor
    tail: Tensor | None = None
    waiting: list[Made] = []
    items = zip(frames, repeat(None) if moments is None else moments, strict=False)
    for group in _groups(windowed(items, windows), runner.group):
        asked = None if moments is None else [tuple(some or () for _, some in window[:-1]) for _, window in group]
        outputs = runner.run(torch.stack([torch.stack([frame for frame, _ in window]) for _, window in group]), asked)
        sent: list[Made] = []
        for (span, window), output in zip(group, outputs, strict=True):
            shared_pairs = window[len(window) - windows.overlap : -1]
            kept = 0 if span.last else 1 + sum(factor if some is None else 1 + len(some) for _, some in shared_pairs)
            new = output.shape[0] - kept
            with torch.inference_mode():
                if tail is not None:
                    shared = output[: tail.shape[0]]
                    shared.copy_(join(tail, shared, runner.model.traits.join))
                tail = output[new:].clone() if kept else None  # a view would keep the whole group
                sent.extend(send(output[:new]))
        del outputs, output
        yield from waiting
        waiting = sent
        if not runner.lanes.is_asynchronous:
            yield from waiting
            waiting = []
    yield from waiting


def _groups(spans: Iterable[tuple[Span, list[Item]]], batch: int) -> Iterator[list[tuple[Span, list[Item]]]]:
    """Collect windows of equal length into groups of at most `batch`."""
    group: list[tuple[Span, list[Item]]] = []
    for item in spans:
        if group and (len(group) == batch or len(item[1]) != len(group[0][1])):
            yield group
            group = []
        group.append(item)
    if group:
        yield group
