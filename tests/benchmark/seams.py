"""Windows joined by dropping context or by a crossfade, against the whole clip in one window.

    python -m tests.benchmark.seams --data tests/bunny.mp4 --model compact
    python -m tests.benchmark.seams --data tests/bunny.mp4 --model osdenhancer --weights DIR

For each way: the mean absolute difference from the whole clip over the frames that two windows share, in code values,
and the jump: how much more a frame differs from its predecessor there than it does in the whole clip.
"""

import argparse
from pathlib import Path

import torch
from torch.nn import functional

from stvsr_cli.color.convert import to_rgb
from stvsr_cli.engine.stitch import Runner, upscale_shot
from stvsr_cli.job.windows import TileConfig, WindowConfig
from stvsr_cli.media.read.decode import decode
from stvsr_cli.media.read.probe import probe
from stvsr_cli.models.catalogue import find_model
from stvsr_cli.models.contract import Request
from stvsr_cli.models.registry import load_model
from stvsr_cli.weights.places import find_weights

CPU = torch.device("cpu")
WAYS = ("discard", "crossfade")


class Joined:
    """A model that says another way of joining."""

    def __init__(self, model, join):
        self._model = model
        self.traits = type(model.traits)(
            **{name: getattr(model.traits, name) for name in model.traits.__dataclass_fields__} | {"join": join}
        )

    def __getattr__(self, name):
        return getattr(self._model, name)


def clip(path, count, height, width):
    """The first frames of a video, [T, 3, h, w]."""
    frames = []
    for frame in decode(probe(path)):
        frames.append(to_rgb([frame.picture])[0].clamp(0, 1))
        if len(frames) == count:
            break
    return functional.interpolate(torch.stack(frames), (height, width), mode="area")


def upscaled(model, frames, size, overlap):
    runner = Runner(model, Request(fps_factor=2, detail=model.traits.detail), TileConfig(size_px=0, overlap_px=0))
    return torch.stack(list(upscale_shot(runner, frames, WindowConfig(size=size, overlap=overlap))))


def shared(count, size, overlap):
    """Output frames that two windows share, with the one after them."""
    starts = range(size - overlap, count - overlap, size - overlap)
    return sorted({2 * start + k for start in starts for k in range(2 * overlap)} & set(range(1, 2 * count - 1)))


def measure(model, frames, size, overlap):
    """By way of joining: the mean error over shared frames and the mean jump, in code values."""
    whole = upscaled(model, frames, len(frames), 1)
    places = torch.tensor(shared(len(frames), size, overlap))
    rows = {}
    for way in WAYS:
        joined = upscaled(Joined(model, way), frames, size, overlap)
        steps, usual = (video.diff(dim=0).abs().mean((1, 2, 3))[places - 1] for video in (joined, whole))
        error = (joined - whole)[places].abs().mean()
        rows[way] = (255 * float(error), 255 * float((steps - usual).clamp(min=0).max()))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--size", type=int, nargs=2, default=(48, 80), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--window", type=int, default=9)
    parser.add_argument("--overlap", type=int, nargs="+", default=(2, 3, 4))
    arguments = parser.parse_args()
    entry = find_model(arguments.model)
    model = load_model(entry, arguments.weights or find_weights(entry.name, entry.needs), CPU, torch.float32)
    frames = clip(arguments.data, arguments.frames, *arguments.size)
    for overlap in arguments.overlap:
        for way, (error, jump) in measure(model, frames, arguments.window, overlap).items():
            print(f"{arguments.model} window {arguments.window} overlap {overlap} {way:<10} error {error:.3f} jump {jump:.3f}",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
