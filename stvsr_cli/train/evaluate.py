"""Evaluation of any model on clips it was not trained on: degraded as in validation, run, and measured."""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import nn

from stvsr_cli.color.resize import to_size
from stvsr_cli.errors import InputError
from stvsr_cli.media.read.decode import Picture
from stvsr_cli.media.read.degradation import estimated
from stvsr_cli.media.read.probe import ColorTags
from stvsr_cli.models.contract import OneStepModel, Request
from stvsr_cli.models.dials import Dial
from stvsr_cli.models.registry import NO_DIALS
from stvsr_cli.models.step import run_window
from stvsr_cli.quality.measures import measure
from stvsr_cli.runtime.parts import replacing
from stvsr_cli.train.clips import SCALE, VIDEO_SUFFIXES
from stvsr_cli.train.degrade import apply
from stvsr_cli.train.validate import TRACKS, to_tensor, track

DEGRADATION_SEED = 7


@dataclass(frozen=True, slots=True)
class Row:
    """What a model reached on one clip under one degradation."""

    clip: str
    track: str
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Excerpt:
    """What is evaluated of each clip."""

    keyframes: int = 5
    """Source frames of each clip, every second of its own."""
    crop_px: int = 0
    """Side of the square that is taken from the middle of each frame, in output pixels; 0: whole frames."""
    fps_factor: int = 2
    """Output frames for each source frame: 2, or 1 for the source frames alone."""

    def __post_init__(self) -> None:
        if self.keyframes < 2:
            raise InputError(f"keyframes={self.keyframes} must be at least 2.")
        if self.crop_px % SCALE:
            raise InputError(f"crop_px={self.crop_px} must be a multiple of {SCALE}.")
        if self.fps_factor not in (1, 2):
            raise InputError(f"fps_factor={self.fps_factor} must be 1 or 2.")


def evaluate(
    model: OneStepModel[Any, Any, Any],
    clips: Path,
    excerpt: Excerpt,
    *,
    device: torch.device,
    perceptual: nn.Module | None = None,
    dials: Mapping[Dial, float] = NO_DIALS,
) -> Iterator[Row]:
    """Yield a row for each clip of a folder and each track. Raises InputError if the folder has no clip that is long enough.

    dials: strengths; those that are not given are the model's own, as the input asks for.
    """
    found = False
    for path in sorted(p for p in clips.iterdir() if p.suffix in VIDEO_SUFFIXES) if clips.is_dir() else ():
        frames = read_frames(path, 2 * excerpt.keyframes - 1)
        if frames is None:
            continue
        found = True
        for name in TRACKS:
            whole = apply(frames[::2], track(name), SCALE, np.random.default_rng(DEGRADATION_SEED))
            low, high = middle(whole, excerpt.crop_px // SCALE, 1), middle(frames, excerpt.crop_px, SCALE)
            context = to_tensor(whole)[None].to(device) if model.traits.wants_context else None
            restore = dials.get("restore")
            request = Request(
                fps_factor=excerpt.fps_factor, detail=dials.get("detail", model.traits.detail), context=context,
                restore=model.traits.restore(degradation_of(whole)) if restore is None else restore,
            )  # fmt: skip
            output = run_window(model, to_tensor(low)[None].to(device), request)[0]
            target = to_tensor(high[:: 2 // excerpt.fps_factor]).to(device)
            values = measure(to_size(output, *target.shape[-2:]).clamp(0, 1), target, perceptual)
            yield Row(path.stem, name, values if excerpt.fps_factor == 2 else _not_between(values))
    if not found:
        raise InputError(
            f"{clips} holds no clip of {2 * excerpt.keyframes - 1} frames.", hint="Name a folder of clips."
        )


def degradation_of(frames: np.ndarray) -> float:
    """How strongly frames that follow each other were degraded, by a look at them; frames: [T, H, W, 3] uint8, RGB."""
    pictures = (Picture((g, b, r), "gbrp", ColorTags(matrix=0, range=2)) for r, g, b in np.moveaxis(frames, 3, 1))
    return estimated([pictures])


def _not_between(values: dict[str, float]) -> dict[str, float]:
    """Return measures without those of frames between."""
    return {name: value for name, value in values.items() if not name.endswith("_mid")}


def read_frames(path: Path, num_frames: int) -> np.ndarray | None:
    """Return the first frames of a clip, sides cropped to multiples of 2 * SCALE; None if there are fewer."""
    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == num_frames:
                break
    if len(frames) < num_frames:
        return None
    height, width = (side // (2 * SCALE) * 2 * SCALE for side in frames[0].shape[:2])
    return np.stack(frames)[:, :height, :width]


def middle(frames: np.ndarray, side: int, unit: int) -> np.ndarray:
    """Return the central square of frames [T, H, W, 3], or what there is of it, at a multiple of `unit` from the corner."""
    if not side:
        return frames
    top, left = (max(0, (size - side) // 2) // unit * unit for size in frames.shape[1:3])
    return frames[:, top : top + side, left : left + side]


def mean_values(rows: list[Row], track_name: str) -> dict[str, float]:
    """Return the mean of each measure over the clips of a track."""
    chosen = [row.values for row in rows if row.track == track_name]
    return {name: float(np.mean([values[name] for values in chosen])) for name in chosen[0]} if chosen else {}


def differences(rows: list[Row], others: list[Row], track_name: str) -> dict[str, tuple[float, float]]:
    """Return each measure's mean difference to another model's over the same clips, and its standard error."""
    known = {(row.clip, row.track): row.values for row in others}
    pairs = [
        (row.values, known[key]) for row in rows if row.track == track_name and (key := (row.clip, row.track)) in known
    ]
    result = {}
    for name in pairs[0][0] if pairs else ():
        values = [ours[name] - theirs[name] for ours, theirs in pairs if name in theirs]
        error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        result[name] = (float(np.mean(values)), error)
    return result


def write_rows(rows: list[Row], path: Path) -> None:
    """Write rows as a table, which `read_rows` reads."""
    with replacing(path) as part, part.open("w", newline="") as handle:
        writer = csv.writer(handle)
        names = list(rows[0].values) if rows else []
        writer.writerow(["clip", "track", *names])
        writer.writerows([row.clip, row.track, *(f"{row.values[name]:.6g}" for name in names)] for row in rows)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a table. Raises InputError if it is not one."""
    try:
        with path.open(newline="") as handle:
            return [
                Row(line.pop("clip"), line.pop("track"), {name: float(value) for name, value in line.items()})
                for line in csv.DictReader(handle)
            ]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} is not a table of an evaluation: {error}.") from error
