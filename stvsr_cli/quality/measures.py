"""What a restored video is worth against its original: measures on frames, [T, 3, H, W] in [0, 1]."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.quality.motion import Motion
from stvsr_cli.quality.weave import Weave

BORDER_PX = 8
"""Rim that psnr leaves out: methods differ there by how they pad."""
WINDOW_PX, WINDOW_SIGMA = 11, 1.5
"""Gaussian window of ssim."""
STABLE_MEAN, STABLE_VARIANCE = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""Constants of ssim for code values up to 255."""

LUMA_BLACK, LUMA_RANGE = 16 / 255, 219 / 255
"""Luma of black, and how much more white has (BT.601)."""


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB per frame; a, b: [N, 1 or 3, H, W] in [0, 1]. Returns [N]."""
    return -10 * torch.log10((a - b).square().mean((1, 2, 3)).clamp_min(1e-10))


def luma(rgb: Tensor) -> Tensor:
    """BT.601 luma in [16/255, 235/255]; rgb: [N, 3, H, W] in [0, 1]. Returns [N, 1, H, W]."""
    weights = rgb.new_tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1) / 255
    return (rgb * weights).sum(1, keepdim=True) + LUMA_BLACK


def chroma(rgb: Tensor) -> Tensor:
    """BT.601 Cb and Cr in [-112/255, 112/255], around 0; rgb: [..., 3, H, W] in [0, 1]. Returns [..., 2, H, W]."""
    weights = rgb.new_tensor([[-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]).view(2, 3, 1, 1) / 255
    return (rgb.unsqueeze(-4) * weights).sum(-3)  # a product of matrices would be half precision under autocast


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity per frame (Wang et al., 2004); a, b: luma [N, 1, H, W] in [0, 1]. Returns [N]."""
    place = torch.arange(WINDOW_PX, dtype=torch.float64, device=a.device) - WINDOW_PX // 2
    row = torch.exp(-place.square() / (2 * WINDOW_SIGMA**2))
    row = row / row.sum()

    def average(x: Tensor) -> Tensor:
        return functional.conv2d(functional.conv2d(x, row.view(1, 1, 1, -1)), row.view(1, 1, -1, 1))

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


@torch.no_grad()
def measure(output: Tensor, target: Tensor, perceptual: nn.Module | None = None) -> dict[str, float]:
    """Return all measures of a video against its original, both [T, 3, H, W] in [0, 1], T at least 2.

    psnr, ssim (luma), perc (needs `perceptual`, lower is better), each also over the odd frames alone, which time
    doubling made, as `..._mid`; sharp: gradient energy relative to the original's; temporal: error along the original's motion,
    in code values, lower is better; flicker: temporal error per gradient energy, relative to the original's own; weave: see
    `quality.weave`, lower is better (frames of 64 pixels at least).
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
    weave = Weave()
    for frame in y[:, 0]:
        weave.add(frame)
    if weave.value is not None:
        values["weave"] = weave.value
    return values
