"""Two videos side by side, or two against a reference: what they are, and every measure of them, frame by frame."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stvsr_cli.compare.clip import Clip, fitted
from stvsr_cli.compare.moments import Shown, in_step
from stvsr_cli.compare.tracks import MEASURES, Steadiness, Track
from stvsr_cli.errors import InputError, UsageError
from stvsr_cli.media.ffmpeg import find_ffmpeg, why_missing
from stvsr_cli.media.vmaf import Vmaf, has_vmaf
from stvsr_cli.quality.measures import luma

FORMAT = 1
"""Of the result as JSON."""
APART_S = Fraction(1, 1000)
"""Seconds between the begins of two frames that count as the same moment."""


@dataclass(slots=True)
class Comparison:
    """What came out."""

    clips: dict[str, Clip]
    """By letter: A, B and, where there is a reference, R."""
    tracks: list[Track]
    notes: list[str] = field(default_factory=list)
    """What was done to make them comparable, and what could not be measured."""

    def track(self, video: str) -> list[Track]:
        """The tracks of one video."""
        return [track for track in self.tracks if track.video == video]

    def as_dict(self) -> dict[str, Any]:
        """Everything as numbers and text, for JSON."""
        return {
            "format": FORMAT,
            "videos": {letter: _facts(clip) for letter, clip in self.clips.items()},
            "notes": self.notes,
            "measures": {
                name: {"title": m.title, "better": m.better, "digits": m.digits, "meaning": m.meaning}
                for name, m in MEASURES.items()
            },
            "tracks": [
                {
                    "video": track.video,
                    "against": track.against,
                    "values": {name: round(value, 6) for name, value in track.values().items()},
                    "frames": [{name: round(value, 6) for name, value in row.items()} for row in track.rows],
                }
                for track in self.tracks
            ],
        }


def _facts(clip: Clip) -> dict[str, Any]:
    width, height = clip.size
    return {
        "path": str(clip.info.path),
        "name": clip.info.path.name,
        "bytes": clip.num_bytes,
        "width": width,
        "height": height,
        "rate": str(clip.rate.limit_denominator(1_000_000)),
        "fps": round(float(clip.rate), 4),
        "duration_s": round(float(clip.duration_s), 4),
        "frames": clip.num_frames,
        "codec": clip.info.codec,
        "pixel_format": clip.info.pixel_format,
        "bits_per_second": round(8 * clip.num_bytes / float(clip.duration_s)) if clip.duration_s else None,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig:
    start: Fraction | None = None
    """Seconds at which the part to compare begins, in every video."""
    end: Fraction | None = None
    measures: frozenset[str] = frozenset(MEASURES)
    """Names of `MEASURES` to take."""
    perceptual: nn.Module | None = None
    """The network of the perceptual distance; None: it is left out."""
    threads: int = 0

    def __post_init__(self) -> None:
        if unknown := self.measures - set(MEASURES):
            raise UsageError(
                f"--measures {', '.join(sorted(unknown))} is not known.", hint=f"Known are {', '.join(MEASURES)}."
            )
        if self.end is not None and self.end <= (self.start or 0):
            raise UsageError("--end must lie after --start.")


@torch.no_grad()
def compare(
    a: Path,
    b: Path,
    reference: Path | None = None,
    config: CompareConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Measure B against A, or both against a reference, and each by itself.

    Frames are matched by their times: of two videos, the one with fewer frames a second says which moments are
    compared. Sizes are those of the reference, or of the larger video where there is none. progress: called with
    frames done and expected. Raises InputError or UsageError.
    """
    config = config or CompareConfig()
    paths = {"A": a, "B": b, **({"R": reference} if reference is not None else {})}
    clips = {letter: Clip.of(path, start=config.start, end=config.end) for letter, path in paths.items()}
    result = Comparison(clips, [])
    work = _Work(config, result, progress)
    _note(result, config)
    if reference is not None:
        groups = [["A", "B"]] if clips["A"].rate == clips["B"].rate else [["A"], ["B"]]
        work.expect(sum(_num_moments([clips["R"], *(clips[v] for v in group)]) for group in groups))
        for group in groups:
            work.against("R", group, clips["R"].size)
    else:
        size = max((clip.size for clip in clips.values()), key=lambda s: s[0] * s[1])
        alone = [letter for letter in clips if config.measures & {n for n, m in MEASURES.items() if m.alone}]
        work.expect(_num_moments(list(clips.values())) + sum(_num_moments([clips[v]]) for v in alone))
        for letter in alone:
            work.alone(letter, size)
        work.against("A", ["B"], size)
    for track in result.tracks:
        if not track.rows:
            raise InputError(f"{clips[track.video].info.path} has no frame in the part to compare.")
    return result


def _num_moments(clips: Sequence[Clip]) -> int:
    return round(min(clip.rate for clip in clips) * min(clip.length_s for clip in clips))


def _note(result: Comparison, config: CompareConfig) -> None:
    """Say what makes the videos differ, and what cannot be measured here."""
    clips = result.clips
    sizes = {letter: clip.size for letter, clip in clips.items()}
    base = sizes.get("R") or max(sizes.values(), key=lambda s: s[0] * s[1])
    for letter, (width, height) in sizes.items():
        if (width, height) == base:
            continue
        shape = "" if abs(width * base[1] / (height * base[0]) - 1) < 0.01 else ", and out of its shape,"
        way = "enlarged" if width * height < base[0] * base[1] else "reduced"
        result.notes.append(f"{letter} is {way}{shape} to {base[0]}x{base[1]} by bicubic for what is compared.")
    lengths = [clip.length_s for clip in clips.values()]
    if max(lengths) - min(lengths) > 1 / min(clip.rate for clip in clips.values()):
        result.notes.append(f"Lengths differ; the first {float(min(lengths)):.2f} s are compared.")
    if "perceptual" in config.measures and config.perceptual is None:
        result.notes.append("No perceptual distance: it needs the features of SqueezeNet 1.1; name them by --features.")
    if "vmaf" in config.measures and not has_vmaf():
        lacking = "lacks libvmaf" if find_ffmpeg() else f"is missing: {why_missing()}"
        result.notes.append(f"No VMAF: the FFmpeg binary {lacking}.")
    if "flicker" in config.measures and not _has_motion():
        result.notes.append("No flicker: it needs OpenCV; pip install opencv-python-headless.")


def _has_motion() -> bool:
    return find_spec("cv2") is not None


class _Work:
    """The passes over the videos."""

    def __init__(self, config: CompareConfig, result: Comparison, progress: Callable[[int, int], None] | None) -> None:
        self._config, self._result, self._progress = config, result, progress
        self._done = self._total = 0
        self._steady = "flicker" in config.measures and _has_motion()

    def expect(self, total: int) -> None:
        """Say how many moments there will be."""
        self._total = total

    def _step(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done))

    def alone(self, letter: str, size: tuple[int, int]) -> None:
        """Measure a video by itself, at a size at which it can be held against another."""
        track, steadiness = Track(letter, None, self._config.measures), Steadiness()
        self._result.tracks.append(track)
        for shown in self._result.clips[letter].frames(threads=self._config.threads):
            frame = fitted(shown.frame, size)
            changes = steadiness.add(luma(frame[None])) if self._steady else None
            track.add_alone(shown.time, frame, changes[0] if changes else None)
            self._step()

    def against(self, reference: str, letters: Sequence[str], size: tuple[int, int]) -> None:
        """Measure videos of one frame rate against another, all at one size."""
        config = self._config
        # without a third video each by itself tells what can be told alone, at every frame
        told = config.measures if reference == "R" else frozenset(n for n in config.measures if not MEASURES[n].alone)
        tracks = [
            Track(letter, reference, told, perceptual=config.perceptual, vmaf=self._vmaf(size)) for letter in letters
        ]
        self._result.tracks.extend(tracks)
        steadiness = Steadiness()
        try:
            for moment, frames in self._moments([reference, *letters]):
                original, *others = (fitted(shown.frame, size) for shown in frames)
                changes = None
                if self._steady and "flicker" in told:
                    changes = steadiness.add(luma(original[None]), *(luma(other[None]) for other in others))
                for number, (track, other) in enumerate(zip(tracks, others, strict=True), 1):
                    track.add(moment, other, original, (changes[number], changes[0]) if changes else None)
                self._step()
        finally:
            for track in tracks:
                track.finish()

    def _moments(self, letters: Sequence[str]) -> Iterator[tuple[Fraction, list[Shown[Tensor]]]]:
        """Yield each moment with the frame of each video, in the order of the letters."""
        clips = [self._result.clips[letter] for letter in letters]
        coarsest = min(range(len(clips)), key=lambda i: clips[i].rate)
        streams = [clip.frames(threads=self._config.threads) for clip in clips]
        grid = streams.pop(coarsest)
        apart = Fraction(0)
        for shown, others in in_step(grid, streams):
            apart = max([apart, *(abs(other.time - shown.time) for other in others)])
            others.insert(coarsest, shown)
            yield shown.time, others
        rates = " and ".join(dict.fromkeys(f"{float(clip.rate):.5g}" for clip in clips))
        if len({clip.rate for clip in clips}) > 1:
            names = " and ".join(letters)
            near = f", up to {float(1000 * apart):.1f} ms apart" if apart > APART_S else ""
            self._result.notes.append(f"{names} have {rates} fps: frames nearest in time are compared{near}.")

    def _vmaf(self, size: tuple[int, int]) -> Vmaf | None:
        wanted = "vmaf" in self._config.measures and has_vmaf()
        return Vmaf(*size, threads=self._config.threads or 2) if wanted and min(size) >= 32 else None
