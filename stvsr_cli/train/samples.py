"""Training batches: the batch of a step is a function of the seed and the step alone, so that a run resumes exactly."""

import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stvsr_cli.errors import UsageError
from stvsr_cli.train.clips import FLOW_STEP, PHOTO_FRAMES, SCALE, Clip, open_clip, save_array
from stvsr_cli.train.config import StageConfig
from stvsr_cli.train.degrade import apply, draw


@dataclass(frozen=True, slots=True)
class Pace:
    """How keyframes and targets are taken from a clip."""

    stride: int
    """Frames of the clip from one keyframe to the next."""
    fps_factor: int
    """Targets per keyframe interval."""
    keyframes: int
    """Keyframes per sample."""


@dataclass(frozen=True, slots=True)
class Batch:
    low: Tensor
    """[B, K, 3, h, w] float32 in [0, 1]: degraded keyframes."""
    high: Tensor
    """[B, (K-1)F + 1, 3, scale * h, scale * w] float32 in [0, 1]."""
    flow: Tensor
    """[B, K-1, 2, 2, h, w] float32: flow x, y in low pixels forward and backward; empty where there is none."""
    fps_factor: int
    whole: Tensor | None = None
    """[B, K, 3, p, p] float32 in [0, 1]: the whole degraded keyframes that the crop is from, reduced; None: not asked."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        whole = None if self.whole is None else self.whole.to(device)
        return Batch(self.low.to(device), self.high.to(device), self.flow.to(device), self.fps_factor, whole)


Sample = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Low frames, high frames, flow and reduced whole frames of one sample, channels first."""


BATCHES_AHEAD = 4


class StepDataset(Dataset[Batch]):
    """Batches by step."""

    def __init__(self, clips: list[Path], cache: Path, config: StageConfig) -> None:
        self.clips, self.cache, self.config = clips, cache / "low", config
        self.photos = [p for p in clips if np.load(p, mmap_mode="r").shape[0] <= PHOTO_FRAMES]
        self.videos = [p for p in clips if p not in set(self.photos)]
        self.cache.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.config.data.seed, step))
        pace = self._pace(rng)
        samples = [self._sample(step, pace, rng) for _ in range(self.config.batch)]
        low, high, flow, whole = (np.stack(part) for part in zip(*samples, strict=True))
        seen = _unit(whole) if self.config.whole_px else None
        return Batch(_unit(low), _unit(high), torch.from_numpy(flow).float(), pace.fps_factor, seen)

    def _pace(self, rng: np.random.Generator) -> Pace:
        keyframes, kind = self.config.keyframes, rng.random()
        if kind < 0.76 or self.config.stage == "flow":
            return Pace(2, 2, keyframes)
        return Pace(4, 2, keyframes) if kind < 0.88 else Pace(4, 4, max(keyframes - 1, 2))

    def _sample(self, step: int, pace: Pace, rng: np.random.Generator) -> Sample:
        group = (
            self.photos
            if (rng.random() < self.config.data.photo_share and self.photos) or not self.videos
            else self.videos
        )
        clip = open_clip(group[int(rng.integers(len(group)))])
        offset = zlib.crc32(clip.name.encode()) % self.config.data.reuse_steps
        phase, low = self._low(clip, pace.stride, (step + offset) // self.config.data.reuse_steps)
        first = int(rng.integers(len(low) - pace.keyframes + 1))
        side = self.config.crop_px // SCALE
        y, x = self._place(low[first], side, rng)
        start = phase + first * pace.stride
        times = slice(start, start + (pace.keyframes - 1) * pace.stride + 1, pace.stride // pace.fps_factor)
        high = clip.frames[times, y * SCALE : (y + side) * SCALE, x * SCALE : (x + side) * SCALE]
        keys = low[first : first + pace.keyframes, y : y + side, x : x + side]
        if pace.stride == FLOW_STEP:
            flow = clip.flows[
                start : start + (pace.keyframes - 1) * pace.stride : pace.stride, :, y : y + side, x : x + side
            ]
        else:
            flow = np.zeros((0, 2, side, side, 2), np.float16)
        whole = reduced(low[first : first + pace.keyframes], self.config.whole_px)
        return self._augment(keys, high, flow, whole, rng)

    def _low(self, clip: Clip, stride: int, variant: int) -> tuple[int, np.ndarray]:
        """The degraded keyframes of a clip: (first frame taken, [K, h, w, 3] uint8)."""
        needed = (self.config.keyframes - 1) * stride + 1
        if len(clip.frames) < needed:
            raise UsageError(
                f"keyframes={self.config.keyframes} needs clips of {needed} frames; {clip.name} has {len(clip.frames)}.",
                hint=f"Lower keyframes, or leave its source out (photos give {PHOTO_FRAMES} frames).",
            )
        rng = np.random.default_rng((self.config.data.seed, zlib.crc32(clip.name.encode()), stride, variant))
        phase = int(rng.integers(min(stride, len(clip.frames) - needed + 1)))
        stem = f"{clip.name}-{self.config.data.seed}-{self.config.keyframes}-{stride}"
        path = self.cache / f"{stem}-{variant}.npy"
        if not path.exists():
            low = apply(clip.frames[phase::stride], draw(rng), SCALE, rng)
            save_array(path, low)
            path.with_name(f"{stem}-{variant - 2}.npy").unlink(missing_ok=True)
        return phase, np.load(path, mmap_mode="r")

    @staticmethod
    def _place(frame: np.ndarray, side: int, rng: np.random.Generator) -> tuple[int, int]:
        """Draw two places and take the one with more in it."""
        places = [
            (int(rng.integers(frame.shape[0] - side + 1)), int(rng.integers(frame.shape[1] - side + 1)))
            for _ in range(2)
        ]
        return max(places, key=lambda p: float(frame[p[0] : p[0] + side, p[1] : p[1] + side].std()))

    @staticmethod
    def _augment(
        low: np.ndarray, high: np.ndarray, flow: np.ndarray, whole: np.ndarray, rng: np.random.Generator
    ) -> Sample:
        """Mirror, transpose and reverse in time at random. Returns channels-first arrays."""
        flow = flow.astype(np.float32)
        if rng.random() < 0.5:
            low, high, flow = low[:, :, ::-1], high[:, :, ::-1], flow[:, :, :, ::-1] * (-1, 1)
            whole = whole[:, :, ::-1]
        if rng.random() < 0.5:
            low, high = low.transpose(0, 2, 1, 3), high.transpose(0, 2, 1, 3)
            flow = flow.transpose(0, 1, 3, 2, 4)[..., ::-1]
            whole = whole.transpose(0, 2, 1, 3)
        if rng.random() < 0.5:
            low, high, flow, whole = low[::-1], high[::-1], flow[::-1, ::-1], whole[::-1]
        return (
            np.ascontiguousarray(low.transpose(0, 3, 1, 2)),
            np.ascontiguousarray(high.transpose(0, 3, 1, 2)),
            np.ascontiguousarray(flow.transpose(0, 1, 4, 2, 3), dtype=np.float32),
            np.ascontiguousarray(whole.transpose(0, 3, 1, 2)),
        )


def reduced(frames: np.ndarray, side_px: int) -> np.ndarray:
    """Return frames [K, h, w, 3] as squares [K, side, side, 3], whatever their shape; none of them for a side of 0."""
    if not side_px:
        return frames[:0, :1, :1]
    size = (side_px, side_px)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def _unit(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames).float() / 255


def batches(dataset: StepDataset, start: int) -> Iterator[Batch]:
    """Yield the batches from step `start` on, made ahead by threads.

    Threads, not processes: decoding, OpenCV and NumPy let go of the interpreter, and a forked process would inherit
    OpenCV's thread pool without its threads.
    """
    with ThreadPoolExecutor(dataset.config.workers) as pool:
        waiting: deque[Future[Batch]] = deque()
        following = iter(range(start, len(dataset)))
        try:
            for step in following:
                waiting.append(pool.submit(dataset.__getitem__, step))
                if len(waiting) > dataset.config.workers + BATCHES_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
