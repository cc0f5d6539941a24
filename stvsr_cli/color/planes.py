"""RGB frames to the codes of a pixel format on the device they lie on, so that only codes need leave it.

Everything is queued on the device and nothing waits for it: constants are arguments, not tensors that would be copied
there. Equal to `convert.from_rgb` to within the last code; that one's order of sums is a matrix product's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from stvsr_cli.color.box import Box
from stvsr_cli.color.convert import from_rgb, halved, levels, luma_weights, reduced, to_rgb
from stvsr_cli.color.resize import brought
from stvsr_cli.media.read.black import black_codes
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
    picture: Box | None = None
    """Where the picture lies, where bars surround it or its sides are cut off; None: it fills the frame."""
    whole: Box | None = None
    """Where the input's whole frame lies, of which the picture is a part; None: it is the picture."""

    @property
    def depth(self) -> int:
        """Bits per sample."""
        return 10 if self.pix_fmt.endswith("10le") else 8

    @property
    def dtype(self) -> torch.dtype:
        """Of a sample."""
        return torch.uint8 if self.depth == 8 else torch.int16

    @property
    def place(self) -> Box:
        """Where the picture lies."""
        return self.picture or Box(0, 0, self.width, self.height)

    @property
    def black(self) -> tuple[int, int]:
        """The codes of black, of the first plane and of the others."""
        return black_codes(self.pix_fmt, is_full_range=self.color.is_full_range)

    def parts(self, box: Box) -> list[tuple[slice, slice]]:
        """Rows and columns of each plane that show a part of the frame."""
        whole, found = (self.height, self.width), []
        for shape in self.shapes:
            tall, wide = (-(-side // part) for side, part in zip(whole, shape, strict=True))
            rows = slice(box.top // tall, -(-(box.top + box.height) // tall))
            found.append((rows, slice(box.left // wide, -(-(box.left + box.width) // wide))))
        return found

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
    """Bring RGB frames to their place, and to codes. frames: [T, 3, h, w]. Returns [T, form.num_samples]."""
    packed = torch.empty(frames.shape[0], form.num_samples, dtype=form.dtype, device=frames.device)
    at_once = max(1, PIXELS_AT_ONCE // (form.height * form.width))
    parts = form.parts(form.place.within(form.height, form.width))
    for some, target in zip(frames.split(at_once), packed.split(at_once), strict=True):
        begin = 0
        planes = _planes(brought(some.float(), form.place, form.height, form.width), form)
        for number, (plane, (height, width), part) in enumerate(zip(planes, form.shapes, parts, strict=True)):
            canvas = target[:, begin : begin + height * width].unflatten(1, (height, width))
            if plane.shape[-2:] != (height, width):
                canvas.fill_(form.black[number > 0])
            # saturates, and casts to whole numbers
            canvas[(slice(None), *part)] = plane.round().clamp_(0, 2**form.depth - 1)
            begin += height * width
    return packed


def picture_in(frames: Tensor, form: PlaneFormat, place: Box) -> Picture:
    """An RGB frame as a picture with black around it. frames: [1, 3, h, w], in main memory. place: where it lies."""
    picture = from_rgb(brought(frames, place, form.height, form.width), form.pix_fmt, form.color)[0]
    planes = []
    parts = form.parts(place.within(form.height, form.width))
    for number, (plane, shape, part) in enumerate(zip(picture.planes, form.shapes, parts, strict=True)):
        if plane.shape == shape:
            planes.append(plane)
            continue
        canvas = np.full(shape, form.black[number > 0], plane.dtype)
        canvas[part] = plane
        planes.append(canvas)
    return replace(picture, planes=tuple(planes))


def with_whole(picture: Picture, around: Picture, form: PlaneFormat) -> Picture:
    """A frame with the whole input around its picture, enlarged, in the place of black bars. around: the input's frame."""
    whole = picture_in(to_rgb([around]).clamp_(0, 1), form, form.whole or form.place)
    for plane, own, part in zip(
        whole.planes, picture.planes, form.parts(form.place.within(form.height, form.width)), strict=True
    ):
        plane[part] = own[part]
    return whole


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
