"""The initial video: in-between frames at low resolution, then every frame enlarged as the authors enlarge it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stvsr_cli.models.dloral import pillow
from stvsr_cli.models.layers.insertion import Inserter, insert_mixtures


@dataclass(frozen=True, kw_only=True, slots=True)
class Initial:
    video: Tensor
    """[B, T, 3, H, W], float32 in [0, 1], of 8-bit precision; H and W are multiples of the VAE's stride."""
    size: tuple[int, int]
    """Height and width of the output, to which the decoded video is resampled if its own differ."""


def initialise(
    frames: Tensor,
    *,
    fps_factor: int,
    scale: int,
    multiple_px: int,
    process_px: int,
    insert: Inserter = insert_mixtures,
) -> Initial:
    """Return the initial video of frames [B, T, 3, h, w] in [0, 1].

    The frames are rounded to 8 bits, as the networks saw theirs; then those with a side under
    process_px / scale are enlarged until it is that long, all are enlarged by `scale` (both bicubic), and reduced to `multiple_px` (Lanczos).
    """
    height, width = frames.shape[-2:]
    video = insert(frames, fps_factor)
    enlarged = enlarged_size(height, width, process_px // scale)
    scaled = (enlarged[0] * scale, enlarged[1] * scale)
    fitted = (scaled[0] - scaled[0] % multiple_px, scaled[1] - scaled[1] % multiple_px)
    batch, num_frames = video.shape[:2]
    result = video.new_empty((batch * num_frames, 3, *fitted), dtype=torch.float32)
    for index, frame in enumerate(video.flatten(0, 1)):  # one by one: the sums are four times the result
        coded = pillow.resize(pillow.resize(_coded(frame), enlarged, pillow.bicubic), scaled, pillow.bicubic)
        result[index] = pillow.resize(coded, fitted, pillow.lanczos)
    return Initial(video=result.div_(255).unflatten(0, (batch, num_frames)), size=(height * scale, width * scale))


def enlarged_size(height: int, width: int, minimum_px: int) -> tuple[int, int]:
    """Return the size at which both sides are at least `minimum_px`, in proportion and rounded down as the authors do.

    Their rounding can leave the shorter side one pixel under the minimum.
    """
    if height >= minimum_px and width >= minimum_px:
        return height, width
    factor = minimum_px / min(width, height)
    return int(factor * height), int(factor * width)


def restore_size(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Return frames [N, 3, H, W] in [0, 1] at the size the output must have; what the enlarging changed is undone.

    As the authors do it, which rounds the frames to 8 bits: for sides that are short, or no multiple of the stride.
    """
    if frames.shape[-2:] == size:
        return frames
    return pillow.resize(_coded(frames), size, pillow.bicubic).to(frames.dtype).div_(255)


def _coded(frames: Tensor) -> Tensor:
    """Round frames in [0, 1] to 8 bits."""
    return (frames.float() * 255).round_().clamp_(0, 255).to(torch.uint8)
