"""Moments worth looking at before a long run: the middles of shots, spread over the video."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from stvsr_cli.errors import InputError, UsageError
from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.read.shots import mark_cuts

LOOK_S = Fraction(4)
"""Seconds that are looked at for each moment, where the video is longer than all of them together."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment, and the shot around it as far as it was looked at, in seconds from the file's start."""

    time: Fraction
    begin: Fraction
    end: Fraction

    def span(self, length: Fraction, frame_s: Fraction = Fraction(0)) -> tuple[Fraction, Fraction]:
        """A part of the shot around the moment, of this length or what there is; it begins with a whole frame.

        frame_s: seconds from one frame to the next, as far as they are even.
        """
        begin = max(self.begin, min(self.time - length / 2, self.end - length))
        if frame_s:
            begin = self.begin + (begin - self.begin) // frame_s * frame_s
        return begin, min(begin + length, self.end)


def choose(info: VideoInfo, count: int, at: list[Fraction] | None = None) -> list[Moment]:
    """Choose moments of a video, in order. at: those that were asked for, in place of `count` chosen ones.

    Raises UsageError for a moment beyond the end, InputError if nothing can be decoded.
    """
    length = info.duration_s
    if at:
        if length is not None and max(at) >= length:
            raise UsageError(f"--at {float(max(at)):g} lies beyond the end, {float(length):.3f} s.")
        return [_around(info, time) for time in sorted(at)]
    if length is None or length <= count * LOOK_S:
        return _spread(list(_shots(info, None, None)), count)
    middles = [length * (2 * i + 1) / (2 * count) for i in range(count)]
    return [max(_shots(info, m - LOOK_S / 2, m + LOOK_S / 2), key=lambda shot: shot.end - shot.begin) for m in middles]


def _around(info: VideoInfo, time: Fraction) -> Moment:
    """The moment, within its shot."""
    found = list(_shots(info, max(Fraction(0), time - LOOK_S / 2), time + LOOK_S / 2))
    shot = next((shot for shot in found if shot.begin <= time < shot.end), found[-1])
    return Moment(min(time, shot.end), shot.begin, shot.end)


def _shots(info: VideoInfo, start: Fraction | None, end: Fraction | None) -> Iterator[Moment]:
    """Each shot of a part, with its middle as the moment. Raises InputError if there is no frame."""
    begin = last = None
    for frame in mark_cuts(decode(info, start=start, end=end)):
        time = frame.pts * info.time_base - info.origin
        if frame.cut and begin is not None and last is not None:
            yield Moment((begin + last) / 2, begin, last)
        if frame.cut or begin is None:
            begin = time
        last = time + frame.duration * info.time_base
    if begin is None or last is None:
        raise InputError(f"{info.path}: no frame can be decoded.", hint="Check that it plays.")
    yield Moment((begin + last) / 2, begin, last)


def _spread(shots: list[Moment], count: int) -> list[Moment]:
    """The longest shots; where there are too few, the longest are looked at in more places."""
    parts = dict.fromkeys(range(len(shots)), 0)
    for _ in range(count):
        longest = max(parts, key=lambda i: (shots[i].end - shots[i].begin) / (parts[i] + 1))
        parts[longest] += 1
    chosen = []
    for number, places in parts.items():
        shot = shots[number]
        chosen += [
            Moment(shot.begin + (shot.end - shot.begin) * (2 * i + 1) / (2 * places), shot.begin, shot.end)
            for i in range(places)
        ]
    return chosen
