"""The measures of one video, frame by frame: alone, or against a reference."""

from dataclasses import dataclass, field
from fractions import Fraction
from statistics import fmean

import numpy as np
import torch
from torch import Tensor, nn

from stvsr_cli.color.convert import from_rgb
from stvsr_cli.media.read.probe import MATRIX_BT709, RANGE_LIMITED, ColorTags
from stvsr_cli.media.vmaf import Vmaf
from stvsr_cli.quality.measures import BORDER_PX, WINDOW_PX, gradient_energy, luma, psnr, ssim
from stvsr_cli.quality.motion import Motion
from stvsr_cli.quality.weave import Weave


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure and how it is to be read."""

    title: str
    better: str
    """higher, lower, or one: the nearer to 1 the better."""
    digits: int
    meaning: str
    alone: bool = False
    """Whether a video has it without a reference too."""


MEASURES = {
    "psnr": Measure("PSNR", "higher", 2, "closeness of brightness, in dB; 100 is the same"),
    "ssim": Measure("SSIM", "higher", 4, "closeness of structure; 1 is the same"),
    "perceptual": Measure("Perceptual", "lower", 4, "distance as a network sees it; 0 is the same"),
    "vmaf": Measure("VMAF", "higher", 2, "Netflix's prediction of how people judge; 100 is the same"),
    "sharpness": Measure("Sharpness", "one", 3, "fine detail; against a reference 1 is as sharp", alone=True),
    "flicker": Measure(
        "Flicker", "lower", 3, "unsteadiness along the motion; against a reference 1 is as steady", True
    ),
    "weave": Measure("Weave", "lower", 3, "a texture of the input's pixels; film 0.1, seen from 0.2", alone=True),
}


@dataclass(slots=True)
class Steadiness:
    """What changes along a video's motion, from frame to frame."""

    _before: Tensor | None = None
    _others: list[Tensor] = field(default_factory=list)

    def add(self, luma_: Tensor, *others: Tensor) -> list[float] | None:
        """Take the next frame's luma [1, 1, H, W] in [0, 1], and those of others that should move the same way.

        Returns the mean change along the motion of the first, for it and for each other; None for the first frame.
        """
        before, self._before = self._before, luma_
        others_before, self._others = self._others, list(others)
        if before is None or before.shape != luma_.shape:
            return None
        motion = Motion.of(torch.cat([before, luma_]))
        pairs = [(before, luma_), *zip(others_before, others, strict=True)]
        return [motion.error(torch.cat(pair)) for pair in pairs]


@dataclass(slots=True)
class Track:
    """What was measured of one video."""

    video: str
    """Its letter."""
    against: str | None
    """The letter of the reference; None: alone."""
    names: frozenset[str]
    """The measures that are taken."""
    perceptual: nn.Module | None = None
    vmaf: Vmaf | None = None
    rows: list[dict[str, float]] = field(default_factory=list)
    """Frame by frame: time, and each measure that the frame has."""
    weave: Weave = field(default_factory=Weave)
    _sums: dict[str, list[float]] = field(default_factory=dict)

    def _sum(self, name: str, value: float) -> None:
        self._sums.setdefault(name, []).append(value)

    def add_alone(self, time: Fraction, frame: Tensor, change: float | None) -> None:
        """Take a frame [3, H, W] in [0, 1]; change: its mean change along the motion, if known."""
        y = luma(frame[None])
        row = {"time": float(time)}
        energy = gradient_energy(y)
        if "sharpness" in self.names:
            row["sharpness"] = 255 * energy
        if change is not None:
            row["flicker"] = change / max(energy, 1e-9)
        self._sum("energy", energy)
        if change is not None:
            self._sum("change", change)
        self._weave(row, y)
        self.rows.append(row)

    def add(self, time: Fraction, frame: Tensor, reference: Tensor, changes: tuple[float, float] | None) -> None:
        """Take a frame and the reference's, [3, H, W] in [0, 1] each; changes: along the motion, of it and of that."""
        y, y0 = luma(frame[None]), luma(reference[None])
        row = {"time": float(time)}
        if "psnr" in self.names:
            row["psnr"] = psnr(_inner(y), _inner(y0)).item()
        if "ssim" in self.names and min(y.shape[-2:]) >= WINDOW_PX:
            row["ssim"] = ssim(y, y0).item()
        if self.perceptual is not None:
            row["perceptual"] = float(self.perceptual(frame[None], reference[None]))
        energy, own = gradient_energy(y), gradient_energy(y0)
        self._sum("energy", energy)
        self._sum("own_energy", own)
        if "sharpness" in self.names:
            row["sharpness"] = energy / max(own, 1e-9)
        if changes is not None:
            self._sum("change", changes[0])
            self._sum("own_change", changes[1])
            row["flicker"] = (changes[0] / max(energy, 1e-9)) / max(changes[1] / max(own, 1e-9), 1e-9)
        self._weave(row, y)
        if self.vmaf is not None:
            self.vmaf.put(_planes(frame), _planes(reference))
        self.rows.append(row)

    def _weave(self, row: dict[str, float], y: Tensor) -> None:
        if "weave" in self.names and (value := self.weave.add(y[0, 0])) is not None:
            row["weave"] = value

    def finish(self) -> None:
        """Wait for what is measured outside, and put it into the rows."""
        if self.vmaf is not None:
            for row, value in zip(self.rows, self.vmaf.close(), strict=False):
                row["vmaf"] = value

    def values(self) -> dict[str, float]:
        """Each measure over the whole video."""
        values = {}
        for name in MEASURES:
            found = [row[name] for row in self.rows if name in row]
            if found:
                values[name] = fmean(found)
        sums = {name: fmean(found) for name, found in self._sums.items()}
        if self.weave.value is not None:
            values["weave"] = self.weave.value
        if "own_energy" in sums and "sharpness" in values:
            values["sharpness"] = sums["energy"] / max(sums["own_energy"], 1e-9)
        if "change" in sums:
            values["flicker"] = sums["change"] / max(sums["energy"], 1e-9)
            if "own_change" in sums:
                values["flicker"] /= max(sums["own_change"] / max(sums["own_energy"], 1e-9), 1e-9)
        return values


def _inner(y: Tensor) -> Tensor:
    """Luma without the rim, in which methods differ by how they pad, where there is more than that."""
    if min(y.shape[-2:]) <= 4 * BORDER_PX:
        return y
    return y[..., BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]


def _planes(frame: Tensor) -> tuple[np.ndarray, ...]:
    return from_rgb(frame[None], "yuv420p", ColorTags(matrix=MATRIX_BT709, range=RANGE_LIMITED))[0].planes
