"""How large the output is: its frames, and the enlarged picture in them."""

from dataclasses import dataclass
from fractions import Fraction
from math import floor

from stvsr_cli.errors import UsageError
from stvsr_cli.job.job import MOST_SCALE, Job
from stvsr_cli.media.read.probe import VideoInfo


@dataclass(frozen=True, slots=True)
class Size:
    """Sizes in pixels before rotation, all even."""

    width: int
    height: int
    picture_width: int
    """Of the enlarged picture: less than the frame's where bars fill it, more where its sides are cut off."""
    picture_height: int
    factor: Fraction
    """By how much the picture is enlarged."""


def find_size(info: VideoInfo, job: Job) -> Size:
    """The size of a job's output. Raises UsageError if it cannot be had.

    The width or height that a job asks for is of what is shown: after rotation, with square pixels.
    """
    shown_width, shown_height = info.shown_size
    fits = [
        Fraction(wanted) / there
        for wanted, there in ((job.width, shown_width), (job.height, shown_height))
        if wanted is not None
    ]
    factor = (max if job.fit_mode == "crop" else min)(fits, default=job.scale or Fraction(4))
    if not Fraction(99, 100) <= factor <= MOST_SCALE + Fraction(1, 100):
        widest = round(MOST_SCALE * shown_width)
        raise UsageError(
            f"{info.width}x{info.height} cannot be enlarged by {float(factor):.3g}.",
            hint=f"Choose a width in [{round(shown_width)}, {widest}] or a scale in [1, {MOST_SCALE}].",
        )
    picture = (_even(info.width * factor), _even(info.height * factor))
    if job.fit_mode == "inside" or job.width is None or job.height is None:
        return Size(*picture, *picture, factor)
    across, down = (job.height, job.width) if info.rotation % 180 else (job.width, job.height)
    frame = (_even(across / info.sample_aspect_ratio), _even(Fraction(down)))
    closer = min if job.fit_mode == "pad" else max
    width, height = (closer(there, whole) for there, whole in zip(picture, frame, strict=True))
    return Size(*frame, width, height, factor)


def _even(side: Fraction) -> int:
    return max(2, floor(side / 2 + Fraction(1, 2)) * 2)
