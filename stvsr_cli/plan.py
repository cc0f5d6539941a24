"""What a job will do, decided before the first frame: sizes, times, windows, tiles, memory."""

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

from stvsr_cli.errors import UsageError
from stvsr_cli.media.deinterlace import MODES
from stvsr_cli.media.encode import EncoderConfig, choose_pix_fmt
from stvsr_cli.media.probe import MAX_PIXELS, VideoInfo
from stvsr_cli.models.contract import OneStepModel
from stvsr_cli.models.fit import Fit
from stvsr_cli.models.memory import MemoryPlan, plan_memory
from stvsr_cli.models.registry import ModelOptions
from stvsr_cli.watch import check_timeout
from stvsr_cli.windows import TileConfig, WindowConfig, num_windows, tiles

SMALLEST_TILE_PX = 128
"""Tiles are not planned smaller than this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Everything that is asked for one video."""

    input: Path
    """Video to read."""
    output: Path
    """Video to write; its suffix chooses the container."""
    model: str = "compact"
    """Name of the model."""
    weights: Path | None = None
    """Weights file or folder; None: where the model's weights are found."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: str = "auto"
    """auto, fp32, bf16 or fp16."""
    scale: Fraction | None = None
    """Spatial factor in [1, 4]; None: 4, or what width or height ask for."""
    width: int | None = None
    """Output width in pixels; keeps the aspect."""
    height: int | None = None
    """Output height in pixels; keeps the aspect."""
    fps_factor: int = 2
    """1, 2 or 4 times the frame rate."""
    window: int | None = None
    """Source frames per model call; None: the model's own."""
    overlap: int | None = None
    """Source frames two windows share; None: the model's own."""
    batch: int | None = None
    """Windows or tiles per model call; None: as many as fit (CUDA), or 1."""
    tile: int | None = None
    """Tile side in input pixels, 0 for whole frames; None: the model's own, or what memory allows."""
    seed: int = 0
    """Seed of models that sample."""
    detail: float | None = None
    """Strength of the detail expert in [0, 1]; None: the model's own."""
    options: ModelOptions = field(default_factory=ModelOptions)
    """Options of single models."""
    fit: Fit = field(default_factory=Fit)
    """How a large model is made to fit the device."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """How the video is encoded."""
    cuts: str = "hold"
    """hold: no frame is made across a cut; ignore: the whole file is one shot."""
    start: Fraction | None = None
    """Seconds from the input's start to begin at."""
    end: Fraction | None = None
    """Seconds from the input's start to end at."""
    video_stream: int | None = None
    """Which of several video streams."""
    threads: int = 0
    """Compute threads; 0: one a core."""
    overwrite: bool = False
    """Whether an existing output may be replaced."""
    resume: str = "auto"
    """auto: go on where an earlier run ended; force: start over; never: keep no journal and go on with none."""
    segment_frames: int = 240
    """Output frames after which what is made is put on disk to stay, at the next window or shot."""
    deinterlace: str = "auto"
    """auto: what is found to be interlaced is deinterlaced; on: everything is; off: nothing."""
    max_pixels: int = MAX_PIXELS
    """Most pixels of an input frame."""
    allow_url: bool = False
    """Whether the input may be something else than a local file."""
    check_space: bool = True
    """Whether to begin only if the output will fit on its disk."""
    stall_timeout_s: float | None = None
    """Seconds without progress after which a stage has stalled; 0: any time is allowed; None: half an hour, but any
    time for the model and for the other end of a pipe."""

    def __post_init__(self) -> None:
        if self.fps_factor not in (1, 2, 4):
            raise UsageError(f"fps-factor={self.fps_factor} must be 1, 2 or 4.")
        if sum(x is not None for x in (self.scale, self.width, self.height)) > 1:
            raise UsageError("--scale, --width and --height exclude each other.", hint="Give one of them.")
        if self.scale is not None and not 1 <= self.scale <= 4:
            raise UsageError(f"scale={float(self.scale):g} must lie in [1, 4].")
        if self.cuts not in ("hold", "ignore"):
            raise UsageError(f"cuts={self.cuts!r} must be hold or ignore.")
        if self.deinterlace not in MODES:
            raise UsageError(f"deinterlace={self.deinterlace!r} must be {', '.join(MODES)}.")
        if self.max_pixels < 1:
            raise UsageError(f"max-pixels={self.max_pixels} must be at least 1.")
        if self.resume not in ("auto", "never", "force"):
            raise UsageError(f"resume={self.resume!r} must be auto, never or force.")
        if self.segment_frames < 1:
            raise UsageError(f"segment-frames={self.segment_frames} must be at least 1.")
        if self.detail is not None and not 0 <= self.detail <= 1:
            raise UsageError(f"detail={self.detail} must lie in [0, 1].")
        if self.start is not None and self.start < 0:
            raise UsageError(f"start={float(self.start)} must not be negative.")
        if self.end is not None and self.end <= (self.start or 0):
            raise UsageError("--end must lie after --start.")
        if self.tile is not None and self.tile < 0:
            raise UsageError(f"tile={self.tile} must not be negative.", hint="Use auto, off or a number of pixels.")
        check_timeout(self.stall_timeout_s)
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"batch={self.batch} must be at least 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a job comes to on its input."""

    info: VideoInfo
    width: int
    height: int
    pix_fmt: str
    time_base: Fraction
    rate: Fraction
    num_frames: int | None
    """Frames expected in the output; None where the input does not say."""
    windows: WindowConfig
    num_windows: int | None
    tile: TileConfig
    num_tiles: int
    memory: int
    """Bytes one window needs beyond the weights, an upper estimate."""
    needs: MemoryPlan
    """What the weights and one window need, part by part."""
    usable: int | None
    """Bytes that one window may take; None where that is not known."""
    waiting: int
    """Bytes of weights that are to be kept free for; see `device.usable_bytes`."""


def output_size(info: VideoInfo, job: Job) -> tuple[int, int]:
    """Output width and height in pixels, both even. Raises UsageError if they cannot be had."""
    if job.width is not None:
        factor = Fraction(job.width, info.width)
    elif job.height is not None:
        factor = Fraction(job.height, info.height)
    else:
        factor = job.scale or Fraction(4)
    if not Fraction(99, 100) <= factor <= Fraction(401, 100):
        raise UsageError(
            f"{info.width}x{info.height} cannot be enlarged by {float(factor):.3g}.",
            hint=f"Choose a width in [{info.width}, {4 * info.width}] or a scale in [1, 4].",
        )
    width, height = (max(2, floor(side * factor / 2 + Fraction(1, 2)) * 2) for side in (info.width, info.height))
    return width, height


def make_plan(
    job: Job,
    info: VideoInfo,
    model: OneStepModel,
    usable_bytes: int | None = None,
    *,
    offload: str = "none",
    waiting: int = 0,
) -> Plan:
    """Decide everything that can be decided before the first frame.

    usable_bytes: memory that one window may take; where whole frames need more, --tile auto makes tiles. offload: the
    kind in effect. waiting: bytes of weights that `usable_bytes` leaves room for.
    Raises UsageError for what cannot be done.
    """
    traits = model.traits
    size = job.window if job.window is not None else traits.window
    overlap = job.overlap if job.overlap is not None else min(traits.overlap, max(1, size - 1))
    windows = WindowConfig(size=max(size, 2) if job.window is None else size, overlap=overlap)
    tile = _tile(job, info, model, windows, usable_bytes)
    width, height = output_size(info, job)
    count = _num_frames(job, info)
    shape = tiles(info.height, info.width, tile)[0]
    needs = plan_memory(model, windows.size, shape.height, shape.width, job.fps_factor, offload=offload)
    return Plan(
        info=info,
        width=width,
        height=height,
        pix_fmt=choose_pix_fmt(job.encoder, info),
        time_base=info.time_base / job.fps_factor,
        rate=info.average_rate * job.fps_factor,
        num_frames=None if count is None else count * job.fps_factor,
        windows=windows,
        num_windows=None if count is None else num_windows(count, windows),
        tile=tile,
        num_tiles=len(tiles(info.height, info.width, tile)),
        memory=max(needs.window.values()),
        needs=needs,
        usable=usable_bytes,
        waiting=waiting,
    )


def _tile(
    job: Job, info: VideoInfo, model: OneStepModel, windows: WindowConfig, usable_bytes: int | None
) -> TileConfig:
    traits = model.traits
    overlap = traits.tile_overlap_px
    size = job.tile if job.tile is not None else traits.tile_px
    if job.tile is None and size == 0 and usable_bytes is not None:
        size = _fitting_tile(job, info, model, windows, usable_bytes)
    return TileConfig(size_px=0 if size >= max(info.width, info.height) else size, overlap_px=overlap)


def _fitting_tile(job: Job, info: VideoInfo, model: OneStepModel, windows: WindowConfig, usable_bytes: int) -> int:
    """The largest tile whose window fits into memory, by number of tiles along the longer side; 0: whole frames."""
    traits = model.traits
    longer = max(info.width, info.height)
    least = max(SMALLEST_TILE_PX, 4 * traits.tile_overlap_px, traits.minimum_px)
    for count in range(1, longer):
        size = -(-longer // count) + (traits.tile_overlap_px if count > 1 else 0)
        size = max(-(-size // traits.multiple_px) * traits.multiple_px, least)
        tall, wide = min(size, info.height), min(size, info.width)
        need = model.window_bytes(windows.size, tall, wide, job.fps_factor)
        if need <= usable_bytes or size == least:
            return 0 if count == 1 else size
    return 0


def _num_frames(job: Job, info: VideoInfo) -> int | None:
    if info.num_frames is None:
        return None
    if job.start is None and job.end is None:
        return info.num_frames
    length = info.num_frames / info.average_rate
    begin, finish = job.start or Fraction(0), min(job.end or length, length)
    return max(0, ceil(finish * info.average_rate) - floor(begin * info.average_rate))
