"""RGB frames to the codes of a pixel format on the device they lie on, so that only codes need leave it.

Everything is queued on the device and nothing waits for it: constants are arguments, not tensors that would be copied
there. Equal to `convert.from_rgb` to within the last code; that one's order of sums is a matrix product's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stvsr_cli.color.convert import halved, levels, luma_weights, reduced
from stvsr_cli.color.resize import framed
from stvsr_cli.media.read.decode import Picture
from stvsr_cli.media.read.probe import ColorTags

PIXELS_AT_ONCE = 2**22
"""Output pixels converted at once: enough to keep a device busy, in a tenth of the memory of a window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaneFormat:
    """How the planes of a frame lie one after the other."""

    width: int
    height: int
    pix_fmt: str
    """One of `media.decode.PLANAR`."""
    color: ColorTags
    picture: tuple[int, int] | None = None
    """Height and width of the picture, where bars surround it or its sides are cut off; None: the frame's."""

    @property
    def depth(self) -> int:
        """Bits per sample."""
        return 10 if self.pix_fmt.endswith("10le") else 8

    @property
    def dtype(self) -> torch.dtype:
        """Of a sample."""
        return torch.uint8 if self.depth == 8 else torch.int16

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Height and width of each plane."""
        whole = (self.height, self.width)
        if self.pix_fmt.startswith("gray"):
            return [whole]
        rows, columns = halved(self.pix_fmt)
        small = (-(-self.height // (1 + rows)), -(-self.width // (1 + columns)))
        return [whole, small, small]

    @property
    def num_samples(self) -> int:
        """Samples of a frame."""
        return sum(height * width for height, width in self.shapes)

    @property
    def num_bytes(self) -> int:
        """Bytes of a frame."""
        return self.num_samples * self.dtype.itemsize


def pack(frames: Tensor, form: PlaneFormat) -> Tensor:
    """Bring RGB frames to their output size, and to codes. frames: [T, 3, h, w]. Returns [T, form.num_samples]."""
    packed = torch.empty(frames.shape[0], form.num_samples, dtype=form.dtype, device=frames.device)
    at_once = max(1, PIXELS_AT_ONCE // (form.height * form.width))
    for part, target in zip(frames.split(at_once), packed.split(at_once), strict=True):
        begin = 0
        for plane in _planes(framed(part.float(), form.height, form.width, form.picture), form):
            length = plane.shape[-2] * plane.shape[-1]
            # saturates, and casts to whole numbers
            target[:, begin : begin + length] = plane.round().clamp_(0, 2**form.depth - 1).flatten(1)
            begin += length
    return packed


def _planes(rgb: Tensor, form: PlaneFormat) -> Sequence[Tensor]:
    """Values of the planes in code units, not yet rounded, [T, H', W'] each. rgb: [T, 3, H, W], float32."""
    red, green, blue = rgb.unbind(1)
    if form.pix_fmt.startswith("gbrp"):
        return [channel * (2**form.depth - 1) for channel in (green, blue, red)]
    black, span, centre, chroma_span = levels(form.depth, form.color.is_full_range)
    kr, kb = luma_weights(form.color.resolved_matrix(form.width, form.height))
    luma = (red * kr).add_(green, alpha=1 - kr - kb).add_(blue, alpha=kb)
    values = [luma * span + black]
    if form.pix_fmt.startswith("gray"):
        return values
    chroma = torch.stack(
        [(blue - luma).mul_(chroma_span / (2 * (1 - kb))), (red - luma).mul_(chroma_span / (2 * (1 - kr)))], 1
    )
    return [*values, *(reduced(chroma, form.pix_fmt, form.color.siting) + centre).unbind(1)]


def unpack(samples: Tensor, form: PlaneFormat) -> Picture:
    """A picture of its own memory from a frame's codes in main memory, [form.num_samples]."""
    codes = samples.numpy()
    if form.depth > 8:
        codes = codes.view(np.uint16)
    planes, begin = [], 0
    for height, width in form.shapes:
        planes.append(codes[begin : begin + height * width].reshape(height, width).copy())
        begin += height * width
    return Picture(tuple(planes), form.pix_fmt, form.color)
