"""A start for SPyNet's levels, and the loss of one of them alone: from random weights they learn nothing for thousands of steps.

A level has to find products of differences in place and in time, on which rectified convolutions come late. So its first two start as
the sums of Lucas and Kanade (1981) in their robust form: |g + d| - |g - d| is twice the smaller of gradient g and difference d, with the
sign of their product, and its sum over a window beside the sum of |g| tells the shift, which the other three then learn to read.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.layers.spynet import IMAGENET_MEAN, IMAGENET_STD, KERNEL, SPyNet
from stvsr_cli.models.layers.warp import warp

BLURS = (0.8, 1.4)
"""Deviations, in positions, at which gradients and differences are taken."""
WINDOW = 2.0
"""Deviation of the window that they are summed over."""
DIFFERENCES, SUMS = 12, 6
"""Channels of the first and of the second convolution for each blur."""
GAIN = 1.5
LAST_STD = 1e-3
"""Of the last convolution's weights: a level begins by correcting nothing."""
FACTORS = (2, 4, 4, 8, 8)
"""Reductions of the frames that a level is trained on, drawn equally from those that leave enough of them."""
SIDE, RIM = 32, 4
"""Positions of such a picture, and of its rim, which the shift may empty."""
LARGEST_SHIFT, BEND, NOISE = 1.6, 0.3, 0.1
"""Of the pictures: shift in positions, deviation of the smooth field that bends them, most noise."""


@torch.no_grad()
def start_as_gradients(flow: SPyNet) -> None:
    """Set the weights of all levels alike, so that they begin with gradients, differences and their sums."""
    level = flow.levels[0]
    convs = [module for module in level.modules() if isinstance(module, nn.Conv2d)]
    for conv in convs:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    nn.init.normal_(convs[-1].weight, std=LAST_STD)
    first, second = convs[0].weight, convs[1].weight
    first[:, 6:] = 0  # the flow so far is of no use to its correction
    first[: DIFFERENCES * len(BLURS)] = 0
    second[: SUMS * len(BLURS)] = 0
    for index, blur in enumerate(BLURS):
        _differences(first[DIFFERENCES * index :], blur)
        _sums(second[SUMS * index :, DIFFERENCES * index :])
    for other in flow.levels[1:]:
        other.load_state_dict(level.state_dict())


def _differences(weight: Tensor, blur: float) -> None:
    """Fill rows with g + d and g - d of both axes, each with both signs, then g with both signs."""
    smooth = torch.outer(_bell(blur), _bell(blur))
    for axis in range(2):
        slope = torch.outer(_bell(blur), _slope(blur))
        slope = slope.T if axis else slope
        for sign in (0, 1):
            step = smooth * (1 - 2 * sign)
            for row, turn in ((4 * axis + 2 * sign, 1), (4 * axis + 2 * sign + 1, -1)):
                weight[row, :3], weight[row, 3:6] = (
                    turn * GAIN / 3 * (slope / 2 - step),
                    turn * GAIN / 3 * (slope / 2 + step),
                )
        for row, turn in ((8 + 2 * axis, 1), (9 + 2 * axis, -1)):
            weight[row, :6] = turn * GAIN / 3 * slope / 2


def _sums(weight: Tensor) -> None:
    """Fill rows with the windowed products of g and d, with both signs, and the windowed |g|, of both axes."""
    window = torch.outer(_bell(WINDOW), _bell(WINDOW))
    for axis in range(2):
        for turn in (0, 1):
            for sign in (0, 1):
                rows = slice(4 * axis + 2 * sign, 4 * axis + 2 * sign + 2)
                weight[2 * axis + turn, rows] = (1 - 2 * turn) * (1 - 2 * sign) * window
        weight[4 + axis, 8 + 2 * axis : 10 + 2 * axis] = 2 * window


def _bell(deviation: float) -> Tensor:
    place = torch.arange(KERNEL) - KERNEL // 2
    bell = torch.exp(-place.square() / (2 * deviation**2))
    return bell / bell.sum()


def _slope(deviation: float) -> Tensor:
    """A derivative that gives 1 on a ramp of 1."""
    place = torch.arange(KERNEL) - KERNEL // 2
    bell = place * _bell(deviation)
    return bell / (place * bell).sum()


def share_level(flow: SPyNet) -> None:
    """Let all levels be the first one: what is trained on one scale serves all."""
    flow.levels = nn.ModuleList([flow.levels[0]] * len(flow.levels))


def level_error(flow: SPyNet, frames: Tensor) -> Tensor:
    """Mean end-point error of the first level alone, in positions, on frames against themselves, shifted.

    frames: [N, 3, H, W] in [0, 1], sides at least 64.
    """
    fitting = [factor for factor in FACTORS if min(frames.shape[-2:]) >= SIDE * factor]
    factor = fitting[int(torch.randint(len(fitting), ()))]
    small = functional.avg_pool2d(frames * 2 - 1, factor)
    top, left = (int(torch.randint(size - SIDE + 1, ())) for size in small.shape[-2:])
    mean, std = (small.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    here = (small[..., top : top + SIDE, left : left + SIDE] - mean) / std
    bend = BEND * torch.randn(len(here), 2, 3, 3, device=here.device)
    shift = (2 * torch.rand(len(here), 2, 1, 1, device=here.device) - 1) * LARGEST_SHIFT
    shift = shift + functional.interpolate(bend, size=(SIDE, SIDE), mode="bicubic")
    there = warp(here, -shift, padding="border")
    noise = NOISE * torch.rand(len(here), 1, 1, 1, device=here.device)
    here, there = (x + noise * torch.randn_like(x) for x in (here, there))
    found = flow.levels[0](torch.cat([here, there, torch.zeros_like(shift)], 1)).float()
    return ((found - shift)[..., RIM:-RIM, RIM:-RIM].square().sum(1) + 1e-4).sqrt().mean()
