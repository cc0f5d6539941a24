"""What a restored video is worth against its original: measures on frames, [T, 3, H, W] in [0, 1]."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

BORDER_PX = 8
"""Rim that psnr leaves out: methods differ there by how they pad."""
WINDOW_PX, WINDOW_SIGMA = 11, 1.5
"""Gaussian window of ssim."""
STABLE_MEAN, STABLE_VARIANCE = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""Constants of ssim for code values up to 255."""
SAME_PATH_PX = 1.0
"""Where flow there and back differ by less than this (sum of both axes), a pixel is seen in both frames."""


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB per frame; a, b: [N, 1 or 3, H, W] in [0, 1]. Returns [N]."""
    return -10 * torch.log10((a - b).square().mean((1, 2, 3)).clamp_min(1e-10))


def luma(rgb: Tensor) -> Tensor:
    """BT.601 luma in [16/255, 235/255]; rgb: [N, 3, H, W] in [0, 1]. Returns [N, 1, H, W]."""
    weights = rgb.new_tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1) / 255
    return (rgb * weights).sum(1, keepdim=True) + 16 / 255


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity per frame (Wang et al., 2004); a, b: luma [N, 1, H, W] in [0, 1]. Returns [N]."""
    place = torch.arange(WINDOW_PX, dtype=torch.float64, device=a.device) - WINDOW_PX // 2
    row = torch.exp(-place.square() / (2 * WINDOW_SIGMA**2))
    window = torch.outer(row, row) / row.sum().square()

    def average(x: Tensor) -> Tensor:
        return functional.conv2d(x, window[None, None])

    x, y = a.double() * 255, b.double() * 255
    mean_x, mean_y = average(x), average(y)
    variance_x, variance_y = average(x * x) - mean_x.square(), average(y * y) - mean_y.square()
    covariance = average(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + STABLE_MEAN) / (mean_x.square() + mean_y.square() + STABLE_MEAN)
    structure = (2 * covariance + STABLE_VARIANCE) / (variance_x + variance_y + STABLE_VARIANCE)
    return (likeness * structure).mean((1, 2, 3)).float()


def gradient_energy(frames: Tensor) -> float:
    """Mean absolute step to the pixel below plus that to the pixel at the right; frames: luma [T, 1, H, W]."""
    return float(frames.diff(dim=2).abs().mean() + frames.diff(dim=3).abs().mean())


@dataclass(frozen=True, slots=True)
class Motion:
    """Where each pixel of a video goes by the next frame."""

    flow: np.ndarray
    """[T - 1, H, W, 2] float32: x, y in pixels."""
    seen: np.ndarray
    """[T - 1, H, W] float32: 1 where the pixel is found again, 0 where it is covered or lost."""

    @classmethod
    def of(cls, frames: Tensor) -> "Motion":
        """Return the motion of luma frames [T, 1, H, W] in [0, 1], by OpenCV's DIS, checked there and back."""
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        coded = (frames[:, 0] * 255).clamp(0, 255).byte().cpu().numpy()
        flows, seen = [], []
        for here, there in pairwise(coded):
            flow, back = search.calc(here, there, None), search.calc(there, here, None)
            error = np.abs(flow + _along(back, flow)).sum(-1)
            flows.append(flow)
            seen.append((error < SAME_PATH_PX).astype(np.float32))
        return cls(np.stack(flows), np.stack(seen))

    def error(self, frames: Tensor) -> float:
        """Mean absolute change of luma frames [T, 1, H, W] along this motion, where it is seen: the temporal error."""
        values = frames[:, 0].float().cpu().numpy()
        errors = [
            (np.abs(_along(there, flow) - here) * seen).sum() / max(seen.sum(), 1)
            for (here, there), flow, seen in zip(pairwise(values), self.flow, self.seen, strict=True)
        ]
        return float(np.mean(errors))


def _along(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Return a picture [H, W] or [H, W, C] sampled where the flow points."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.asarray(cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR))


@torch.no_grad()
def measure(output: Tensor, target: Tensor, perceptual: nn.Module | None = None) -> dict[str, float]:
    """Return all measures of a video against its original, both [T, 3, H, W] in [0, 1], T at least 2.

    psnr, ssim (luma), perc (needs `perceptual`, lower is better), each also over the odd frames alone, which time
    doubling made, as `..._mid`; sharp: gradient energy relative to the original's; temporal: error along the original's motion,
    in code values, lower is better; flicker: temporal error per gradient energy, relative to the original's own.
    """
    y, y0 = luma(output), luma(target)
    inner = slice(BORDER_PX, -BORDER_PX)
    by_frame = {"psnr": psnr(y[..., inner, inner], y0[..., inner, inner]), "ssim": ssim(y, y0)}
    if perceptual is not None:
        by_frame["perc"] = torch.cat([perceptual(a, b) for a, b in zip(output.split(1), target.split(1), strict=True)])
    values: dict[str, float] = {}
    for name, frames in by_frame.items():
        values[name] = float(frames.mean())
        values[f"{name}_mid"] = float(frames[1::2].mean())
    motion = Motion.of(y0)
    error, own = motion.error(y), motion.error(y0)
    energy, own_energy = gradient_energy(y), gradient_energy(y0)
    values["sharp"] = energy / own_energy
    values["temporal"] = 255 * error
    values["flicker"] = (error / max(energy, 1e-9)) / (own / own_energy)
    return values
