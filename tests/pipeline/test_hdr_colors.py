"""High dynamic range through the whole pipeline: a ramp is not clipped, a colour chart keeps its hues."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from stvsr_cli.job.job import Job
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.pipeline.upscale import upscale
from tests.zoo import ffmpeg, made

WIDTH, HEIGHT, PATCH = 128, 96, 16
TRANSFERS = {"HDR10": "smpte2084", "HLG": "arib-std-b67"}
KR, KB = 0.2627, 0.0593
TAGS = "setparams=range=tv:color_primaries=bt2020:colorspace=bt2020nc"


def codes(rgb: np.ndarray) -> np.ndarray:
    """Ten-bit limited-range YCbCr of BT.2020 (BT.2100, table 9). rgb: [..., 3] in [0, 1]."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    y = KR * red + (1 - KR - KB) * green + KB * blue
    cb, cr = (blue - y) / (2 * (1 - KB)), (red - y) / (2 * (1 - KR))
    return np.rint(np.stack([876 * y + 64, 896 * cb + 512, 896 * cr + 512])).astype("<u2")  # fmt: skip


def chart() -> np.ndarray:
    """Six rows of eight patches: primaries, skin, dark and bright ones. Returns [H, W, 3] in [0, 1]."""
    rng = np.random.default_rng(5)
    known = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1), (0, 0, 0), (1, 1, 1)]
    colours = np.concatenate([np.array(known, float), rng.random((40, 3))]).reshape(6, 8, 3)
    return colours.repeat(PATCH, 0).repeat(PATCH, 1)


def ramp() -> np.ndarray:
    """Black to white in every tenth of code, across. Returns [H, W, 3] in [0, 1]."""
    return np.broadcast_to(np.linspace(0, 1, WIDTH)[None, :, None], (HEIGHT, WIDTH, 3)).copy()


def through(folder: Path, picture: np.ndarray, transfer: str) -> tuple[np.ndarray, np.ndarray]:
    """Code values [3, H, W] and [3, 2H, 2W] of a still picture before and after upscaling by two, in 4:4:4."""
    planes = codes(picture)
    (folder / "in.raw").write_bytes(planes.tobytes() * 3)
    raw = ("-f", "rawvideo", "-pix_fmt", "yuv444p10le", "-s", f"{WIDTH}x{HEIGHT}", "-r", 25, "-i", folder / "in.raw")
    path = made(folder / "in.mkv", *raw, "-vf", f"{TAGS}:color_trc={transfer}", "-c:v", "ffv1")
    job = Job(input=path, output=folder / "out.mkv", model="linear", scale=Fraction(2), resume="never",
              encoder=EncoderConfig(codec="ffv1", pix_fmt="yuv444p10le"))  # fmt: skip
    upscale(job)
    assert f"bt2020nc/bt2020/{transfer}" in ffmpeg("-i", folder / "out.mkv")
    ffmpeg("-i", folder / "out.mkv", "-frames:v", 1, "-f", "rawvideo", folder / "out.raw")
    output = np.frombuffer((folder / "out.raw").read_bytes(), "<u2").reshape(3, 2 * HEIGHT, 2 * WIDTH)
    return planes.astype(int), output.astype(int)


@pytest.mark.parametrize("kind", TRANSFERS)
def test_a_chart_keeps_its_colours(tmp_path: Path, kind: str) -> None:
    before, after = through(tmp_path, chart(), TRANSFERS[kind])
    middles = before[:, PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]
    found = after[:, PATCH :: 2 * PATCH, PATCH :: 2 * PATCH]
    assert found.shape == middles.shape == (3, 6, 8)
    assert int(np.abs(found - middles).max()) <= 1


@pytest.mark.parametrize("kind", TRANSFERS)
def test_a_ramp_is_not_clipped(tmp_path: Path, kind: str) -> None:
    before, after = through(tmp_path, ramp(), TRANSFERS[kind])
    row = after[0, HEIGHT]
    assert (row.min(), row.max()) == (before[0].min(), before[0].max()) == (64, 940)
    assert bool((np.diff(row) >= 0).all())
    assert len(np.unique(row)) > 200  # finer steps than eight bits could show
    assert int(np.abs(after[1:] - 512).max()) <= 1  # gray stays gray
