"""Runs without files: pictures from a list, through a model, into a list."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from stvsr_cli import Job
from stvsr_cli.engine.local import Run
from stvsr_cli.job.report import Loaded
from stvsr_cli.media.read.decode import Frame, Picture
from stvsr_cli.media.read.probe import ColorTags, probe
from stvsr_cli.models import linear
from stvsr_cli.pipeline.loading import plan_on
from tests.clips import BUNNY

CPU = torch.device("cpu")
COLOR = ColorTags(matrix=1, range=1)


def pictures(count, height, width, seed=0):
    """Noise that changes slowly, with a cut at no frame."""
    rng = np.random.default_rng(seed)
    base, change = (rng.integers(16, 200, (height, width)) for _ in range(2))
    chroma = (-(-height // 2), -(-width // 2))
    for k in range(count):
        luma = (base + change * k // 400).clip(16, 235).astype(np.uint8)
        yield Picture((luma, np.full(chroma, 100 + k % 20, np.uint8), np.full(chroma, 140, np.uint8)), "yuv420p", COLOR)


def frames(count, height=32, width=48, cuts=()):
    """Frames at even times. cuts: those at which the picture becomes another."""
    for k, picture in enumerate(pictures(count, height, width)):
        if sum(k >= cut for cut in cuts) % 2:
            picture = Picture((np.rot90(picture.planes[0], 2).copy() // 2 + 16, *picture.planes[1:]), "yuv420p", COLOR)
        yield Frame(k, k, 1, picture)


def run_of(source, *, model=None, height=32, width=48, device=CPU, dtype=torch.float32, **changes):
    """A run of frames from anywhere."""
    info = replace(probe(BUNNY), width=width, height=height, pixel_format="yuv420p", bit_depth=8, num_frames=None,
                   color=COLOR, time_base=Fraction(1, 25), average_rate=Fraction(25), rotation=0)  # fmt: skip
    job = Job(**{"input": BUNNY, "output": Path("none.mkv"), "model": "linear", "cuts": "ignore"} | changes)
    loaded = Loaded(model or linear.load(device), device, dtype, 0.0)
    return Run(plan_on(job, info, loaded), loaded, source)


def made_by(run):
    """The pictures and the slots of a run."""
    made = []
    run.into(lambda picture, slot, shot: made.append((picture, slot, shot)))
    return made
