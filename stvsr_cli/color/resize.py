"""Frames to the size that is asked for, where a model makes another."""

from torch import Tensor
from torch.nn import functional

from stvsr_cli.color.box import Box


def to_size(frames: Tensor, height: int, width: int) -> Tensor:
    """Bring frames [T, 3, h, w] to a size, bicubically.

    Where they shrink they are filtered first, so that nothing aliases; where they only grow there is nothing to filter,
    and what overshoots is cut off at black and white.
    """
    if frames.shape[-2:] == (height, width):
        return frames
    if height >= frames.shape[-2] and width >= frames.shape[-1]:
        large = functional.interpolate(frames, (height, width), mode="bicubic", align_corners=False)
        return large.clamp_(0, 1)
    return functional.interpolate(frames, (height, width), mode="bicubic", antialias=True, align_corners=False)


def brought(frames: Tensor, place: Box, height: int, width: int) -> Tensor:
    """Bring frames [T, 3, h, w] to their place's size; what lies outside a frame of height and width is cut off."""
    large = to_size(frames, place.height, place.width)
    inside = place.within(height, width)
    top, left = inside.top - place.top, inside.left - place.left
    return large[..., top : top + inside.height, left : left + inside.width]
