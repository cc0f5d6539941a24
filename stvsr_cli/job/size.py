"""How large the output is: its frames, and the enlarged picture in them."""

from dataclasses import dataclass
from fractions import Fraction
from math import floor

from stvsr_cli.color.box import Box
from stvsr_cli.errors import UsageError
from stvsr_cli.job.job import MOST_SCALE, Job
from stvsr_cli.media.read.probe import VideoInfo


@dataclass(frozen=True, slots=True)
class Size:
    """Sizes in pixels before rotation, all even."""

    width: int
    height: int
    picture: Box
    """Where the enlarged picture lies: smaller than the frame where bars fill it, larger where its sides are cut off."""
    whole: Box
    """Where the input's whole frame lies: the picture with the bars that are put back."""
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
    left, top, right, bottom = info.returned_bars
    width, height = (info.width + left + right, info.height + top + bottom)
    large = (_even(width * factor), _even(height * factor))
    frame = large
    if job.fit_mode != "inside" and job.width is not None and job.height is not None:
        across, down = (job.height, job.width) if info.rotation % 180 else (job.width, job.height)
        frame = (_even(across / info.sample_aspect_ratio), _even(Fraction(down)))
        closer = min if job.fit_mode == "pad" else max
        large = (closer(large[0], frame[0]), closer(large[1], frame[1]))
    corner = [(outer - inner) // 4 * 2 for outer, inner in zip(frame, large, strict=True)]
    whole = Box(corner[0], corner[1], *large)
    begins = [_even(Fraction(left) * factor) if left else 0, _even(Fraction(top) * factor) if top else 0]
    ends = [
        _even((side - bar) * factor) if bar else length
        for side, bar, length in zip((width, height), (right, bottom), large, strict=True)
    ]
    picture = Box(corner[0] + begins[0], corner[1] + begins[1], ends[0] - begins[0], ends[1] - begins[1])
    return Size(*frame, picture, whole, factor)


def _even(side: Fraction) -> int:
    return max(2, floor(side / 2 + Fraction(1, 2)) * 2)
