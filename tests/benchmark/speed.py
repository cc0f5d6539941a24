"""A whole command against Real-ESRGAN animevideov3 with motion interpolation, timed in one run on the CPU.

    python -m tests.benchmark.speed --data tests/bunny.mp4

The clip is reduced to 480x270 and repeated to and fro until it is 10 s long.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from tests.benchmark.peers import enlarge, interpolate, read, write


def lengthened(frames, count):
    """Frames played to and fro until there are `count`."""
    cycle = np.concatenate([frames, frames[-2:0:-1]])
    return cycle[np.arange(count) % len(cycle)]


def peer(source, folder):
    """Seconds that the peer takes."""
    begin = time.perf_counter()
    frames, rate = read(source)
    large = folder / "large.mkv"
    write(large, enlarge(frames, "animevideov3"), rate, 16)
    interpolate(large, folder / "peer.mkv", 2 * rate, "-c:v", "libx264", "-crf", "16", "-pix_fmt", "yuv420p")
    return time.perf_counter() - begin


def ours(source, folder, options):
    """Seconds that the command takes."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "stvsr_cli", "upscale", source, folder / "ours.mkv", "--device", "cpu", *options]
    subprocess.run([str(part) for part in command], check=True)
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=Fraction, help="frames a second; the clip's own by default")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 270), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("options", nargs="*", help="given to the command")
    arguments = parser.parse_args()
    frames, rate = read(arguments.data)
    rate = arguments.rate or rate
    small = np.stack([cv2.resize(frame, arguments.size, interpolation=cv2.INTER_AREA) for frame in frames])
    clip = lengthened(small, round(arguments.seconds * float(rate)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "clip.mp4"
        write(source, clip, rate, 16)
        for who, seconds in (
            ("stvsr", ours(source, folder, arguments.options)),
            ("animevideov3 + interpolation", peer(source, folder)),
        ):
            print(f"{who:<30} {seconds:7.1f} s, {seconds / len(clip):.3f} s an input frame", flush=True)


if __name__ == "__main__":
    main()
