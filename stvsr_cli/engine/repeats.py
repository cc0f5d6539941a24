"""Repeated frames made anew, as frames between their neighbours, so that motion is even.

This happens at the input's size and before the model: count, times and everything after stay as they are.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from stvsr_cli.color.convert import from_rgb, to_rgb
from stvsr_cli.job.job import Job
from stvsr_cli.job.report import Loaded
from stvsr_cli.media.read.decode import Frame
from stvsr_cli.media.read.moments import Moment
from stvsr_cli.media.read.repeats import Change, Repeats, groups
from stvsr_cli.media.read.shots import mark_cuts
from stvsr_cli.models import interpolation
from stvsr_cli.models.catalogue import find_model
from stvsr_cli.weights.places import find_complete, verify

logger = logging.getLogger(__name__)

Insert = Callable[[Tensor, int], Tensor]
"""Frames [1, 2, 3, h, w] and a factor F to [1, F + 1, 3, h, w], RGB in [0, 1]."""


MANY = 0.2
"""Share of the frames from which repeats are worth a word unasked."""


def handled(
    frames: Callable[[], Iterator[Frame]], job: Job, loaded: Loaded, *, smooth: bool
) -> Callable[[], Iterator[Frame]]:
    """What gives a job's frames, its repeats made anew or only counted."""
    if not smooth:
        return lambda: counted(frames(), job)
    insert = inserter(loaded)
    return lambda: smoothed(frames(), job, insert, loaded.device)


def inserter(loaded: Loaded) -> Insert:
    """What makes frames between: the compact model's flow and context, or blends where its weights are missing."""
    weights = find_complete("compact", find_model("compact").needs)
    if weights is not None:
        verify(weights)
    return interpolation.load(weights, loaded.device, loaded.dtype)


def smoothed(frames: Iterator[Frame], job: Job, insert: Insert, device: torch.device) -> Iterator[Frame]:
    """Yield the frames, those that repeat the one before them made anew, with their cuts marked; logs how many.

    A repeat before a cut, or at the end, has nothing to move towards: it stays, and so does a scene that is still.
    """
    num_frames = num_made = 0
    for group, following in groups(mark_cuts(frames, mode=job.cuts)):
        num_frames += len(group)
        num_made += len(group) - 1 if following is not None else 0
        yield from _made_anew(group, following, insert, device)
    tell(job, num_made, num_frames)


def tell(job: Job, num_made: int, num_frames: int) -> None:
    """Log how many frames were made anew."""
    hint = "; --repeats keep leaves them" if job.repeats == "auto" else ""
    logger.warning("%s: %d of %d frames repeat the one before them; made anew%s", job.input, num_made, num_frames, hint)


def remade(
    frames: Iterator[Frame], known: Sequence[Moment], first: int, insert: Insert, device: torch.device
) -> Iterator[Frame]:
    """Yield frames that lie at known moments, those that the moments say repeat another made anew.

    known: of the frames from number `first` on, to the one that follows the last repeat.
    """
    held: list[Frame] = []
    for frame in frames:
        if known[frame.index - first].nth == 0:
            yield from _made_anew(held, frame, insert, device)
            held = []
        held.append(frame)
    yield from held


def counted(frames: Iterator[Frame], job: Job) -> Iterator[Frame]:
    """Yield the frames as they are; at their end, log how many repeat the one before them."""
    repeats, last, num_repeats, num_frames = Repeats(), None, 0, 0
    for frame in frames:
        if last is not None and repeats.is_repeat(Change.between(last.picture, frame.picture)):
            num_repeats += 1
        else:
            last = frame
        num_frames += 1
        yield frame
    level = logging.WARNING if num_repeats >= MANY * num_frames else logging.INFO
    hint = "; --repeats smooth makes them anew" if num_repeats else ""
    logger.log(level, "%s: %d of %d frames repeat the one before them%s", job.input, num_repeats, num_frames, hint)


@torch.inference_mode()
def _made_anew(group: list[Frame], following: Frame | None, insert: Insert, device: torch.device) -> Iterator[Frame]:
    """The frames of a group, the repeats on their way to the frame that follows."""
    if following is None or len(group) < 2:
        yield from group
        return
    yield group[0]
    ends = to_rgb([group[0].picture, following.picture]).clamp_(0, 1)[None].to(device)  # [1, 2, 3, h, w]
    between = insert(ends, len(group))[0, 1:-1]
    pictures = from_rgb(between, group[0].picture.pix_fmt, group[0].picture.color)
    for frame, picture in zip(group[1:], pictures, strict=True):
        yield replace(frame, picture=replace(picture, around=frame.picture.around))
