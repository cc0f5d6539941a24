"""Frames to the size that is asked for, where a model makes another."""

from torch import Tensor
from torch.nn import functional


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


def framed(frames: Tensor, height: int, width: int, picture: tuple[int, int] | None = None) -> Tensor:
    """Bring frames [T, 3, h, w] to a size, in the middle of black bars or with their sides cut off.

    picture: height and width that they are brought to first; None: the whole frame's.
    """
    frames = to_size(frames, *(picture or (height, width)))
    across, down = width - frames.shape[-1], height - frames.shape[-2]
    if not across and not down:
        return frames
    left, top = across // 4 * 2, down // 4 * 2  # even, so that bars and picture share no sample of chroma
    return functional.pad(frames, (left, across - left, top, down - top))
