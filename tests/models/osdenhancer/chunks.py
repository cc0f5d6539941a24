"""A long video in the authors' chunks: 8n + 1 output frames each, an overlap whose second copy is dropped.

The program itself joins windows of source frames; this is the published script's scheme, for comparing with it.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from stvsr_cli.models.contract import Request
from stvsr_cli.models.osdenhancer.initial import Initial
from stvsr_cli.models.osdenhancer.model import OSDEnhancer


def chunk_starts(num_frames: int, length: int, overlap: int) -> list[int]:
    """Return the first output frame of each chunk; the last one ends with the video and may overlap more.

    Raises ValueError unless 0 <= overlap < length.
    """
    if not 0 <= overlap < length:
        raise ValueError(f"{overlap = } must lie in [0, {length = })")
    if num_frames <= length:
        return [0]
    last = num_frames - length
    return [*range(0, last, length - overlap), last]


def upscale_chunks(
    model: OSDEnhancer, frames: Tensor, request: Request, *, length: int, overlap: int = 1
) -> Iterator[Tensor]:
    """Yield the output frames of [B, N, 3, h, w], chunk by chunk, as [B, new frames, 3, H, W].

    length, overlap: in output frames. A chunk may begin or end between two input frames.
    """
    factor = request.fps_factor
    num_frames = (frames.shape[1] - 1) * factor + 1
    done = 0
    for start in chunk_starts(num_frames, length, overlap):
        stop = min(start + length, num_frames)
        first, last = start // factor, -(-(stop - 1) // factor)
        whole = model.initialise(frames[:, first : last + 1], request)
        here = slice(start - first * factor, stop - first * factor)
        output = _run(model, Initial(video=whole.video[:, here], residual=whole.residual[:, here]), request)
        yield output[:, max(0, done - start) :]
        done = stop


@torch.inference_mode()
def _run(model: OSDEnhancer, init: Any, request: Request) -> Tensor:
    latent = model.encode(init, request)
    clean = model.denoise(latent, model.condition(init, latent, request), request)
    return model.decode(clean, init, request)
