"""The base model, a Stable Diffusion 2.1 folder in diffusers' layout: what of it takes effect, read strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from stvsr_cli.errors import ModelError
from stvsr_cli.models.layers.checkpoint import load_strict, read_config, read_tensors

INPUT_LATENTS = 2
"""Latents that the UNet sees side by side: the aligned previous one, and the fused current one."""
VAE_STEM, TEXT_STEMS = "diffusion_pytorch_model", ("model", "pytorch_model")
VAE_RENAMES = (
    (r"(\.attentions\.\d+)\.query\.", r"\1.to_q."),
    (r"(\.attentions\.\d+)\.key\.", r"\1.to_k."),
    (r"(\.attentions\.\d+)\.value\.", r"\1.to_v."),
    (r"(\.attentions\.\d+)\.proj_attn\.", r"\1.to_out.0."),
)
"""Names of the VAE's attention in files of before diffusers 0.18."""


def build_unet(config: Mapping[str, Any]) -> UNet2DConditionModel:
    """Return the UNet of a base's configuration, its input widened to two latents, on the meta device.

    The base's own weights are not needed: the checkpoint holds the whole UNet.
    """
    widened = {**config, "in_channels": INPUT_LATENTS * config.get("out_channels", 4)}
    with torch.device("meta"):
        unet: UNet2DConditionModel = UNet2DConditionModel.from_config(widened)
    return unet.requires_grad_(False).eval()


def build_vae(config: Mapping[str, Any]) -> AutoencoderKL:
    """Return the VAE of a base's configuration, on the meta device."""
    with torch.device("meta"):
        vae: AutoencoderKL = AutoencoderKL.from_config(config)
    return vae.requires_grad_(False).eval()


def load_vae(folder: Path, device: torch.device, dtype: torch.dtype) -> AutoencoderKL:
    """Return the VAE of a folder. Raises ModelError if a file is absent, or a tensor missing, unexpected or misshapen."""
    vae = build_vae(read_config(folder / "config.json"))
    tensors = read_tensors(weights_file(folder, VAE_STEM))
    load_strict(vae, tensors, what=str(folder), renames=VAE_RENAMES, device=device, dtype=dtype)
    return vae


def weights_file(folder: Path, *stems: str) -> Path:
    """Return the weights in a component's folder: full precision before half, safetensors before pickles.

    Raises ModelError if there are none.
    """
    for precision in ("", ".fp16"):
        for suffix in (".safetensors", ".bin"):
            for stem in stems:
                if (path := folder / f"{stem}{precision}{suffix}").is_file():
                    return path
    raise ModelError(f"{folder} holds no {stems[0]}.safetensors.", hint="The base model is not a complete download.")
