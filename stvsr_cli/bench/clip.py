"""A clip to measure with: a noise that drifts, encoded as films are, so that decoding costs what it costs."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from stvsr_cli.media.read.decode import Picture
from stvsr_cli.media.read.probe import ColorTags, VideoInfo, probe
from stvsr_cli.media.write.mux import OutputFile, OutputSpec
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.media.y4m import Y4mFile

RATE = Fraction(25)
DRIFT_PX = 3
"""Pixels by which the picture moves from frame to frame."""


def make_clip(path: Path, width: int, height: int, num_frames: int) -> VideoInfo:
    """Write a clip of H.264 at 25 frames a second and probe it. Raises OutputError."""
    color = ColorTags(matrix=1, range=1)
    info = VideoInfo(
        path=path, container="matroska", stream_index=0, width=width, height=height, sample_aspect_ratio=Fraction(1),
        rotation=0, time_base=1 / RATE, average_rate=RATE, start_pts=0, duration=None, num_frames=num_frames,
        pixel_format="yuv420p", bit_depth=8, color=color, interlaced=False, codec="h264", streams=(), num_chapters=0,
        origin=Fraction(0),
    )  # fmt: skip
    spec = OutputSpec(width=width, height=height, pix_fmt="yuv420p", time_base=1 / RATE, rate=RATE, color=color)
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (height // 16 + 2, width // 16 + 2), np.uint8)
    luma = np.kron(coarse, np.ones((16, 16), np.uint8))[:height, :width] + rng.integers(
        0, 16, (height, width), np.uint8
    )
    chroma = (-(-height // 2), -(-width // 2))
    sides = (np.full(chroma, 110, np.uint8), np.full(chroma, 140, np.uint8))
    still = path.with_suffix(".y4m")
    with Y4mFile(
        still, info, spec, overwrite=False
    ) as out:  # a source, which the clip's own companions are looked for in
        out.write(Picture((luma, *sides), "yuv420p", color), 0, 1)
    with OutputFile(path, probe(still), spec, EncoderConfig(codec="libx264", preset="veryfast")) as file:
        for k in range(num_frames):
            moved = np.ascontiguousarray(np.roll(luma, k * DRIFT_PX, axis=1))
            file.write(Picture((moved, *sides), "yuv420p", color), k, 1)
    return probe(path)
