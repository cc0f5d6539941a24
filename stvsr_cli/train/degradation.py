"""Fits the network that tells how strongly a video was degraded, on clips that are degraded here.

`python -m stvsr_cli.train.degradation CACHE` takes the clips of a folder that `stvsr train` has made, and writes the
network beside the code that runs it.
"""

import logging
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.media.read import degradation
from stvsr_cli.train.clips import SCALE, open_clip
from stvsr_cli.train.degrade import apply, darkened, draw, overall

logger = logging.getLogger(__name__)

DRAWS = 16
"""Degradations of each clip."""
PARTS = ((1.0, 1.0), (0.4, 1.0))
"""Which shares of a clip's sides are taken, from and to, of one draw after the other."""
DARK_SHARE, DARKEST = 0.3, 0.08
"""Share of the draws that are made darker, and by how much at most."""
STILLS = 4
"""One draw in so many is of a single frame, as pictures and streams are looked at."""
KEPT_APART = 5
"""One clip in so many is not learned from, to measure with."""
STEPS, BATCH, LEARNING_RATE = 4000, 128, 2e-3
NOISE = 0.15
"""Noise on the statistics while they are learned from."""
WIDTHS = (48, 24)


class Network(nn.Module):
    """Statistics, [N, S], to how strong the degradation is, [N]; what `media.read.degradation` runs."""

    def __init__(self, found: Tensor) -> None:
        super().__init__()
        self.centre, self.spread = found.mean(0), found.std(0) + 1e-3
        self.look = nn.Linear(found.shape[1], WIDTHS[0])
        self.weigh = nn.Linear(WIDTHS[0], WIDTHS[1])
        self.tell = nn.Linear(WIDTHS[1], 1)

    def forward(self, found: Tensor, noise: float = 0.0) -> Tensor:
        """Return the strengths, [N], in (0, 1)."""
        x = ((found - self.centre) / self.spread).clamp(-4, 4)
        x = x + noise * torch.randn_like(x)
        for layer in (self.look, self.weigh):
            x = functional.leaky_relu(layer(x), degradation.SLOPE)
            x = functional.dropout(x, noise, training=noise > 0)
        told: Tensor = self.tell(x)[:, 0].sigmoid()
        return told


def examples(cache: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Statistics [N, S] and strengths [N] of degraded clips, and which are kept apart, [N]."""
    found, known, apart = [], [], []
    for path in sorted(p for p in cache.glob("*.npy") if not p.name.endswith(".flow.npy")):
        frames = open_clip(path).frames
        for number in range(DRAWS):
            rng = np.random.default_rng((zlib.crc32(path.name.encode()), number))
            drawn = draw(rng)
            part = _part(frames, PARTS[number % len(PARTS)], rng)[: 1 if number % STILLS == STILLS - 1 else None]
            low = apply(part, drawn, SCALE, rng)
            found.append(degradation.statistics(_coded(low)))
            known.append(overall(drawn))
            apart.append(zlib.crc32(path.name.encode()) % KEPT_APART == 0)
    return torch.from_numpy(np.stack(found)), torch.tensor(known), torch.tensor(apart)


def _part(frames: np.ndarray, sides: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """A few frames a keyframe's step apart, or a part of them, as they are or darker."""
    stride = 2 if len(frames) >= 2 * degradation.LENGTH else 1
    first = int(rng.integers(max(1, len(frames) - stride * degradation.LENGTH + 1)))
    taken = frames[first : first + stride * degradation.LENGTH : stride]
    least = SCALE * degradation.LEAST_PX
    size = [max(min(side, least), int(side * rng.uniform(*sides)) // SCALE * SCALE) for side in taken.shape[1:3]]
    y, x = (int(rng.integers(side - part + 1)) for side, part in zip(taken.shape[1:3], size, strict=True))
    brightness = float(rng.uniform(DARKEST, 1)) if rng.random() < DARK_SHARE else 1.0
    return darkened(taken[:, y : y + size[0], x : x + size[1]], brightness)


def _coded(low: np.ndarray) -> np.ndarray:
    """Brightness of frames, uint8, RGB, in the steps of a video of eight bits: [T, H, W] float32, black 0 and white 1."""
    span = degradation.WHITE - degradation.BLACK
    brightness = low[..., [1, 2, 0]] @ np.array(degradation.GREEN_BLUE_RED, np.float32) / 255
    return (np.rint(span * brightness) / span).astype(np.float32)


def fit(found: Tensor, known: Tensor) -> Network:
    """Fit the network to examples."""
    torch.manual_seed(0)
    network = Network(found)
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-2)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(len(found), (BATCH,))
        loss = (network(found[chosen], NOISE) - known[chosen]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        falling.step()
    return network


@torch.no_grad()
def mean_error(network: Network, found: Tensor, known: Tensor) -> float:
    """Mean of how far the network is off."""
    return float((network(found) - known).abs().mean())


def write(network: Network, path: Path) -> None:
    """Write what `media.read.degradation` reads, in half precision."""
    tensors = {"centre": network.centre, "spread": network.spread, **network.state_dict()}
    np.savez_compressed(path, **{name: tensor.numpy().astype(np.float16) for name, tensor in tensors.items()})


def main(cache: Path) -> None:
    """Fit, tell how well on clips that were kept apart, and write the network that is fitted to all."""
    found, known, apart = examples(cache)
    error = mean_error(fit(found[~apart], known[~apart]), found[apart], known[apart])
    constant = float((known[apart] - known[~apart].median()).abs().mean())
    logger.info("%d examples; mean error on clips kept apart %.3f, of a constant %.3f", len(found), error, constant)
    write(fit(found, known), Path(degradation.__file__).with_suffix(".npz"))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main(Path(sys.argv[1]))
