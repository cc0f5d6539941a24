"""A video to compare: what the file is, and its frames as they are shown."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli.color.convert import to_rgb
from stvsr_cli.compare.moments import Shown
from stvsr_cli.media.read.count import measure
from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.deinterlace import with_fields
from stvsr_cli.media.read.probe import VideoInfo, probe

SAME_RATE = Fraction(2, 100)
"""Share by which a counted frame rate may differ from the header's: containers round times, and the last frame's end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A video file, or a part of one."""

    info: VideoInfo
    num_bytes: int
    num_frames: int
    """Counted, of the whole file."""
    duration_s: Fraction
    """From the first frame's begin to the last one's end, of the whole file."""
    start: Fraction | None = None
    end: Fraction | None = None

    @classmethod
    def of(cls, path: Path, *, start: Fraction | None = None, end: Fraction | None = None) -> "Clip":
        """Describe a file; start, end: seconds of the part to compare. Raises InputError if it is no video."""
        info = with_fields(probe(path), "auto")
        counted = measure(path)
        return cls(
            info=info,
            num_bytes=path.stat().st_size,
            num_frames=counted.num_frames,
            duration_s=counted.duration_s,
            start=start,
            end=end,
        )

    @property
    def turns(self) -> int:
        """Quarter turns counter-clockwise until the picture stands upright."""
        return self.info.rotation % 360 // 90

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture in pixels."""
        width, height = self.info.width, self.info.height
        return (height, width) if self.turns % 2 else (width, height)

    @property
    def rate(self) -> Fraction:
        """Frames per second: the header's, unless counting finds another."""
        said = self.info.average_rate
        if self.num_frames < 2 or not self.duration_s:
            return said
        counted = self.num_frames / self.duration_s
        return said if abs(counted - said) < SAME_RATE * said else counted

    @property
    def length_s(self) -> Fraction:
        """Seconds of the part that is compared."""
        end = self.duration_s if self.end is None else min(self.end, self.duration_s)
        return max(Fraction(0), end - (self.start or 0))

    def frames(self, *, threads: int = 0) -> Iterator[Shown[Tensor]]:
        """Yield the frames [3, H, W], RGB in [0, 1], upright, in order."""
        base, first = self.info.time_base, None
        for frame in decode(self.info, start=self.start, end=self.end, threads=threads):
            first = frame.pts if first is None else first
            rgb = torch.rot90(to_rgb([frame.picture])[0].clamp_(0, 1), self.turns, (1, 2))
            yield Shown((frame.pts - first) * base, frame.duration * base, rgb)


def fitted(frame: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a frame [3, H, W] at a size, width and height: bicubic, and smoothed before it is reduced."""
    height, width = size[1], size[0]
    if frame.shape[-2:] == (height, width):
        return frame
    return functional.interpolate(
        frame[None], (height, width), mode="bicubic", antialias=True, align_corners=False
    )[0].clamp_(0, 1)  # fmt: skip
