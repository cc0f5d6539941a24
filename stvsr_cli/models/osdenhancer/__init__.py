"""OSDEnhancer: CogVideoX 1.5 in one step, motion-gated experts, a bidirectional deformable decoder."""

from pathlib import Path

import torch

from stvsr_cli.errors import ModelError
from stvsr_cli.models.osdenhancer.model import TRAITS, OSDEnhancer, Posterior
from stvsr_cli.models.osdenhancer.published import load_prompt, load_scheduler, load_transformer, load_vae

__all__ = ["TRAITS", "OSDEnhancer", "Posterior", "load"]


def load(
    weights: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    *,
    posterior: Posterior = "mode",
    vae_tile_px: int | None = None,
) -> OSDEnhancer:
    """Return the model of a published folder: `transformer/ vae/ scheduler/ prompt_embeddings/`.

    posterior: the VAE's most likely latent, or a sample of it drawn with the request's seed, as the authors do.
    vae_tile_px: side of the VAE's tiles in output pixels, a multiple of 32; 0: whole frames; None: its own tiles.
    Raises ModelError if a file is absent or damaged, or a tensor is missing, unexpected or misshapen.
    """
    if weights is None or not weights.is_dir():
        raise ModelError(
            f"osdenhancer needs its published folder, not {weights}.",
            hint="Fetch it with `stvsr models pull osdenhancer`, or give --weights DIR.",
        )
    transformer = load_transformer(weights / "transformer", device, dtype)
    return OSDEnhancer(
        transformer,
        load_vae(weights / "vae", device, dtype),
        load_scheduler(weights / "scheduler"),
        load_prompt(weights / "prompt_embeddings", transformer.config, device, dtype),
        posterior=posterior,
        vae_tile_px=vae_tile_px,
    )
