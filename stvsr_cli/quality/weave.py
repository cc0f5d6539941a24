"""Weave: how unevenly fine detail lies over the output pixels of one input pixel, which the eye sees as a texture."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

CELL_PX = 4
"""Output pixels of one input pixel along each side."""
WINDOW_PX = 64
"""Side of the squares whose calm is judged."""
FINE_SIGMA, COARSE_SIGMA = 1.0, 4.0
CALM_SHARE = 0.4
"""Share of the squares, the calmest by what is coarser than an input pixel, in which detail is looked at."""


@dataclass(slots=True)
class Weave:
    """The measure of a whole video, frame by frame.

    The 4 x 4 places within an input pixel each have a strength: the root mean square of what is finer than two pixels,
    in calm parts. The weave is the standard deviation of the 16 strengths, in code values. Film has about 0.1; above
    0.2 the eye begins to see it; at 1 it is plain.
    """

    _energies: list[Tensor] = field(default_factory=list)

    def add(self, luma: Tensor) -> float | None:
        """Take a frame's luma [H, W] in [0, 1] and return its own weave; None if a side is below `WINDOW_PX`."""
        if min(luma.shape) < WINDOW_PX:
            return None
        energy = cell_energies(255 * luma.float())
        self._energies.append(energy)
        return float(energy.sqrt().std(correction=0))

    @property
    def value(self) -> float | None:
        """The weave of all frames so far; None where there is none."""
        if not self._energies:
            return None
        return float(torch.stack(self._energies).mean(0).sqrt().std(correction=0))


def cell_energies(values: Tensor) -> Tensor:
    """Mean square of the fine detail at each of the 16 places of a cell, in calm parts; values: [H, W]. Returns [16]."""
    fine, coarse = _cells(values - blurred(values, FINE_SIGMA)), _cells(blurred(values, COARSE_SIGMA))
    busy = coarse.flatten(1).std(1, correction=0)
    return fine[busy <= torch.quantile(busy, CALM_SHARE)].square().mean((0, 1))


def _cells(x: Tensor) -> Tensor:
    """Whole squares of a picture [H, W]: [squares, cells of a square, 16]."""
    rows, columns = (side // WINDOW_PX for side in x.shape)
    part = WINDOW_PX // CELL_PX
    x = x[: rows * WINDOW_PX, : columns * WINDOW_PX].reshape(rows, part, CELL_PX, columns, part, CELL_PX)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(rows * columns, part * part, CELL_PX * CELL_PX)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Pictures [..., H, W] under a Gaussian that reaches four sigma; mirrored at their borders."""
    reach = round(4 * sigma)
    place = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    row = torch.exp(-place.square() / (2 * sigma**2))
    row = row / row.sum()
    wide = functional.pad(x.reshape(-1, 1, *x.shape[-2:]), (reach,) * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(wide, row.view(1, 1, 1, -1)), row.view(1, 1, -1, 1)).view(x.shape)
