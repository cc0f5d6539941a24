"""DLoRAL: Stable Diffusion 2.1 in one step, with cross-frame retrieval and two merged experts."""

from pathlib import Path

import torch
from torch import Tensor

from stvsr_cli.errors import ModelError, UsageError
from stvsr_cli.models.dloral.base import TEXT_STEMS, build_unet, load_vae, weights_file
from stvsr_cli.models.dloral.color_fix import ColorFix
from stvsr_cli.models.dloral.model import TRAITS, DLoRAL, Options
from stvsr_cli.models.dloral.prompt import embed_prompt
from stvsr_cli.models.dloral.published import convert, load_retrieval, locate, merged_weights, read_checkpoint
from stvsr_cli.models.dloral.vae import FrameCodec, Posterior
from stvsr_cli.models.layers.checkpoint import load_strict, read_config
from stvsr_cli.models.layers.insertion import Inserter, insert_mixtures

__all__ = ["TRAITS", "ColorFix", "DLoRAL", "Options", "Posterior", "convert", "load", "read_checkpoint"]


def load(
    weights: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    *,
    base: Path | None = None,
    prompt: str = "",
    detail: float = 1.0,
    color_fix: ColorFix = "adain",
    posterior: Posterior = "mode",
    vae_tile_px: int | None = None,
    vae_room_bytes: int | None = None,
    vae_on_card: bool = False,
    process_px: int = 512,
    latent_tile: int = 96,
    latent_overlap: int = 32,
    pairs_per_call: int = 1,
    paired: bool = True,
    inserter: Inserter = insert_mixtures,
) -> DLoRAL:
    """Return the model of the authors' `model.pkl` on its base model.

    weights: a folder that holds `model.pkl` (or `model.safetensors`, as `convert` writes it) and `base/`; or that
    file, with `base` given. base: a Stable Diffusion 2.1 folder in diffusers' layout.
    prompt: what the video shows. detail: strength of the D-LoRA in [0, 1] as merged; 0 is the consistency-only stage.
    posterior: the VAE's most likely latent, or a sample of it drawn with the request's seed, as the authors do.
    vae_tile_px, vae_room_bytes, vae_on_card: see `FrameCodec`. The others: see `Options` and `DLoRAL`.
    Raises ModelError if a file is absent or damaged, or a tensor is missing, unexpected or misshapen; UsageError for an
    option out of range.
    """
    if weights is None:
        raise ModelError("dloral needs its weights.", hint="`stvsr models show dloral` says how to get them.")
    if not 0 <= detail <= 1:
        raise UsageError(f"detail={detail} must lie in [0, 1].")
    options = Options(
        color_fix=color_fix,
        process_px=process_px,
        latent_tile=latent_tile,
        latent_overlap=latent_overlap,
        pairs_per_call=pairs_per_call,
        paired=paired,
    )
    file, base = locate(weights, base)
    checkpoint = read_checkpoint(file)
    unet = build_unet(read_config(base / "unet" / "config.json"))
    load_strict(unet, merged_weights(checkpoint, unet, detail), what=str(file), device=device, dtype=dtype)
    embedding = embed_prompt(prompt, base / "tokenizer", weights_file(base / "text_encoder", *TEXT_STEMS))

    def remerge(detail: float) -> dict[str, Tensor]:
        return merged_weights(read_checkpoint(file), unet, detail)

    return DLoRAL(
        unet,
        FrameCodec(
            load_vae(base / "vae", device, dtype),
            tile_px=vae_tile_px,
            posterior=posterior,
            room_bytes=vae_room_bytes,
            on_card=vae_on_card,
        ),
        load_retrieval(checkpoint, unet.config["out_channels"], device, dtype),
        embedding.to(device, dtype),
        detail=detail,
        remerge=remerge,
        inserter=inserter,
        options=options,
    )
