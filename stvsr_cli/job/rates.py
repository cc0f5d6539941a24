"""Frame rates: what a job asks for, and the timeline that it comes to on its input."""

from fractions import Fraction

from stvsr_cli.errors import UsageError
from stvsr_cli.job.job import Job
from stvsr_cli.job.timeline import MOST_FACTOR, Timeline
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.write.choice import CONSTANT_RATE, FASTEST_GIF, steady_rate

FACTORS = (1, 2, 4)
"""Frames for each input frame that models make which know no other moments."""
LARGEST_INTEGER = 2**31 - 1
"""What containers count a time base in."""
FINE = 8
"""Ticks of a frame from which on a clock's last tick is taken for rounding."""


def multiple_of(job: Job, info: VideoInfo) -> Fraction:
    """Output frames for each input frame, on average. Raises UsageError for more than can be made."""
    rate = _wanted_rate(job, info)
    if rate is None:
        return Fraction(job.fps_factor)
    multiple = rate * job.slow_motion / info.average_rate
    if multiple > MOST_FACTOR:
        slower = f", {float(job.slow_motion):g} times slower," if job.slow_motion != 1 else ""
        raise UsageError(
            f"--fps {float(rate):.6g}{slower} is {float(multiple):.4g} frames for each of the input's "
            f"{float(info.average_rate):.6g} a second; {MOST_FACTOR} are the most.",
            hint="Lower --fps.",
        )
    return multiple


def rate_of(job: Job, info: VideoInfo) -> Fraction:
    """The output's average frame rate."""
    return _wanted_rate(job, info) or info.average_rate * job.fps_factor / job.slow_motion


def taken_steadily(job: Job, info: VideoInfo) -> Fraction | None:
    """The constant rate at which input frames are taken before all else, for outputs that can have no other."""
    if _wanted_rate(job, info) is not None:
        return None
    return steady_rate(info, job.output, Fraction(job.fps_factor))


def _wanted_rate(job: Job, info: VideoInfo) -> Fraction | None:
    """The constant rate of the output, where it is to have one that is no whole multiple of the input's."""
    suffix = job.output.suffix.lower()
    rate = job.target_fps
    if rate is None and suffix in CONSTANT_RATE and Fraction(job.fps_factor).denominator > 1:
        rate = (steady_rate(info, job.output, Fraction(1)) or info.average_rate) * job.fps_factor / job.slow_motion
    if rate is not None and suffix == ".gif" and rate > FASTEST_GIF:
        rate = FASTEST_GIF
    return rate


def timeline_of(
    job: Job, info: VideoInfo, start: Fraction | None, *, any_moment: bool
) -> tuple[Timeline, Fraction, Fraction]:
    """The timeline of a job, its output's time base and average frame rate.

    start: seconds from the input's start at which the output begins. any_moment: whether the model makes frames at any
    moment. Raises UsageError for what cannot be done.
    """
    multiple = multiple_of(job, info)
    factor = _factor(multiple, any_moment)
    rate = _wanted_rate(job, info)
    if rate is None:
        steady = taken_steadily(job, info)
        base = (info.time_base if steady is None else 1 / steady) / multiple.numerator * job.slow_motion
        if max(base.numerator, base.denominator) > LARGEST_INTEGER:
            raise UsageError(
                f"{info.path} has times too fine for {multiple} times as many frames.", hint="Give a rate: --fps 60."
            )
        line = Timeline(
            multiple=multiple, factor=int(multiple) if factor is None and multiple.denominator == 1 else factor
        )
        return line, base, (steady or info.average_rate) * multiple / job.slow_motion
    begin = round((info.origin + (start or 0)) / info.time_base)
    shown = job.slow_motion * begin * info.time_base
    line = Timeline(
        multiple=multiple,
        factor=factor,
        step=1 / (rate * job.slow_motion * info.time_base),
        begin=begin,
        first=0 if job.output.suffix.lower() in CONSTANT_RATE else round(shown * rate),
        tolerance=1 if FINE * info.time_base * info.average_rate <= 1 else 0,
    )
    return line, 1 / rate, rate


def _factor(multiple: Fraction, any_moment: bool) -> int | None:
    """Frames made for each input frame at even steps; None: at the moments that are asked for."""
    if any_moment:
        return None
    return next((factor for factor in FACTORS if factor >= multiple), FACTORS[-1])


def told(line: Timeline, model: str) -> str | None:
    """What to say of a model that makes frames at even steps only, where others are asked for; else None."""
    if line.factor is None or (line.step is None and line.multiple == line.factor):
        return None
    if line.factor == 1:
        return f"{model} makes no frames at other moments: each output frame shows the input frame before it or at it"
    parts = {2: "halves", 4: "quarters"}[line.factor]
    return f"{model} makes frames at {parts} of the way only: each output frame shows the nearest of these"
