"""DiffST: a whole window of video in one step of Wan2.1, guided by its own representation."""

from pathlib import Path

import torch

from stvsr_cli.errors import ModelError
from stvsr_cli.models.diffst.config import SIZES, DiffSTConfig
from stvsr_cli.models.diffst.folder import read_network, write_folder
from stvsr_cli.models.diffst.model import DiffST, Posterior
from stvsr_cli.models.diffst.network import DiffSTNetwork, new_network

__all__ = ["SIZES", "DiffST", "DiffSTConfig", "DiffSTNetwork", "load", "new_network", "write_folder"]


def load(
    weights: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    *,
    posterior: Posterior = "mode",
    aggregation: bool = True,
    guidance: bool = True,
    vae_tile_px: int = 512,
) -> DiffST:
    """Return the model of a folder: Wan2.1 in diffusers' layout with `diffst.safetensors` and `diffst.json` beside it.

    posterior: the autoencoder's most likely latent, or a sample of it drawn with the request's seed. aggregation,
    guidance: switches to run without the one or the other, for comparison: a linear blend in the place of intermediate
    frames, one empty token in the place of guidance. vae_tile_px: the autoencoder handles larger frames in tiles of this side in
    output pixels, blended over a quarter of it; 0: whole.
    Raises UsageError for an option that cannot be, ModelError if a file is absent or damaged, or a tensor is missing, unexpected or misshapen.
    """
    if weights is None or not weights.is_dir():
        raise ModelError(
            f"diffst needs a folder, not {weights}.",
            hint="No weights are published: train them with `stvsr train`, then give --weights DIR.",
        )
    network = read_network(weights, device, dtype)
    network.use_aggregation &= aggregation
    network.use_guidance &= guidance
    network.tile(vae_tile_px)
    return DiffST(network, posterior=posterior)
