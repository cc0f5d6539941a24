"""What a job will do, decided before the first frame: sizes, times, windows, tiles, memory."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import ceil, floor

from stvsr_cli.color.convert import output_color
from stvsr_cli.job.job import Cuts, Job
from stvsr_cli.job.rates import taken_steadily, timeline_of
from stvsr_cli.job.size import Size, find_size
from stvsr_cli.job.timeline import Timeline
from stvsr_cli.job.windows import TileConfig, WindowConfig, num_windows, tiles
from stvsr_cli.media.read.part import snapped
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.write.choice import fitted
from stvsr_cli.media.write.encode import choose_pix_fmt
from stvsr_cli.media.write.mux import OutputSpec
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.models.contract import HalvingModel, OneStepModel, Request, Traits
from stvsr_cli.models.fit.memory import MemoryPlan, plan_memory, window_bytes

SMALLEST_TILE_PX = 128
"""Tiles are not planned smaller than this."""
SHARE_FOR_LONGER_WINDOWS = 0.5
"""Share of the memory for one window that a longer one than the model's usual may take: it gains a sixth in speed, no more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a job comes to on its input."""

    info: VideoInfo
    spec: OutputSpec
    """The output's video stream."""
    size: Size
    """Of its frames, and of the picture in them."""
    encoder: EncoderConfig
    """How it is encoded, with what the job left open."""
    request: Request
    """What is asked of the model for each window."""
    timeline: Timeline
    """When the output's frames are shown."""
    start: Fraction | None
    """Seconds from the input's start at which the output begins, where a frame does; None: at the first frame."""
    end: Fraction | None
    """Seconds from the input's start at which the output ends; None: with the last frame."""
    steady: Fraction | None
    """Constant rate at which input frames are taken, for outputs that can have no other; None: as they come."""
    cuts: Cuts
    """What is taken for a cut: see `Job`."""
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
    model_scale: int
    """By how much the model enlarges; what the picture's factor is beyond that is resampled."""
    batch: int = 1
    """Windows, or tiles, that are taken together."""

    @property
    def width(self) -> int:
        """Of the output, in pixels."""
        return self.spec.width

    @property
    def height(self) -> int:
        """Of the output, in pixels."""
        return self.spec.height

    @property
    def pix_fmt(self) -> str:
        """The output's pixel format."""
        return self.spec.pix_fmt

    @property
    def time_base(self) -> Fraction:
        """In ticks of which the output's times are whole numbers."""
        return self.spec.time_base

    @property
    def rate(self) -> Fraction:
        """The output's average frame rate."""
        return self.spec.rate


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
    start, end = snapped(info, job.start, job.end)
    timeline, time_base, rate = timeline_of(job, info, start, any_moment=traits.any_moment)
    factor = timeline.factor or 1 + ceil(timeline.multiple)
    size = find_size(info, job)
    halved = isinstance(model, HalvingModel) and 2 * size.factor <= traits.scale

    def need(count: int, tall: int, wide: int) -> int:
        """Bytes of a window of so many source frames of a size."""
        return window_bytes(model, (count, tall, wide, factor), halved=halved)

    length = job.window if job.window is not None else _length(job, info, traits, need, usable_bytes)
    overlap = job.overlap if job.overlap is not None else min(traits.overlap, max(1, length - 1))
    windows = WindowConfig(size=max(length, 2) if job.window is None else length, overlap=overlap)
    count = _num_frames(start, end, info)
    encoder = fitted(job.encoder, job.output)
    tile = _tile(job, info, traits, partial(need, windows.size), usable_bytes)
    steady = taken_steadily(job, info)
    if steady is not None and count is not None:
        count = round(count / info.average_rate * steady)
    shape = tiles(info.height, info.width, tile)[0]
    needs = plan_memory(model, windows.size, shape.height, shape.width, factor, halved=halved, offload=offload)
    spec = _spec(job, info, (size.width, size.height), choose_pix_fmt(encoder, info), time_base, rate, (start, end))
    return Plan(
        info=info,
        spec=replace(spec, counted=steady is not None),
        size=size,
        encoder=encoder,
        request=Request(
            fps_factor=factor,
            detail=traits.detail if job.detail is None else job.detail,
            restore=traits.restore(info.degradation) if job.restore is None else job.restore,
            halved=halved,
            seed=job.seed,
        ),  # fmt: skip
        timeline=timeline,
        start=start,
        end=end,
        steady=steady,
        cuts=job.cuts,
        num_frames=None if count is None else timeline.num_frames(count),
        windows=windows,
        num_windows=None if count is None else num_windows(count, windows),
        tile=tile,
        num_tiles=len(tiles(info.height, info.width, tile)),
        memory=max(needs.window.values()),
        needs=needs,
        usable=usable_bytes,
        waiting=waiting,
        model_scale=traits.scale,
    )


def _spec(
    job: Job,
    info: VideoInfo,
    size: tuple[int, int],
    pix_fmt: str,
    time_base: Fraction,
    rate: Fraction,
    part: tuple[Fraction | None, Fraction | None],
) -> OutputSpec:
    slower = Fraction(job.slow_motion)
    start = part[0] or Fraction(0)
    return OutputSpec(
        width=size[0],
        height=size[1],
        pix_fmt=pix_fmt,
        time_base=time_base,
        rate=rate,
        color=output_color(info, pix_fmt),
        start=slower * (info.origin + start) - info.origin,  # at which moment of the stretched input it begins
        end=part[1],
        slower=slower,
        drops_sound=job.slow_sound == "drop" and slower > 1,
    )


def _length(
    job: Job, info: VideoInfo, traits: Traits, need: Callable[[int, int, int], int], usable_bytes: int | None
) -> int:
    """The longest of the model's windows that memory has ample room for; the usual one where frames must be tiled.

    need: bytes of a window, by its source frames, height and width.
    """
    side = job.tile if job.tile is not None else traits.tile_px
    tall, wide = (min(side or length, length) for length in (info.height, info.width))
    room = 0 if usable_bytes is None else SHARE_FOR_LONGER_WINDOWS * usable_bytes
    return max([traits.window, *(n for n in traits.longer_windows if need(n, tall, wide) <= room)])


def _tile(
    job: Job, info: VideoInfo, traits: Traits, need: Callable[[int, int], int], usable_bytes: int | None
) -> TileConfig:
    """need: bytes of a window, by its height and width."""
    overlap = traits.tile_overlap_px
    size = job.tile if job.tile is not None else traits.tile_px
    if job.tile is None and size == 0 and usable_bytes is not None:
        size = _fitting_tile(info, traits, need, usable_bytes)
    return TileConfig(size_px=0 if size >= max(info.width, info.height) else size, overlap_px=overlap)


def _fitting_tile(info: VideoInfo, traits: Traits, need: Callable[[int, int], int], usable_bytes: int) -> int:
    """The largest tile whose window fits into memory, by number of tiles along the longer side; 0: whole frames."""
    longer = max(info.width, info.height)
    least = max(SMALLEST_TILE_PX, 4 * traits.tile_overlap_px, traits.minimum_px)
    for count in range(1, longer):
        size = -(-longer // count) + (traits.tile_overlap_px if count > 1 else 0)
        size = max(-(-size // traits.multiple_px) * traits.multiple_px, least)
        tall, wide = min(size, info.height), min(size, info.width)
        if need(tall, wide) <= usable_bytes or size == least:
            return 0 if count == 1 else size
    return 0


def _num_frames(start: Fraction | None, end: Fraction | None, info: VideoInfo) -> int | None:
    if info.num_frames is None:
        return None
    if start is None and end is None:
        return info.num_frames
    length = info.num_frames / info.average_rate
    begin, finish = start or Fraction(0), min(end or length, length)
    return max(0, ceil(finish * info.average_rate) - floor(begin * info.average_rate))
