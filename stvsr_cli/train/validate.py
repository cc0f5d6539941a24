"""Validation on clips never trained on, over two fixed degradations."""

import logging
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli.errors import InputError
from stvsr_cli.models.compact.network import CompactNetwork
from stvsr_cli.quality.measures import measure
from stvsr_cli.train.clips import SCALE, VIDEO_SUFFIXES
from stvsr_cli.train.degrade import Degradation, apply
from stvsr_cli.train.losses import Perceptual

logger = logging.getLogger(__name__)

NUM_KEYFRAMES = 5
TRACKS = ("clean", "real")
PICTURE_PX, NUM_PICTURES = 256, 4
"""Side of the pictures of a frame, and clips of which there are some."""


def track(name: str) -> Degradation:
    """Return the fixed degradation of a track: `clean` is a light reduction, `real` what a web clip looks like."""
    kernel = cv2.getGaussianKernel(13, 1.6)
    real = name == "real"
    return Degradation(
        blur=kernel @ kernel.T if real else None,
        reduction=cv2.INTER_AREA,
        noise=4.0 if real else 0.0,
        shot_noise=0.0,
        noise_correlation=0.0,
        jpeg=None,
        codecs=(("libx264", 30 if real else 12),),
    )


class Validation:
    """Validation clips, degraded once and kept."""

    def __init__(self, folder: Path, multiple_px: int, perceptual: Perceptual | None) -> None:
        self.perceptual = perceptual
        self.samples: list[tuple[str, str, Tensor, Tensor]] = []
        for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES):
            clip = read_clip(path, SCALE * multiple_px)
            if clip is None:
                logger.warning("%s is too small or too short for validation; left out", path)
                continue
            for name in TRACKS:
                low = apply(clip[::2], track(name), SCALE, np.random.default_rng(7))
                self.samples.append((path.stem, name, to_tensor(low), to_tensor(clip)))
        if not self.samples:
            raise InputError(f"no clip for validation in {folder}.", hint='Put some there, or set validation to "".')

    @torch.no_grad()
    def run(
        self, network: CompactNetwork, device: torch.device, dtype: torch.dtype, pictures: Path
    ) -> dict[str, float]:
        """Return the mean of each measure of `quality.measures` by track, and write a picture of a middle frame of some clips."""
        sums: dict[str, list[float]] = {}
        rows: list[np.ndarray] = []
        side = min(PICTURE_PX, *(length for *_, high in self.samples for length in high.shape[-2:]))
        for _, name, low, high in self.samples:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                output, _ = network(low[None].to(device), 2)
            output = output[0].float().clamp(0, 1)
            for measured, value in measure(output, high.to(device), self.perceptual).items():
                sums.setdefault(f"{name}_{measured}", []).append(value)
            if name == TRACKS[-1] and len(rows) < NUM_PICTURES:
                rows.append(_row(low, output.cpu(), high, side))
        cv2.imwrite(str(pictures), np.concatenate(rows)[..., ::-1])
        return {name: float(np.mean(values)) for name, values in sums.items()}


def to_tensor(frames: np.ndarray) -> Tensor:
    """Return frames [T, H, W, 3] uint8 as [T, 3, H, W] float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float() / 255


def read_clip(path: Path, unit_px: int) -> np.ndarray | None:
    """Return the first frames of a clip, [T, H, W, 3] uint8, T odd, sides multiples of `unit_px`; None if there are none."""
    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == 2 * NUM_KEYFRAMES - 1:
                break
    count = len(frames) - (len(frames) + 1) % 2
    height, width = (side // unit_px * unit_px for side in frames[0].shape[:2]) if frames else (0, 0)
    if count < 3 or not height or not width:
        return None
    return np.stack(frames[:count])[:, :height, :width]


def _row(low: Tensor, output: Tensor, high: Tensor, side: int) -> np.ndarray:
    """Input, output and target of an intermediate frame, side by side, [side, 3 * side, 3] uint8."""
    middle = len(high) // 2 | 1
    small = functional.interpolate(low[middle // 2 : middle // 2 + 1], scale_factor=SCALE, mode="bicubic")[0]
    crops = []
    for x in (small, output[middle], high[middle]):
        y0, x0 = (x.shape[1] - side) // 2, (x.shape[2] - side) // 2
        crops.append((x[:, y0 : y0 + side, x0 : x0 + side].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
    return np.concatenate(crops, 1)
