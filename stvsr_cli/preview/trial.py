"""The choices at the moments: each made as the whole run would make it, encoder and all."""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from torch import Tensor

from stvsr_cli.color.convert import to_rgb
from stvsr_cli.errors import InputError
from stvsr_cli.job.disk import estimate
from stvsr_cli.job.job import Job
from stvsr_cli.job.plan import Plan
from stvsr_cli.job.report import Loaded
from stvsr_cli.job.windows import num_windows
from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.probe import VideoInfo, probe
from stvsr_cli.pipeline.loading import load
from stvsr_cli.pipeline.upscale import plan, upscale
from stvsr_cli.preview.moments import Moment


@dataclass(frozen=True, slots=True)
class Choice:
    """One way of doing it."""

    label: str
    job: Job


@dataclass(slots=True)
class Outcome:
    """What a choice gives, and what the whole run would take."""

    choice: Choice
    shown: list[np.ndarray]
    """For each moment: the output frame that shows it, upright, [H, W, 3] uint8."""
    film: list[np.ndarray]
    """Of the moment that is filmed: what was cut out of each of its frames."""
    seconds: float | None
    """For the whole video on this machine; None where its length is not known."""
    bytes: int | None
    """Of the whole output, about."""
    device: str
    rate: Fraction


@dataclass(frozen=True, slots=True)
class Film:
    """A moment that is wanted in motion."""

    moment: int
    """Which one."""
    length_s: Fraction
    cut: Callable[[np.ndarray], np.ndarray]
    """What is to be seen of each frame: whole frames of all choices would take too much memory."""


def run(
    choices: Sequence[Choice],
    info: VideoInfo,
    moments: Sequence[Moment],
    *,
    film: Film | None = None,
    step: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Make every choice at every moment, one window of the model each, or as long as the film.

    step: called after each piece. Raises what `pipeline.upscale` does.
    """
    with tempfile.TemporaryDirectory(prefix="stvsr_preview_") as name:
        tried = [_try(choice, info, moments, Path(name), film, step) for choice in choices]
    for outcome, planned, _ in tried:  # what one model costs does not hang on its strength of detail
        costs = [
            cost for other, _, some in tried if other.choice.job.model == outcome.choice.job.model for cost in some
        ]
        outcome.seconds = None if planned.num_windows is None else planned.num_windows * statistics.median(costs)
    return [outcome for outcome, _, _ in tried]


def _try(
    choice: Choice,
    info: VideoInfo,
    moments: Sequence[Moment],
    folder: Path,
    film: Film | None,
    step: Callable[[], None],
) -> tuple[Outcome, Plan, list[float]]:
    """What a choice gives, its plan of the whole run, and the seconds of a window, piece by piece."""
    loaded = load(choice.job)
    asked = replace(choice.job, output=folder / f"whole{choice.job.output.suffix}")
    rehearsal = plan(asked, loaded=loaded, briefly=True)
    whole, planned = rehearsal.job, rehearsal.plan
    frame_s = 1 / info.average_rate
    outcome = Outcome(
        choice=choice, shown=[], film=[], seconds=None, bytes=None, device=_device(loaded), rate=planned.rate
    )
    costs = []
    for number, moment in enumerate(moments):
        filmed = film is not None and film.moment == number
        length = min(planned.windows.size, loaded.model.traits.window)
        begin, end = moment.span(film.length_s if film and filmed else length * frame_s, frame_s)
        target = folder / f"piece{number}.mkv"
        job = replace(choice.job, output=target, start=begin, end=end, resume="never", record=False, overwrite=True)
        report = upscale(job, loaded=loaded)
        made = report.frames_in + (num_windows(report.frames_in, planned.windows) - 1) * planned.windows.overlap
        costs.append(planned.windows.size * report.seconds["total"] / max(1, made))
        shown, cuts = _read(target, moment.time - begin, film.cut if film and filmed else None)
        outcome.shown.append(shown)
        outcome.film += cuts
        step()
    size_estimate = estimate(whole, planned, keeps_journal=False)
    outcome.bytes = None if size_estimate is None else size_estimate.output
    return outcome, planned, costs[1:] or costs  # the first also warms up


def _device(loaded: Loaded) -> str:
    return f"{loaded.device} in {loaded.precision}"


def _read(
    path: Path, wanted: Fraction, cut: Callable[[np.ndarray], np.ndarray] | None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The frame of a piece that shows a moment, in seconds from its begin, and what is cut out of every frame."""
    info = probe(path)
    cuts, shown, first = [], None, None
    for frame in decode(info):
        first = frame.pts if first is None else first
        is_before = (frame.pts - first) * info.time_base <= wanted + Fraction(1, 1000)
        if cut is None and not is_before:
            break
        picture = upright(to_rgb([frame.picture])[0], info)
        shown = picture if shown is None or is_before else shown
        if cut is not None:
            cuts.append(cut(picture))
    if shown is None:
        raise InputError(f"{path} has no frame.", hint="Choose another moment with --at.")
    return shown, cuts


def source_frames(info: VideoInfo, moment: Moment, length_s: Fraction) -> tuple[list[np.ndarray], int]:
    """The input's own frames around a moment, upright, [h, w, 3] uint8, and the one that shows it."""
    begin, end = moment.span(length_s, 1 / info.average_rate)
    frames = list(decode(info, start=begin, end=end))
    times = [frame.pts * info.time_base - info.origin for frame in frames]
    middle = max((i for i, t in enumerate(times) if t <= moment.time + Fraction(1, 1000)), default=0)
    return [upright(to_rgb([frame.picture])[0], info) for frame in frames], middle


def upright(rgb: Tensor, info: VideoInfo) -> np.ndarray:
    """A frame [3, H, W] in [0, 1] as a picture, turned as players show it."""
    picture = (rgb.clamp(0, 1).permute(1, 2, 0) * 255 + 0.5).byte().numpy()
    return np.ascontiguousarray(np.rot90(picture, info.rotation % 360 // 90))
