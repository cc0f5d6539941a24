"""Motion between the output frames, from the motion between the keyframes."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor

from stvsr_cli.models.layers.insertion import Moments, rounds, spread


@dataclass(frozen=True, slots=True)
class Motion:
    """Flow from each output frame to its neighbours, in latent positions."""

    to_next: Tensor
    """[B, T'-1, 2, H, W]: from frame i to frame i + 1."""
    to_previous: Tensor
    """[B, T'-1, 2, H, W]: from frame i + 1 to frame i."""


def neighbour_motion(
    forward: Tensor, backward: Tensor, to_left: list[Tensor], to_right: list[Tensor], moments: Moments
) -> Motion:
    """Flow between neighbouring output frames, along straight paths between the keyframes.

    forward, backward: [B, T-1, 2, H, W] between keyframes; to_left, to_right: the same from the intermediate times to
    their keyframes, as `rounds` orders them; moments: of those times, interval by interval.
    """
    points = [(Fraction(0), *some, Fraction(1)) for some in moments]
    ahead = [
        [(1 - a) / (b - a) for a, b in pairwise(some)] for some in points
    ]  # of what is left, its parts to the next
    behind = [[b / (b - a) for a, b in pairwise(some)] for some in points]
    after, before, last = (
        [spread(value) for value in rounds(some, forward.device)]
        for some in (ahead, [some[:-1] for some in behind], [some[-1:] for some in behind])
    )
    nexts = [flow / parts for flow, parts in zip([forward, *to_right], after, strict=True)]
    previous = [*(flow / parts for flow, parts in zip(to_left, before, strict=True)), backward / last[0]]
    width = len(nexts)
    to_next = [k * width + j for k, some in enumerate(moments) for j in range(len(some) + 1)]
    to_previous = [k * width + j for k, some in enumerate(moments) for j in (*range(len(some)), width - 1)]
    return Motion(_chosen(nexts, to_next), _chosen(previous, to_previous))


def _chosen(flows: list[Tensor], places: list[int]) -> Tensor:
    """Some of the flows, [B, T-1, 2, H, W] each, in order of time: [B, len(places), 2, H, W]."""
    every = torch.stack(flows, 2).flatten(1, 2)
    return every if len(places) == every.shape[1] else every[:, places]
