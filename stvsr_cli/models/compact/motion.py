"""Motion between the output frames, from the motion between the keyframes."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Motion:
    """Flow from each output frame to its neighbours, in latent positions."""

    to_next: Tensor
    """[B, T'-1, 2, H, W]: from frame i to frame i + 1."""
    to_previous: Tensor
    """[B, T'-1, 2, H, W]: from frame i + 1 to frame i."""


def neighbour_motion(forward: Tensor, backward: Tensor, to_left: list[Tensor], to_right: list[Tensor]) -> Motion:
    """Flow between neighbouring output frames, along straight paths between the keyframes.

    forward, backward: [B, T-1, 2, H, W] between keyframes; to_left, to_right: the same from each of the F - 1
    intermediate times to its keyframes.
    """
    factor = len(to_left) + 1
    nexts = [forward / factor] + [flow / (factor - j) for j, flow in enumerate(to_right, start=1)]
    previous = [flow / j for j, flow in enumerate(to_left, start=1)] + [backward / factor]
    return Motion(torch.stack(nexts, 2).flatten(1, 2), torch.stack(previous, 2).flatten(1, 2))
