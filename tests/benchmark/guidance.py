"""How much DiffST's guidance tokens tell clips apart, and the two degradations of a clip.

    python -m tests.benchmark.guidance DATA/val --weights DIR

Root mean squares over all tokens and channels: of the tokens, of their deviation from the mean over clips, of the difference between the two
degradations of a clip; then, of the first clip, what cross- and self-attention add in each block.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from stvsr_cli.models import diffst
from stvsr_cli.train.clips import SCALE, VIDEO_SUFFIXES
from stvsr_cli.train.degrade import apply
from stvsr_cli.train.evaluate import DEGRADATION_SEED, middle, read_frames
from stvsr_cli.train.validate import TRACKS, to_tensor, track

KEYFRAMES, CROP = 3, 32


def size(x):
    """Root mean square."""
    return float(x.float().square().mean().sqrt())


def degraded(folder):
    """Yield the low-quality keyframes of each clip under both degradations, [1, K, 3, h, w] each."""
    for path in sorted(p for p in folder.iterdir() if p.suffix in VIDEO_SUFFIXES):
        frames = read_frames(path, 2 * KEYFRAMES - 1)[::2]
        for name in TRACKS:
            yield apply(frames, track(name), SCALE, np.random.default_rng(DEGRADATION_SEED))


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    options = parser.parse_args()
    network = diffst.load(options.weights, torch.device("cpu"), torch.float32).network
    clips = list(degraded(options.clips))
    tokens = torch.cat([network.guide(to_tensor(clip)[None]) for clip in clips]).unflatten(0, (-1, len(TRACKS)))
    print(f"tokens {size(tokens):.5f}  over clips {size(tokens[:, 0] - tokens[:, 0].mean(0)):.5f}", end="  ")
    print(f"between degradations {size(tokens[:, 0] - tokens[:, 1]):.5f}")
    for index, block in enumerate(network.transformer.blocks):
        for name in ("attn1", "attn2"):
            getattr(block, name).register_forward_hook(
                lambda _, given, added, name=f"block {index} {name}": print(f"{name} adds {size(added):.4f}")
            )
    low = to_tensor(middle(clips[0], CROP, 1))[None]
    network.denoise(network.encode(network.enlarge(network.initialise(low, 2))), tokens[0, :1])


if __name__ == "__main__":
    main()
