"""Frames between the input's, on the input's grid: the compact model's, RIFE's and those of a classical flow.

    python -m tests.benchmark.between CLIPS [--weights FOLDER] [--rife FILE]

PSNR, in RGB, against the reduced original of the frames halfway between two of the input, by clip and track: `compact` is
what the model begins with, before it enlarges; `dis` the mean of both neighbours, warped along OpenCV's DIS flow; `rife` and
`rife_x2` what RIFE makes of the input as it is and of the input doubled. `stvsr_cli/train/motion_teacher.py` says where
its weights are to be had.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional

from stvsr_cli.models.compact.model import load
from stvsr_cli.models.layers.aggregation import flow_from_between
from stvsr_cli.models.layers.warp import warp
from stvsr_cli.train.clips import SCALE, VIDEO_SUFFIXES
from stvsr_cli.train.degrade import apply
from stvsr_cli.train.evaluate import read_frames
from stvsr_cli.train.losses import psnr
from stvsr_cli.train.motion_teacher import load_motion_teacher
from stvsr_cli.train.validate import TRACKS, to_tensor, track
from stvsr_cli.weights.places import find_weights

NUM_FRAMES = 13
PADDED_PX = 64
"""Multiple to which the sides are padded for RIFE, as its package does; it takes those of 32."""


def by_classical_flow(low):
    """The mean of both neighbours, warped along the flow between them. low: [K, h, w, 3] uint8. Returns [K-1, 3, h, w]."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in low]
    forward, backward = (
        torch.from_numpy(np.stack([dis.calc(a, b, None) for a, b in pairs])).permute(0, 3, 1, 2).contiguous()
        for pairs in (zip(grey, grey[1:], strict=False), zip(grey[1:], grey, strict=False))
    )
    frames = to_tensor(low)
    to_left, to_right = flow_from_between(forward, backward, 0.5)
    return (warp(frames[:-1], to_left, "border") + warp(frames[1:], to_right, "border")) / 2


def by_rife(rife, low, doubled):
    """What RIFE makes of frames [K, 3, h, w], [K-1, 3, h, w]."""
    factor = 2 if doubled else 1
    frames = functional.interpolate(low, scale_factor=factor, mode="bicubic") if doubled else low
    height, width = frames.shape[-2:]
    frames = functional.pad(frames, (0, -width % PADDED_PX, 0, -height % PADDED_PX), mode="replicate")
    made = torch.cat([rife(a[None], b[None], 0.5)[0] for a, b in zip(frames, frames[1:], strict=False)])
    return functional.avg_pool2d(made[..., :height, :width], factor)


def measured(frames, network, rife):
    """Mean PSNR by track and by what made the frames between. frames: [T, H, W, 3] uint8, full-size."""
    unit = network.config.multiple_px
    for name in TRACKS:
        low = apply(frames[::2], track(name), SCALE, np.random.default_rng(7))
        height, width = (side // unit * unit for side in low.shape[1:3])
        low = low[:, :height, :width]
        given = to_tensor(low)
        wanted = functional.avg_pool2d(to_tensor(frames[1::2]), SCALE)[..., :height, :width]
        made = {"compact": network.initialise(given[None], 2).frames[0, 1::2], "dis": by_classical_flow(low)}
        if rife is not None:
            made |= {"rife": by_rife(rife, given, doubled=False), "rife_x2": by_rife(rife, given, doubled=True)}
        yield name, {k: float(psnr(v.clamp(0, 1), wanted).mean()) for k, v in made.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--rife", type=Path)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    network = load(args.weights or find_weights("compact"), torch.device("cpu"), torch.float32).network
    rife = load_motion_teacher(args.rife) if args.rife else None
    rows: dict[str, list[dict[str, float]]] = {}
    for path in sorted(p for p in args.clips.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES):
        frames = read_frames(path, NUM_FRAMES)
        if frames is None:
            continue
        for name, values in measured(frames, network, rife):
            rows.setdefault(name, []).append(values)
            print(f"{name:6} {path.stem:22}", *(f"{k} {v:.2f}" for k, v in values.items()))
    for name, some in rows.items():
        print(f"{name:6} {'mean':22}", *(f"{k} {np.mean([row[k] for row in some]):.2f}" for k in some[0]))


if __name__ == "__main__":
    main()
