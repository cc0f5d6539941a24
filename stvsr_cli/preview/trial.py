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
    frames: list[list[np.ndarray]]
    """For each moment: the output frames [H, W, 3] uint8 around it."""
    middles: list[int]
    """For each moment: which of its frames shows it."""
    seconds: float | None
    """For the whole video on this machine; None where its length is not known."""
    bytes: int | None
    """Of the whole output, about."""
    device: str
    width: int
    height: int
    rate: Fraction


def run(
    choices: Sequence[Choice],
    info: VideoInfo,
    moments: Sequence[Moment],
    *,
    length_s: Fraction | None = None,
    step: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Make every choice at every moment. length_s: of each piece; None: one window of the model.

    step: called after each piece. Raises what `pipeline.upscale` does.
    """
    with tempfile.TemporaryDirectory(prefix="stvsr_preview_") as name:
        tried = [_try(choice, info, moments, Path(name), length_s, step) for choice in choices]
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
    length_s: Fraction | None,
    step: Callable[[], None],
) -> tuple[Outcome, Plan, list[float]]:
    """What a choice gives, its plan of the whole run, and the seconds of a window, piece by piece."""
    loaded = load(choice.job)
    asked = replace(choice.job, output=folder / f"whole{choice.job.output.suffix}")
    rehearsal = plan(asked, loaded=loaded, briefly=True)
    whole, planned = rehearsal.job, rehearsal.plan
    frame_s = 1 / info.average_rate
    size = planned.windows.size * frame_s if length_s is None else length_s
    made: list[list[np.ndarray]] = []
    middles: list[int] = []
    costs: list[float] = []
    for moment in moments:
        begin, end = moment.span(size, frame_s)
        target = folder / f"piece{len(made)}.mkv"
        job = replace(choice.job, output=target, start=begin, end=end, resume="never", record=False, overwrite=True)
        report = upscale(job, loaded=loaded)
        seconds = report.seconds["total"]
        costs.append(seconds / max(1, num_windows(report.frames_in, planned.windows)))
        frames, middle = _read(target, moment.time - begin)
        made.append(frames)
        middles.append(middle)
        step()
    size_estimate = estimate(whole, planned, keeps_journal=False)
    outcome = Outcome(
        choice=choice,
        frames=made,
        middles=middles,
        seconds=None,
        bytes=None if size_estimate is None else size_estimate.output,
        device=_device(loaded),
        width=planned.width,
        height=planned.height,
        rate=planned.rate,
    )
    return outcome, planned, costs[1:] or costs  # the first also warms up


def _device(loaded: Loaded) -> str:
    return f"{loaded.device} in {str(loaded.dtype).removeprefix('torch.')}"


def _read(path: Path, wanted: Fraction) -> tuple[list[np.ndarray], int]:
    """The frames of a piece, upright, and the one that shows a moment, in seconds from its begin."""
    info = probe(path)
    pictures, times = [], []
    for frame in decode(info):
        pictures.append(upright(to_rgb([frame.picture])[0], info))
        times.append(frame.pts * info.time_base)
    middle = max((i for i, t in enumerate(times) if t - times[0] <= wanted + Fraction(1, 1000)), default=0)
    return pictures, middle


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
