"""Crops of upscaled clips beside those of Real-ESRGAN and the original, as one picture.

    python -m tests.benchmark.crops face=CLIP:X,Y text=CLIP:X,Y:FRAME dark=CLIP:X,Y:FRAME:0.15 --out crops.jpg

X and Y are the corner of the crop in the clip's own pixels, FRAME (default 5) is counted in its own frames: even ones
are there in the input, odd ones are invented. The last figure darkens the clip by that factor first. --details names
the strengths shown beside the default, as 0,0.5,0.7,1; --zoom 3 shows each pixel as 3 x 3. The input is the clip reduced four times and to half the rate, blurred, noisy and coded at crf 30, or with --track clean only reduced and
lightly coded.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from stvsr_cli.train.degrade import apply
from stvsr_cli.train.validate import TRACKS, track
from tests.benchmark.peers import REAL_ESRGAN, SCALE, enlarge, interpolate, read, write

NUM_FRAMES = 13
MARGIN = 16
"""Input pixels around the crop that the peers see."""
LABEL_PX = 18


@dataclass(frozen=True, slots=True)
class Subject:
    """What is shown in a row."""

    name: str
    clip: Path
    corner: tuple[int, int]
    frame: int
    brightness: float


def subject(text):
    """NAME=CLIP:X,Y[:FRAME[:BRIGHTNESS]]."""
    name, _, rest = text.partition("=")
    clip, corner, *more = rest.split(":")
    x, y = (int(part) // SCALE * SCALE for part in corner.split(","))
    frame, brightness = (*more, *("5", "1")[len(more) :])
    return Subject(name, Path(clip), (x, y), int(frame), float(brightness))


def commanded(low, rate, folder, options):
    """Frames that the command makes of an input."""
    write(folder / "low.mkv", low, rate, 0)
    command = [sys.executable, "-m", "stvsr_cli", "upscale", folder / "low.mkv", folder / "ours.mkv", "--overwrite", "--codec",
               "libx264", "--crf", "4", *options]  # fmt: skip
    subprocess.run([str(part) for part in command], check=True, stderr=subprocess.DEVNULL)
    return read(folder / "ours.mkv")[0]


def peer(low, rate, box, frame, name, folder):
    """The crop that a peer makes of a frame; it sees only the surroundings of the crop."""
    y0, y1, x0, x1 = (side // SCALE for side in box)
    top, left = max(0, y0 - MARGIN), max(0, x0 - MARGIN)
    first, last = (frame // 2, frame // 2 + 1) if frame % 2 == 0 else (max(0, frame // 2 - 1), frame // 2 + 3)
    keys = slice(first, last)
    large = enlarge(low[keys, top : y1 + MARGIN, left : x1 + MARGIN], name)
    if frame % 2 == 0:
        shown = large[frame // 2 - keys.start]
    else:
        write(folder / "large.mkv", large, rate, 4)
        interpolate(folder / "large.mkv", folder / "peer.mkv", 2 * rate, "-c:v", "libx264", "-crf", "4")
        shown = read(folder / "peer.mkv")[0][frame - 2 * keys.start]
    y, x = SCALE * (y0 - top), SCALE * (x0 - left)
    return shown[y : y + box[1] - box[0], x : x + box[3] - box[2]]


def row(shown, side, track_name, details, folder):
    """Pictures of a subject by what made them."""
    frames, rate = read(shown.clip)
    frames = frames[:NUM_FRAMES, : frames.shape[1] // 8 * 8, : frames.shape[2] // 8 * 8]
    frames = np.rint(frames * shown.brightness).astype(np.uint8)
    low = apply(frames[::2], track(track_name), SCALE, np.random.default_rng(7))
    low_rate = Fraction(rate) / 2
    x, y = shown.corner
    box = (y, y + side, x, x + side)
    crop = (slice(y, y + side), slice(x, x + side))
    small = low[shown.frame // 2, y // SCALE : (y + side) // SCALE, x // SCALE : (x + side) // SCALE]
    pictures = {"input" if shown.frame % 2 == 0 else "input before": cv2.resize(small, (side, side), interpolation=0)}
    for name in REAL_ESRGAN:
        pictures[name] = peer(low, low_rate, box, shown.frame, name, folder)
    for detail in details:
        pictures[f"ours, detail {detail}"] = commanded(low, low_rate, folder, ("--detail", detail))[shown.frame][crop]
    pictures["ours"] = commanded(low, low_rate, folder, ())[shown.frame][crop]
    pictures["original"] = frames[shown.frame][crop]
    if shown.brightness < 1:  # shown brighter, all alike
        pictures = {k: np.clip(v / shown.brightness * 0.7, 0, 255).astype(np.uint8) for k, v in pictures.items()}
    return pictures


def labelled(picture, text):
    """A picture with a line of text above it."""
    label = np.full((LABEL_PX, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(label, text, (3, LABEL_PX - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([label, picture])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subjects", nargs="+", type=subject, metavar="NAME=CLIP:X,Y[:FRAME[:BRIGHTNESS]]")
    parser.add_argument("--track", choices=TRACKS, default="real")
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--details", default="0", help="strengths shown beside the default, with commas between")
    parser.add_argument("--zoom", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for shown in arguments.subjects:
            pictures = row(shown, arguments.side, arguments.track, arguments.details.split(","), Path(folder))
            pictures = {
                k: np.kron(v, np.ones((arguments.zoom, arguments.zoom, 1), np.uint8)) for k, v in pictures.items()
            }
            rows.append(np.concatenate([labelled(p, f"{shown.name}: {k}") for k, p in pictures.items()], 1))
    cv2.imwrite(str(arguments.out), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
