"""Memory is bounded by the window, never by the length. `pytest -m slow tests/test_memory.py --log-cli-level=info` shows
the numbers.
"""

import logging
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

SIZE = (64, 36)
RATE = 25


def long_video(path: Path, seconds: int) -> Path:
    """A noisy video with sound, written frame by frame."""
    noise = np.random.default_rng(0).integers(0, 255, (64, SIZE[1], SIZE[0], 3), np.uint8)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        sound = container.add_stream("aac", rate=48000, layout="mono")
        silence = np.zeros((1, 1024), np.float32)
        written = 0
        for k in range(seconds * RATE):
            container.mux(video.encode(av.VideoFrame.from_ndarray(noise[k % 64], format="rgb24")))
            while written < (k + 1) * 48000 // RATE:
                frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 48000, written
                container.mux(sound.encode(frame))
                written += 1024
        container.mux(video.encode())
        container.mux(sound.encode())
    return path


def peak_rss(source: Path, target: Path) -> int:
    """Peak resident bytes of a process that upscales a video with the linear model."""
    command = [sys.executable, "-m", "stvsr_cli", "upscale", str(source), str(target), "--model", "linear",
               "--cuts", "ignore", "--preset", "ultrafast", "-q", "--threads", "2"]  # fmt: skip
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


@pytest.mark.slow
def test_ten_minutes_take_no_more_memory_than_one(tmp_path: Path) -> None:
    peaks = {s: peak_rss(long_video(tmp_path / f"{s}.mp4", s), tmp_path / f"{s}_out.mp4") for s in (60, 600)}
    logging.getLogger(__name__).info("%s", {s: f"{peak / 2**20:.0f} MiB" for s, peak in peaks.items()})
    assert peaks[600] <= 1.05 * peaks[60], peaks
