"""Memory over a long video: `python -m tests.benchmark.memory` upscales half an hour with the linear model and plots it.

The plot, `memory.png` beside this file, has resident memory over the output frames made. It must be flat: what a
window, the queues and the encoder need, whatever the length.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

SIZE = (64, 48)
RATE = 10
MINUTES = 30
PLOT = Path(__file__).with_name("memory.png")


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory at a moment."""

    seconds: float
    done: int
    """Output frames made."""
    num_bytes: int
    """Resident."""
    phase: str


def long_video(path: Path, seconds: int, rate: int = RATE, size: tuple[int, int] = SIZE) -> Path:
    """A noisy video with sound, written frame by frame."""
    noise = np.random.default_rng(0).integers(0, 255, (64, size[1], size[0], 3), np.uint8)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        sound = container.add_stream("aac", rate=48000, layout="mono")
        silence = np.zeros((1, 1024), np.float32)
        written = 0
        for k in range(seconds * rate):
            container.mux(video.encode(av.VideoFrame.from_ndarray(noise[k % 64], format="rgb24")))
            while written < (k + 1) * 48000 // rate:
                frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 48000, written
                container.mux(sound.encode(frame))
                written += 1024
        container.mux(video.encode())
        container.mux(sound.encode())
    return path


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except (OSError, IndexError):
        return 0


def measure(source: Path, target: Path, every_s: float = 0.25) -> list[Sample]:
    """Upscale a video in a process of its own, and look at its memory meanwhile. Raises RuntimeError if it fails."""
    command = [sys.executable, "-m", "stvsr_cli", "upscale", str(source), str(target), "--model", "linear", "--cuts",
               "ignore", "--preset", "ultrafast", "--threads", "2", "--progress", "json"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    latest, samples, begin = {"done": 0, "phase": "load"}, [], time.monotonic()

    def follow() -> None:
        for line in process.stderr or ():
            latest.update(json.loads(line))

    reader = threading.Thread(target=follow)
    reader.start()
    while process.poll() is None:
        num_bytes = resident_bytes(process.pid)
        if num_bytes:
            samples.append(Sample(time.monotonic() - begin, latest["done"], num_bytes, latest["phase"]))
        time.sleep(every_s)
    reader.join()
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}: {latest}")
    return samples


def growth(samples: list[Sample]) -> float:
    """The most memory in the last quarter of the frames, as a multiple of the most in the second quarter."""
    done = [sample.done for sample in samples if sample.phase == "upscale"]
    quarter = max(done) / 4
    peaks = [
        max(s.num_bytes for s in samples if s.phase == "upscale" and begin * quarter <= s.done <= (begin + 1) * quarter)
        for begin in (1, 3)
    ]
    return peaks[1] / peaks[0]


def plot(samples: list[Sample], path: Path) -> None:
    """Draw memory over output frames."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3), layout="constrained")
    axes.plot([s.seconds for s in samples], [s.num_bytes / 2**20 for s in samples], linewidth=1)
    axes.set(xlabel="seconds", ylabel="resident memory, MiB", ylim=(0, None))
    axes.set_title(
        f"{MINUTES} minutes of {SIZE[0]}x{SIZE[1]} at {RATE} fps, {samples[-1].done} output frames", fontsize=9
    )
    end = next((s.seconds for s in samples if s.phase == "finish"), None)
    if end is not None:
        axes.axvline(end, color="gray", linewidth=0.8, linestyle=":")
        axes.annotate("segments are joined", (end, 0), rotation=90, fontsize=7, ha="right", va="bottom")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main() -> int:
    """Measure and plot."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=int, default=MINUTES)
    parser.add_argument("--plot", type=Path, default=PLOT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stvsr-memory-") as folder:
        source = long_video(Path(folder) / "in.mp4", options.minutes * 60)
        samples = measure(source, Path(folder) / "out.mp4")
    plot(samples, options.plot)
    peak = max(sample.num_bytes for sample in samples) / 2**20
    sys.stdout.write(f"{samples[-1].done} frames in {samples[-1].seconds:.0f} s; most {peak:.0f} MiB; last quarter "
                     f"{growth(samples):.3f} times the second\n")  # fmt: skip
    return int(growth(samples) > 1.05)


if __name__ == "__main__":
    sys.exit(main())
