"""Lessons: training samples whose middle keyframe a teacher has seen, made once and kept on disk."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stvsr_cli.errors import UsageError
from stvsr_cli.train.clips import build_cache
from stvsr_cli.train.config import read_config
from stvsr_cli.train.samples import LESSONS, StepDataset, lesson_path
from stvsr_cli.train.teacher import lesson, load_teacher

logger = logging.getLogger(__name__)

LESSON_PX = 192
"""Side of a lesson's full-size crop; training takes a part of it, so that the teacher has seen what lies around."""
REPORT_EVERY = 50


def make_lessons(
    config_path: Path,
    count: int,
    *,
    data: Path,
    cache: Path,
    device: torch.device,
    report: Callable[[str], None] = logger.info,
) -> None:
    """Make the first `count` lessons of a stage that are not there yet, in the cache; several processes can share the work.

    Raises UsageError if the configuration names no teacher, ModelError if its weights do not fit.
    """
    config = read_config(config_path)
    if not config.data.teacher:
        raise UsageError("the configuration names no teacher.", hint="Set teacher under [data].")
    teacher = load_teacher(data / config.data.teacher).to(device)
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    clips = build_cache([data / source for source in config.data.sources], cache, workers=config.workers)
    plain = replace(config, crop_px=LESSON_PX, batch=1, steps=count, data=replace(config.data, lesson_share=0.0))
    dataset = StepDataset(clips, cache, plain)
    (cache / LESSONS).mkdir(exist_ok=True)
    for number in range(count):
        path = lesson_path(cache, number)
        if path.exists():
            continue
        path.touch()  # taken
        sample = dataset.lesson_sample(number)
        middle = sample["low"].shape[0] // 2
        with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            made = teacher(_unit(sample["low"][middle]).to(device)).float()
        truth = _unit(sample["high"][sample["high"].shape[0] // 2]).to(device)
        taught = (255 * lesson(made, truth)[0]).round().byte().permute(1, 2, 0).cpu().numpy()
        part = path.with_suffix(".part")
        with part.open("wb") as out:
            np.savez(out, taught=taught, low=sample["low"], high=sample["high"], whole=sample["whole"])
        part.replace(path)
        if (number + 1) % REPORT_EVERY == 0:
            report(f"lesson {number + 1}/{count}")


def _unit(frame: np.ndarray) -> torch.Tensor:
    """A frame [H, W, 3] uint8 as [1, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))[None].float() / 255
