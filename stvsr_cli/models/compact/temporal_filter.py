"""Motion-compensated temporal filtering of the output frames.

Each frame's fine detail is made by itself, from an input that was coded or noisy in its own way, so that it trembles from
frame to frame. Here each frame's brightness goes part of the way to its neighbours', sampled where the flow points; where
they differ by more than such trembling does, it stays. After the temporal filters of video coders (MCTF).
"""

import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli.models.compact.motion import Motion
from stvsr_cli.models.layers.flow import resize_flow
from stvsr_cli.models.layers.warp import warp

TOLERANCE = 1.25
"""Mean difference of brightness at which a neighbour counts 1/e, in changes from pixel to pixel at that place; see `FLOOR`."""
FLOOR = 1 / 255
"""Added to that difference, so that there is one where nothing changes from pixel to pixel."""
COEFFICIENTS = (0.299, 0.587, 0.114)
"""Of red, green and blue in brightness (BT.601)."""


def temporally_filtered(frames: Tensor, motion: Motion, strength: float) -> Tensor:
    """Frames whose brightness went towards the mean of their neighbours' along the motion; colour differences stay.

    frames: [B, T, 3, H, W], overwritten where nothing is trained; motion: on a grid that divides theirs. strength: 0
    changes nothing, 0.5 takes the mean of the neighbours alone. Returns [B, T, 3, H, W].
    """
    count = frames.shape[1]
    if count == 1 or not strength:
        return frames
    stride = frames.shape[-1] // motion.to_next.shape[-1]
    made = []
    before, here = None, _brightness(frames[:, 0])
    for i in range(count):
        after = _brightness(frames[:, i + 1]) if i + 1 < count else None
        usual = TOLERANCE * _fineness(here, stride) + FLOOR
        towards = []
        if before is not None:
            towards.append(_towards(here, before, motion.to_previous[:, i - 1], usual))
        if after is not None:
            towards.append(_towards(here, after, motion.to_next[:, i], usual))
            before, here = here, after
        change = sum(towards[1:], towards[0]).mul(2 * strength / len(towards))
        if torch.is_grad_enabled():
            made.append(frames[:, i] + change)
        else:
            frames[:, i].add_(change)
    return torch.stack(made, 1) if made else frames


def _brightness(frame: Tensor) -> Tensor:
    """frame: [B, 3, H, W]. Returns [B, 1, H, W]."""
    red, green, blue = frame.unbind(1)
    r, g, b = COEFFICIENTS
    return torch.add(r * red, green, alpha=g).add(blue, alpha=b)[:, None]


def _towards(own: Tensor, other: Tensor, flow: Tensor, usual: Tensor) -> Tensor:
    """What leads from a frame's brightness to a neighbour's, where the two are alike; own, other: [B, 1, H, W].

    flow: [B, 2, H / n, W / n] in positions, from the frame to the neighbour; usual: [B, 1, H / n, W / n], the mean
    difference at which the neighbour counts 1/e of what it does where there is none. Returns [B, 1, H, W].
    """
    stride = own.shape[-1] // flow.shape[-1]
    difference = warp(other, resize_flow(flow, stride), padding="border", sampling="bicubic") - own
    apart = functional.avg_pool2d(difference.abs(), stride) / usual
    alike = functional.interpolate((-apart.square()).exp(), scale_factor=stride, mode="bilinear", align_corners=False)
    return difference * alike


def _fineness(brightness: Tensor, stride: int) -> Tensor:
    """How much brightness changes from pixel to pixel, down and to the right together: [B, 1, H, W] to [B, 1, H / n, W / n].

    What is sampled half a pixel off differs by about as much.
    """
    inner = brightness[..., :-1, :-1]
    down, right = brightness[..., 1:, :-1] - inner, brightness[..., :-1, 1:] - inner
    return functional.avg_pool2d(functional.pad(down.abs() + right.abs(), (0, 1, 0, 1)), stride)
