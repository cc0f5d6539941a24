"""Linear initialisation: frames inserted by blending, enlarged, with the motion residual and padding for the VAE."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Initial:
    video: Tensor
    """[B, T, 3, H, W] in [0, 1]: the input frames and the blends between them, enlarged."""
    residual: Tensor
    """[B, T, 3, H, W] in [-1, 1]: at a blend, right minus left enlarged neighbour; at an input frame, zero."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Padding:
    """What is added around a video before the VAE, and taken away after it."""

    num_frames: int
    """Copies of the last frame, at the end."""
    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def fit(cls, num_frames: int, height: int, width: int, *, multiple_frames: int, multiple_px: int) -> "Padding":
        """Return the padding to a frame count of n * multiple_frames + 1 and to sides that are multiples of a size.

        The smaller half of an odd padding comes first.
        """
        down, across = -height % multiple_px, -width % multiple_px
        return cls(
            num_frames=-(num_frames - 1) % multiple_frames,
            top=down // 2,
            bottom=down - down // 2,
            left=across // 2,
            right=across - across // 2,
        )

    def add(self, video: Tensor) -> Tensor:
        """Return [B, C, T, H, W] with its last frame repeated and its borders reflected."""
        if self.num_frames:
            video = torch.cat([video, video[:, :, -1:].expand(-1, -1, self.num_frames, -1, -1)], dim=2)
        borders = (self.left, self.right, self.top, self.bottom)
        return F.pad(video, (*borders, 0, 0), mode="reflect") if any(borders) else video

    def remove(self, video: Tensor) -> Tensor:
        """Return [B, C, T, H, W] without what `add` added."""
        num_frames, height, width = video.shape[2:]
        return video[
            :, :, : num_frames - self.num_frames, self.top : height - self.bottom, self.left : width - self.right
        ]


def initialise(frames: Tensor, *, fps_factor: int, scale: int) -> Initial:
    """Return the initial video and the motion residual of input frames [B, N, 3, h, w].

    The result has (N - 1) * fps_factor + 1 frames; frame j between a and b is (1 - j / F) a + (j / F) b.
    """
    enlarged = enlarge(frames, scale)
    num_frames = (frames.shape[1] - 1) * fps_factor + 1
    video = enlarged.new_empty(frames.shape[0], num_frames, *enlarged.shape[2:])
    video[:, ::fps_factor] = enlarged
    for step in range(1, fps_factor if frames.shape[1] > 1 else 1):
        place = step / fps_factor
        video[:, step::fps_factor] = enlarge((1 - place) * frames[:, :-1] + place * frames[:, 1:], scale)
    residual = torch.zeros_like(video)
    motion = enlarged.diff(dim=1)
    for step in range(1, fps_factor):
        residual[:, step::fps_factor] = motion
    return Initial(video=video, residual=residual)


def enlarge(frames: Tensor, scale: int) -> Tensor:
    """Return frames [B, N, C, h, w] enlarged bilinearly and clamped to [0, 1]."""
    large = F.interpolate(frames.flatten(0, 1), scale_factor=float(scale), mode="bilinear", align_corners=False)
    return large.view(*frames.shape[:2], *large.shape[1:]).clamp_(0, 1)
