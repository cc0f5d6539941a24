"""The plan of a job as lines of text, for `--dry-run`."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from stvsr_cli.cli.progress import lasting
from stvsr_cli.job.disk import beyond_limits, estimate, free_bytes, in_words
from stvsr_cli.job.job import Job
from stvsr_cli.job.plan import Plan
from stvsr_cli.job.rates import told
from stvsr_cli.media.pipes import PIPE_FORMATS, is_pipe
from stvsr_cli.media.read.bars import in_words as bars_in_words
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.write.encode import encoder_options
from stvsr_cli.media.write.mux import FORMATS, supported_codecs
from stvsr_cli.media.write.streams import plan_streams
from stvsr_cli.models.contract import Traits
from stvsr_cli.models.fit.memory import memory_lines
from stvsr_cli.pipeline.rehearsal import Rehearsal

LABEL = 10
"""Columns of what stands before a text."""


def plan_lines(rehearsal: Rehearsal) -> list[str]:
    """Say what a job reads, makes, needs and copies, one thing a line."""
    job, plan, loaded = rehearsal.job, rehearsal.plan, rehearsal.loaded
    about = "" if rehearsal.is_counted or plan.num_frames is None else "about "
    info, windows, tile = plan.info, plan.windows, plan.tile
    traits = loaded.model.traits
    tiling = f"{plan.num_tiles} of {tile.size_px} px, overlap {tile.overlap_px}" if plan.num_tiles > 1 else "none"
    room = None if plan.usable is None else plan.usable + (plan.waiting or plan.needs.resident)
    lines = memory_lines(plan.needs, room)
    options = " ".join(f"{key}={value}" for key, value in encoder_options(plan.encoder).items())
    limits = beyond_limits(plan.encoder.codec, plan.width, plan.height, float(plan.rate))
    return [
        f"input     {info.path}",
        f"          {described(info)}",
        *(
            [f"bars      {bars_in_words(info.bars)}: {'put back' if info.puts_bars_back else 'removed'}"]
            if any(info.bars)
            else []
        ),
        *_part(job, plan),
        *(["repeats   frames that repeat the one before are made anew"] if info.smooths_repeats else []),
        f"output    {job.output}",
        f"          {plan.width}x{plan.height}, {_rate(plan.rate)} fps, {about}{_known(plan.num_frames)} frames",
        *_moments(plan, traits.name),
        f"model     {traits.name} on {loaded.device}, {loaded.precision}",
        *_restore(job, plan, traits),
        f"windows   {_known(plan.num_windows)} of {windows.size} frames, overlap {windows.overlap}; more with cuts",
        f"tiles     {tiling}",
        f"memory    {lines[0]}",
        *(f"          {line}" for line in lines[1:]),
        f"disk      {_disk(job, plan)}",
        f"time      {_time(rehearsal)}",
        f"encoder   {plan.encoder.codec} {plan.pix_fmt} {options}".rstrip(),
        *[f"warning   {text}" for text in (limits, rehearsal.advice) if text],
        *_streams(job, info),
    ]


def _part(job: Job, plan: Plan) -> list[str]:
    """The part that is taken, where it is not the one asked for to the tick."""
    if (plan.start, plan.end) == (job.start, job.end):
        return []
    begin = "the start" if plan.start is None else f"{float(plan.start):.6f} s"
    finish = "the end" if plan.end is None else f"{float(plan.end):.6f} s"
    return [f"part      {begin} to {finish}, in whole frames"]


def _restore(job: Job, plan: Plan, traits: Traits) -> list[str]:
    """How strongly degradation is worked against, where the model can."""
    if traits.restores is None:
        return []
    found = plan.info.degradation
    why = "as asked" if job.restore is not None else f"as the input looks degraded by {found or 0:.2f}"
    return [f"restore   {plan.request.restore:.2f}, {why}"]


def _moments(plan: Plan, model: str) -> list[str]:
    """What the output shows of frames that the model does not make."""
    line = told(plan.timeline, model)
    return [f"frames    {line}"] if line else []


def item_line(source: Path, rehearsal: Rehearsal) -> str:
    """What becomes of one file of a batch, in a line."""
    plan = rehearsal.plan
    frames = "" if plan.num_frames is None else f", about {plan.num_frames} frames"
    need = estimate(rehearsal.job, plan, keeps_journal=False)
    cost = "" if rehearsal.seconds is None or need is None else f", {in_sum([rehearsal.seconds], [need.output])}"
    return f"{source} -> {rehearsal.job.output}: {plan.width}x{plan.height}, {_rate(plan.rate)} fps{frames}{cost}"


def sum_line(rehearsals: Sequence[Rehearsal], folder: Path) -> str:
    """How long a batch takes, one file after the other, and how large it will be."""
    needs = [estimate(rehearsal.job, rehearsal.plan, keeps_journal=False) for rehearsal in rehearsals]
    sizes = [need.output for need in needs if need is not None]
    times = [rehearsal.seconds for rehearsal in rehearsals if rehearsal.seconds is not None]
    unknown = len(rehearsals) - min(len(sizes), len(times))
    beside = f", and {unknown} of unknown length" if unknown else ""
    many = f"{len(rehearsals)} file{'' if len(rehearsals) == 1 else 's'}"
    return f"{many}: about {in_sum(times, sizes)} in all{beside}; {in_words(free_bytes(folder))} are free"


def in_sum(times: Sequence[float], sizes: Sequence[int]) -> str:
    """Seconds and bytes, added up, as text."""
    return f"{lasting(sum(times))}, {in_words(sum(sizes))}"


def _time(rehearsal: Rehearsal) -> str:
    if rehearsal.seconds is None:
        return "unknown, as the length is"
    rate = (rehearsal.plan.num_frames or 0) / max(rehearsal.seconds, 1e-9)
    return f"about {lasting(rehearsal.seconds)}, {rate:.2f} frames a second, by a short trial"


def described(info: VideoInfo) -> str:
    """A video in one line."""
    parts = [
        "{}x{}".format(*info.whole_size),
        f"{_rate(info.average_rate)} fps",
        f"{_known(info.num_frames)} frames",
        f"{float(info.duration_s):.3f} s" if info.duration_s is not None else "duration unknown",
        info.codec,
        info.pixel_format,
    ]
    if info.rotation:
        parts.append(f"rotated {info.rotation}")
    if info.sample_aspect_ratio != 1:
        parts.append(f"pixel aspect {info.sample_aspect_ratio}")
    if info.interlaced:
        parts.append("interlaced")
    return ", ".join(parts)


def _disk(job: Job, plan: Plan) -> str:
    if is_pipe(job.output):
        return "none: standard output"
    need = estimate(job, plan, keeps_journal=job.resume != "never")
    if need is None:
        return "unknown, as the length is"
    beside = f", and {in_words(need.journal)} for the journal until it is done" if need.journal else ""
    return f"about {in_words(need.output)}{beside}; {in_words(free_bytes(job.output.parent))} are free"


def _streams(job: Job, info: VideoInfo) -> list[str]:
    kinds = {stream.index: stream for stream in info.streams}
    if job.encoder.codec == "rawvideo":
        return [f"stream {index}  drop {stream.kind} {stream.codec} (pictures only)" for index, stream in kinds.items()]
    suffix = next((suffix for suffix, name in FORMATS.items() if name == (job.format or PIPE_FORMATS[0])), "")
    formats = supported_codecs(Path(f"-{suffix}") if is_pipe(job.output) else job.output)
    slower, drops = Fraction(job.slow_motion), job.slow_sound == "drop"
    fates = plan_streams(info, *formats, slower=slower, drops_sound=drops)
    lines = [
        f"stream {fate.index}  {fate.action} {kinds[fate.index].kind} {kinds[fate.index].codec}"
        + (f" ({fate.why})" if fate.why else "")
        for fate in fates
    ]
    return [*lines, *([f"chapters  {info.num_chapters}"] if info.num_chapters else [])]


def _rate(rate: Fraction) -> str:
    exact = f" ({rate})" if rate.denominator != 1 else ""
    return f"{float(rate):.6g}{exact}"


def _known(count: int | None) -> str:
    return "an unknown number of" if count is None else str(count)
