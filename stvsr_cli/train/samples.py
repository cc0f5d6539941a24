"""Training batches: the batch of a step is a function of the seed and the step alone, so that a run resumes exactly."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stvsr_cli.errors import UsageError
from stvsr_cli.train.ahead import made_ahead
from stvsr_cli.train.clips import FLOW_STEP, PHOTO_FRAMES, SCALE, Clip, open_clip, save_array
from stvsr_cli.train.config import StageConfig
from stvsr_cli.train.degrade import Degradation, apply, darkened, draw_within, strengths


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
class MotionLesson:
    """What a teacher of motion makes in the middle between keyframes."""

    frames: Tensor
    """[B, K-1, 3, h, w]."""
    flow: Tensor
    """[B, K-1, 4, h/2, w/2] in those positions: x, y to the keyframe before, x, y to the one after."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures are uint8 as they are made, and float32 in [0, 1] once they are on a device (`to`)."""

    low: Tensor
    """[B, K, 3, h, w]: degraded keyframes."""
    high: Tensor
    """[B, (K-1)F + 1, 3, scale * h, scale * w]."""
    flow: Tensor
    """[B, K-1, 2, 2, h, w] float32: flow x, y in low pixels forward and backward; empty where there is none."""
    fps_factor: int
    whole: Tensor | None = None
    """[B, K, 3, p, p]: the whole degraded keyframes that the crop is from, reduced; None: not asked."""
    taught: Tensor | None = None
    """[B', 3, scale * h, scale * w]: what a teacher would make of a keyframe of the first samples; None: it has seen none."""
    taught_keyframe: int = 0
    """Which keyframe that is."""
    moved: MotionLesson | None = None
    """What a teacher of motion makes of the keyframes before degradation; None: it has seen none."""
    strengths: Tensor | None = None
    """[B, 3] float32 in [0, 1]: how strongly each sample was degraded, see `degrade.strengths`; None: it is not known."""

    @property
    def taught_frame(self) -> int:
        """Which of the full-size frames the teacher's is."""
        return self.fps_factor * self.taught_keyframe

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device, its pictures as float32 in [0, 1]."""
        low, high, whole, taught = (
            None if x is None else _unit(x.to(device, non_blocking=True))
            for x in (self.low, self.high, self.whole, self.taught)
        )
        assert low is not None and high is not None
        known = None if self.strengths is None else self.strengths.to(device)
        flow = self.flow.to(device)
        return replace(self, low=low, high=high, flow=flow, whole=whole, taught=taught, strengths=known)

    def pin_memory(self) -> "Batch":
        """Return the batch in memory from which a card copies while other work goes on."""
        low, high, flow = (x.pin_memory() for x in (self.low, self.high, self.flow))
        whole, taught = (None if x is None else x.pin_memory() for x in (self.whole, self.taught))
        return replace(self, low=low, high=high, flow=flow, whole=whole, taught=taught)


Sample = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Low frames, high frames, flow and reduced whole frames of one sample, channels first, and how it was degraded, [3]."""


BATCHES_AHEAD = 4
DARK = (0.08, 0.4)
"""Brightness of what is made dark, of its own."""
LESSONS = "lessons"
"""Folder in the cache of samples that a teacher has seen."""


def lesson_path(cache: Path, number: int) -> Path:
    """Where a lesson lies."""
    return cache / LESSONS / f"{number:06d}.npz"


class StepDataset(Dataset[Batch]):
    """Batches by step."""

    def __init__(self, clips: list[Path], cache: Path, config: StageConfig) -> None:
        self.clips, self.cache, self.config = clips, cache / "low", config
        self.photos = [p for p in clips if np.load(p, mmap_mode="r").shape[0] <= PHOTO_FRAMES]
        self.videos = [p for p in clips if p not in set(self.photos)]
        self.cache.mkdir(parents=True, exist_ok=True)
        self.lessons = []
        if config.data.lesson_share:
            self.lessons = sorted(path for path in (cache / LESSONS).glob("*.npz") if path.stat().st_size)
            if not self.lessons:
                raise UsageError(f"no lessons in {cache / LESSONS}.", hint="Make them with --lessons.")

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.config.data.seed, step))
        if rng.random() < self.config.data.lesson_share:
            return self._lessons(rng)
        pace = self._pace(rng)
        samples = [self._sample(step, pace, rng) for _ in range(self.config.batch)]
        low, high, flow, whole, known = (np.stack(part) for part in zip(*samples, strict=True))
        seen = torch.from_numpy(whole) if self.config.whole_px else None
        flows = torch.from_numpy(flow).float()
        pictures = torch.from_numpy(low), torch.from_numpy(high)
        return Batch(*pictures, flows, pace.fps_factor, seen, strengths=torch.from_numpy(known))

    def _lessons(self, rng: np.random.Generator) -> Batch:
        """A batch of lessons, cropped, mirrored and transposed at random."""
        chosen: list[dict[str, np.ndarray]] = []
        for _ in range(self.config.batch):
            with np.load(self.lessons[int(rng.integers(len(self.lessons)))]) as stored:
                sample = dict(stored)
            side = self.config.crop_px // SCALE
            y, x = (int(rng.integers(size - side + 1)) for size in sample["low"].shape[1:3])
            for name, unit in (("low", 1), ("high", SCALE), ("taught", SCALE)):
                rows, columns = (slice(unit * start, unit * (start + side)) for start in (y, x))
                sample[name] = sample[name][..., rows, columns, :]
            mirrored, transposed = rng.random(2) < 0.5
            for name, frames in sample.items():
                turned = frames[..., ::-1, :] if mirrored else frames
                turned = turned.swapaxes(-3, -2) if transposed else turned
                sample[name] = np.ascontiguousarray(np.moveaxis(turned, -1, -3))
            chosen.append(sample)
        names = ("low", "high", "whole", "taught")
        low, high, whole, taught = (torch.from_numpy(np.stack([s[k] for s in chosen])) for k in names)
        seen = whole if self.config.whole_px else None
        none = torch.zeros(len(low), 0, 2, 2, *low.shape[-2:])
        return Batch(low, high, none, 2, seen, taught, low.shape[1] // 2)

    def lesson_sample(self, number: int) -> dict[str, np.ndarray]:
        """Low frames, high frames and reduced whole frames of a lesson yet to be taught, [., ., ., 3] uint8."""
        rng = np.random.default_rng((self.config.data.seed, number, 1))
        low, high, _, whole, _ = self._sample(number, Pace(2, 2, self.config.keyframes), rng)
        return {k: np.moveaxis(frames, 1, -1) for k, frames in (("low", low), ("high", high), ("whole", whole))}

    def _pace(self, rng: np.random.Generator) -> Pace:
        keyframes, kind = self.config.keyframes, rng.random()
        if kind < 0.76 or self.config.stage in ("flow", "motion"):
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
        phase, low, degradation, brightness = self._low(
            clip, pace.stride, (step + offset) // self.config.data.reuse_steps
        )
        first = int(rng.integers(len(low) - pace.keyframes + 1))
        side = self.config.crop_px // SCALE
        if min(low.shape[1:3]) < side:
            raise UsageError(
                f"crop_px={self.config.crop_px} is larger than {clip.name}, {clip.frames.shape[2]}x{clip.frames.shape[1]}.",
                hint="Lower crop_px.",
            )
        y, x = self._place(low[first], side, rng)
        start = phase + first * pace.stride
        times = slice(start, start + (pace.keyframes - 1) * pace.stride + 1, pace.stride // pace.fps_factor)
        high = clip.frames[times, y * SCALE : (y + side) * SCALE, x * SCALE : (x + side) * SCALE]
        high = darkened(high, brightness)
        keys = low[first : first + pace.keyframes, y : y + side, x : x + side]
        if pace.stride == FLOW_STEP and self.config.looks_at_flow:
            flow = clip.flows()[
                start : start + (pace.keyframes - 1) * pace.stride : pace.stride, :, y : y + side, x : x + side
            ]
        else:
            flow = np.zeros((0, 2, side, side, 2), np.float16)
        whole = reduced(low[first : first + pace.keyframes], self.config.whole_px)
        return *self._augment(keys, high, flow, whole, rng), strengths(degradation)

    def _low(self, clip: Clip, stride: int, variant: int) -> tuple[int, np.ndarray, Degradation, float]:
        """The degraded keyframes of a clip: first frame taken, [K, h, w, 3] uint8, how they were degraded, how dark they were made."""
        needed = (self.config.keyframes - 1) * stride + 1
        if len(clip.frames) < needed:
            raise UsageError(
                f"keyframes={self.config.keyframes} needs clips of {needed} frames; {clip.name} has {len(clip.frames)}.",
                hint=f"Lower keyframes, or leave its source out (photos give {PHOTO_FRAMES} frames).",
            )
        rng = np.random.default_rng((self.config.data.seed, zlib.crc32(clip.name.encode()), stride, variant))
        phase = int(rng.integers(min(stride, len(clip.frames) - needed + 1)))
        data = self.config.data
        degradation = draw_within(rng, data.least_strength, data.most_strength)
        brightness = float(rng.uniform(*DARK)) if data.dark_share and rng.random() < data.dark_share else 1.0
        drawn = f"{data.least_strength:g}_{data.most_strength:g}_{data.dark_share:g}"
        stem = f"{clip.name}-{data.seed}-{drawn}-{self.config.keyframes}-{stride}"
        path = self.cache / f"{stem}-{variant}.npy"
        if not path.exists():
            low = apply(darkened(clip.frames[phase::stride], brightness), degradation, SCALE, rng)
            save_array(path, low)
            path.with_name(f"{stem}-{variant - 2}.npy").unlink(missing_ok=True)
        return phase, np.load(path, mmap_mode="r"), degradation, brightness

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
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
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


def _unit(pictures: Tensor) -> Tensor:
    return pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures


def batches(dataset: StepDataset, start: int, device: torch.device) -> Iterator[Batch]:
    """Yield the batches from step `start` on, made ahead: by processes for a card, whose own thread must not wait for them."""
    if device.type == "cuda":
        yield from DataLoader(
            dataset, batch_size=None, sampler=range(start, len(dataset)), num_workers=dataset.config.workers,
            multiprocessing_context="spawn", prefetch_factor=2, pin_memory=True,
        )  # fmt: skip
    else:  # by threads, for a CPU has better things to do than to hand over data
        steps = range(start, len(dataset))
        yield from made_ahead(dataset.__getitem__, steps, dataset.config.workers, BATCHES_AHEAD)
