"""Windows and tiles of a shot through a model, and their outputs back into one stream of frames."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stvsr_cli.errors import DeviceError
from stvsr_cli.models.contract import OneStepModel, Request
from stvsr_cli.models.step import run_window
from stvsr_cli.windows import Span, Tile, TileConfig, WindowConfig, tiles, windowed

logger = logging.getLogger(__name__)

SMALLEST_TILE_PX = 64
MULTIPLE_TILE_PX = 16


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
    """Weight of each output pixel of a tile: 1 inside, a ramp over the overlap at sides that other tiles share.

    Returns [scale * tile.height, scale * tile.width], float32.
    """

    def ramp(start: int, size: int, length: int) -> Tensor:
        position = torch.arange(size * scale, device=device, dtype=torch.float32) + 0.5
        span = overlap_px * scale + 1.0
        weight = torch.ones_like(position)
        if start > 0:
            weight = torch.minimum(weight, position / span)
        if start + size < length:
            weight = torch.minimum(weight, position.flip(0) / span)
        return weight

    return ramp(tile.top, tile.height, height_px)[:, None] * ramp(tile.left, tile.width, width_px)[None]


@dataclass
class Runner:
    """Runs batches of equal windows, in tiles, and gives way when memory runs out."""

    model: OneStepModel
    request: Request
    tile: TileConfig
    batch: int = 1
    """Windows, or tiles of windows, per model call."""
    wants_halves: bool = field(default=False, init=False)
    """Set when not even the smallest tile fits, so that windows must be halved."""

    def run(self, frames: Tensor) -> Tensor:
        """frames: [B, T, 3, h, w] on the model's device. Returns [B, T', 3, H, W].

        Raises DeviceError if the least that can be asked of the device does not fit either.
        """
        while True:
            try:
                return self._halved(frames) if self.wants_halves else self._tiled(frames)
            except torch.OutOfMemoryError:
                if frames.device.type == "cuda":
                    torch.cuda.empty_cache()
                self._give_way(frames)

    def _give_way(self, frames: Tensor) -> None:
        """Halve the batch, then the tile, then the window; say so."""
        side = max(frames.shape[-2:])
        current = min(self.tile.size_px or side, side)
        smaller = -(-(current // 2) // MULTIPLE_TILE_PX) * MULTIPLE_TILE_PX
        if self.batch > 1:
            self.batch //= 2
            logger.warning("out of memory: going on with a batch of %d", self.batch)
        elif smaller >= max(SMALLEST_TILE_PX, 2 * self.tile.overlap_px) and smaller < current:
            overlap = self.tile.overlap_px or min(self.model.traits.tile_overlap_px, smaller // 2)
            self.tile = TileConfig(size_px=smaller, overlap_px=overlap)
            logger.warning("out of memory: going on with tiles of %d pixels", smaller)
        elif not self.wants_halves and frames.shape[1] > 2:
            self.wants_halves = True
            logger.warning("out of memory: going on with windows of half the length")
        else:
            raise DeviceError(
                "out of memory even with the smallest batch, tile and window.",
                hint="Use a smaller model, --precision bf16 or fp16, or --device cpu.",
            )

    def _halved(self, frames: Tensor) -> Tensor:
        """Two windows of half the length that share one frame, one after the other."""
        middle = frames.shape[1] // 2
        first = self._tiled(frames[:, : middle + 1])
        return torch.cat([first, self._tiled(frames[:, middle:])[:, 1:]], 1)

    def _tiled(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        plan = tiles(height, width, self.tile)
        if len(plan) == 1:
            return torch.cat([run_window(self.model, part, self.request) for part in frames.split(self.batch)])
        request = self.request
        scale = self.model.traits.scale
        count = (frames.shape[1] - 1) * request.fps_factor + 1
        canvas = frames.new_zeros(frames.shape[0], count, 3, height * scale, width * scale)
        total = frames.new_zeros(height * scale, width * scale)
        jobs = [(b, tile) for tile in plan for b in range(frames.shape[0])]
        for start in range(0, len(jobs), self.batch):
            group = jobs[start : start + self.batch]
            cut = torch.stack(
                [frames[b, :, :, t.top : t.top + t.height, t.left : t.left + t.width] for b, t in group]
            )
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


def upscale_shot(
    runner: Runner, frames: Iterable[Tensor], windows: WindowConfig, *, device: torch.device
) -> Iterator[Tensor]:
    """Upscale one shot of any length.

    frames: [3, h, w] each, float32 in [0, 1]. Yields (N - 1) * F + 1 frames [3, H, W] in order; holds as many windows
    as the runner's batch takes.
    """
    factor = runner.request.fps_factor
    tail: Tensor | None = None
    for group in _groups(windowed(frames, windows), runner.batch):
        outputs = runner.run(torch.stack([torch.stack(window) for _, window in group]).to(device))
        for (span, _), output in zip(group, outputs, strict=True):
            shared = (span.lead - 1) * factor + 1 if span.lead else 0
            if tail is not None:
                yield from join(tail, output[:shared], runner.model.traits.join)
            kept = 0 if span.last else (windows.overlap - 1) * factor + 1
            yield from output[shared : output.shape[0] - kept]
            tail = output[output.shape[0] - kept :] if kept else None


def _groups(
    spans: Iterable[tuple[Span, list[Tensor]]], batch: int
) -> Iterator[list[tuple[Span, list[Tensor]]]]:
    """Collect windows of equal length into groups of at most `batch`."""
    group: list[tuple[Span, list[Tensor]]] = []
    for item in spans:
        if group and (len(group) == batch or len(item[1]) != len(group[0][1])):
            yield group
            group = []
        group.append(item)
    if group:
        yield group
