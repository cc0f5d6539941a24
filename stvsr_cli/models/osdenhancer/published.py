"""The published folder: `transformer/ vae/ scheduler/ prompt_embeddings/`, read strictly."""

import inspect
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler, CogVideoXTransformer3DModel
from torch import Tensor, nn

from stvsr_cli.errors import ModelError
from stvsr_cli.models.layers.checkpoint import check_names, load_strict, read_config, read_tensors
from stvsr_cli.models.osdenhancer.adapters import ADAPTER_RANK
from stvsr_cli.models.osdenhancer.decoder import BidirectionalAutoencoder
from stvsr_cli.models.osdenhancer.transformer import ResidualGatedTransformer

logger = logging.getLogger(__name__)

Built = TypeVar("Built", bound=nn.Module)

TRANSFORMER_RENAMES = ((r"\.base_layer\.", "."),)
"""The spatial expert (TE-LoRA) is merged already: the base layers hold the weights in effect."""
MERGED = ".TE_lora."
MERGED_LAYERS = re.compile(r"(to_[qkv]|to_out\.0|ff\.net\.0\.proj|ff\.net\.2|^proj_out)\.weight$")
FIRST_ADAPTER = "transformer_blocks.0.attn1.to_q_TC_lora.lora_A.weight"
KEPT_FLOAT32 = (".dcn_pack.",)
"""Parts of the VAE that compute in float32 whatever the precision."""
PROMPT_FILE, PROMPT_NAME = "empty.safetensors", "prompt_embedding"


def load_transformer(folder: Path, device: torch.device, dtype: torch.dtype) -> ResidualGatedTransformer:
    """Return the transformer of a folder with `config.json` and weights, in evaluation mode.

    Raises ModelError if a file is absent, or a tensor is missing, unexpected or misshapen.
    """
    tensors = read_tensors(folder)
    config = _config(folder, CogVideoXTransformer3DModel)
    rank = tensors[FIRST_ADAPTER].shape[0] if FIRST_ADAPTER in tensors else ADAPTER_RANK
    transformer = _build(ResidualGatedTransformer, folder, config | {"adapter_rank": rank})
    _check_merged(transformer, tensors, str(folder))
    load_strict(
        transformer,
        tensors,
        what=str(folder),
        ignore=lambda name: MERGED in name,
        renames=TRANSFORMER_RENAMES,
        device=device,
        dtype=dtype,
    )
    _fill_positions(transformer, device)
    transformer.requires_grad_(False).eval()
    return transformer


def load_vae(folder: Path, device: torch.device, dtype: torch.dtype) -> BidirectionalAutoencoder:
    """Return the VAE of a folder with `config.json` and weights, in evaluation mode.

    Raises ModelError as `load_transformer` does.
    """
    vae = _build(BidirectionalAutoencoder, folder, _config(folder, AutoencoderKLCogVideoX))
    load_strict(vae, read_tensors(folder), what=str(folder), device=device, dtype=dtype, keep_float32=KEPT_FLOAT32)
    vae.requires_grad_(False).eval()
    return vae


def load_scheduler(folder: Path) -> CogVideoXDPMScheduler:
    """Return the noise schedule of a folder with `scheduler_config.json`. Raises ModelError if it is absent."""
    return CogVideoXDPMScheduler(**_known(CogVideoXDPMScheduler, read_config(folder / "scheduler_config.json"), folder))


def load_prompt(folder: Path, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the fixed prompt embedding, [1, L, text_embed_dim]. Raises ModelError if it is absent or misshapen."""
    path = folder / PROMPT_FILE
    tensors = read_tensors(path)
    check_names([PROMPT_NAME], tensors, what=str(path))
    prompt = tensors[PROMPT_NAME]
    width = config["text_embed_dim"]
    if prompt.ndim != 2 or prompt.shape[1] != width:
        raise ModelError(f"{path} holds a prompt of shape {list(prompt.shape)}, where [length, {width}] is needed.")
    return prompt[None].to(device=device, dtype=dtype)


def _config(folder: Path, base: type) -> dict[str, Any]:
    return _known(base, read_config(folder / "config.json"), folder)


def _known(base: type, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the settings that a diffusers class knows; the others are named in a warning."""
    known = inspect.signature(base.__init__).parameters  # type: ignore[misc]
    unknown = [name for name in config if name not in known and not name.startswith("_")]
    if unknown:
        logger.warning("%s: settings unknown to this version of diffusers are not used: %s", folder, ", ".join(unknown))
    return {name: value for name, value in config.items() if name in known}


def _build(cls: type[Built], folder: Path, config: Mapping[str, Any]) -> Built:
    """Return a model without weights: on the meta device, at no cost."""
    try:
        with torch.device("meta"):
            return cls(**config)
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
        raise ModelError(f"{folder / 'config.json'} does not describe a {cls.__name__}: {error}") from error


def _check_merged(transformer: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise ModelError unless the merged expert's tensors, which take no effect, are whole or wholly absent."""
    expected: dict[str, list[int]] = {}
    base_names = []
    for name, parameter in transformer.state_dict().items():
        if MERGED_LAYERS.search(name):
            layer = name.removesuffix(".weight")
            out_features, in_features = parameter.shape
            expected[f"{layer}.lora_A{MERGED}weight"] = [ADAPTER_RANK, in_features]
            expected[f"{layer}.lora_B{MERGED}weight"] = [out_features, ADAPTER_RANK]
            base_names.append(f"{layer}.base_layer.weight")
    found = [name for name in tensors if MERGED in name]
    if not found and not any(name in tensors for name in base_names):
        return  # saved after the merge, as plain layers
    check_names(expected, found, what=what)
    misshapen = [name for name in found if list(tensors[name].shape) != expected[name]]
    if misshapen:
        raise ModelError(f"{what} has {len(misshapen)} misshapen tensors: {', '.join(misshapen[:5])}.")


def _fill_positions(transformer: nn.Module, device: torch.device) -> None:
    """Compute the fixed positional embedding of models without rotary embedding, which no file holds."""
    embed: Any = transformer.patch_embed
    if getattr(embed, "pos_embedding", None) is not None and embed.pos_embedding.is_meta:
        embed.pos_embedding = embed._get_positional_embeddings(
            embed.sample_height, embed.sample_width, embed.sample_frames, device=device
        )
