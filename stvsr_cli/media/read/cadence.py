"""Whether a video moves unevenly throughout, by a look at stretches of it: then its repeats are worth being made anew."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from stvsr_cli.media.read.decode import Frame, Picture
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.read.repeats import Change, groups
from stvsr_cli.media.read.sampler import looked_at
from stvsr_cli.media.read.shots import mark_cuts

MODES = ("auto", "keep", "smooth")
STRETCHES, LENGTH = 3, 32
"""Stretches that are looked at, and their frames."""
FEWEST, ENOUGH = 8, 16
"""Frames of a stretch that must tell something, and those without any repeat after which none is waited for."""
OFTEN = 0.15
"""Share of the frames that repeat others; film in a rate a quarter higher has 0.2."""
WIDE = 0.2
"""Share of the picture that moves from one to the next: where less does, as when text is typed or a figure is drawn over
a still ground, a repeat may well be a rest. Measured: 0.13 and less there, 0.14 to 0.87 in film and pans."""


def with_repeats(info: VideoInfo, mode: str = "auto") -> VideoInfo:
    """Return the description with what is to be done about repeats.

    mode: smooth has them made anew, keep does not, auto does so where a look at the video finds them throughout, and
    most of the picture in motion. Raises ValueError.
    """
    if mode not in MODES:
        raise ValueError(f"{mode = } must be one of {', '.join(MODES)}")
    if mode != "auto":
        return replace(info, smooths_repeats=mode == "smooth")
    uneven = looked_at(info, lambda sampler: is_uneven(sampler.stretches(STRETCHES, LENGTH)), info.smooths_repeats)
    return replace(info, smooths_repeats=uneven)


def is_uneven(stretches: Iterable[Iterable[Picture]]) -> bool:
    """Whether most of the stretches that move do so unevenly; looks at no more than it needs."""
    verdicts: list[bool] = []
    for stretch in stretches:
        verdict = _is_uneven(stretch)
        verdicts += [] if verdict is None else [verdict]
        if max(verdicts.count(True), verdicts.count(False)) > STRETCHES // 2:
            break
    return 2 * verdicts.count(True) > len(verdicts)


def _is_uneven(pictures: Iterable[Picture]) -> bool | None:
    """Whether frames repeat others often while much of the picture moves; None where too few tell."""
    frames = (Frame(number, number, 1, picture) for number, picture in enumerate(pictures))
    num_repeats = num_moving = 0
    shares: list[float] = []
    for group, following in groups(mark_cuts(frames)):
        if following is None:
            continue
        num_moving += len(group)
        num_repeats += len(group) - 1
        if num_moving >= ENOUGH and not num_repeats:
            return False
        if len(group) > 1:
            shares.append(Change.between(group[0].picture, following.picture).share)
    if num_moving < FEWEST:
        return None
    return num_repeats >= OFTEN * num_moving and float(np.median(shares)) >= WIDE
