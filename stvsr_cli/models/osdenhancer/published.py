"""The published folder: `transformer/ vae/ scheduler/ prompt_embeddings/`, read strictly, and written."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler, CogVideoXTransformer3DModel
from torch import Tensor, nn

from stvsr_cli.errors import ModelError
from stvsr_cli.models.layers.checkpoint import (
    SHARD_BYTES,
    check_names,
    load_strict,
    read_config,
    read_tensors,
    save_tensors,
    write_config,
)
from stvsr_cli.models.layers.settings import those_known
from stvsr_cli.models.osdenhancer.adapters import ADAPTER_RANK
from stvsr_cli.models.osdenhancer.decoder import BidirectionalAutoencoder
from stvsr_cli.models.osdenhancer.transformer import ResidualGatedTransformer

Built = TypeVar("Built", bound=nn.Module)

TRANSFORMER_RENAMES = ((r"\.base_layer\.", "."),)
"""The spatial expert (TE-LoRA) is merged already: the base layers hold the weights in effect."""
MERGED = ".TE_lora."
MERGED_LAYERS = re.compile(r"(to_[qkv]|to_out\.0|ff\.net\.0\.proj|ff\.net\.2|^proj_out)\.weight$")
FIRST_ADAPTER = "transformer_blocks.0.attn1.to_q_TC_lora.lora_A.weight"
KEPT_FLOAT32 = (".dcn_pack.",)
"""Parts of the VAE that compute in float32 whatever the precision."""
PROMPT_FILE, PROMPT_NAME = "empty.safetensors", "prompt_embedding"
WEIGHTS_STEM = "diffusion_pytorch_model"
TRANSFORMER_CLASS, VAE_CLASS, SCHEDULER_CLASS = (
    "CogVideoXTransformer3DModel",
    "AutoencoderKLCogVideoX_STVSR",
    "CogVideoXDPMScheduler",
)
"""What the published configurations call their classes."""


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
    return CogVideoXDPMScheduler(
        **those_known(read_config(folder / "scheduler_config.json"), CogVideoXDPMScheduler, folder)
    )


def load_prompt(folder: Path, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the fixed prompt embedding, [1, L, text_embed_dim]. Raises ModelError if it is absent or misshapen."""
    path = folder / PROMPT_FILE
    tensors = read_tensors(path)
    check_names([PROMPT_NAME], tensors, what=str(path))
    prompt = tensors[PROMPT_NAME]
    if prompt.ndim == 3 and prompt.shape[0] == 1:
        prompt = prompt[0]
    width = config["text_embed_dim"]
    if prompt.ndim != 2 or prompt.shape[1] != width:
        raise ModelError(f"{path} holds a prompt of shape {list(prompt.shape)}, where [length, {width}] is needed.")
    return prompt[None].to(device=device, dtype=dtype)


def save_published(
    folder: Path,
    *,
    transformer: ResidualGatedTransformer,
    vae: BidirectionalAutoencoder,
    scheduler: CogVideoXDPMScheduler,
    prompt: Tensor,
    spatial: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the published folder, which `load_transformer` and the others read: `transformer/ vae/ scheduler/ ...`.

    transformer: its plain layers hold the weights in effect, the spatial expert merged in. spatial: the merged
    expert's factors by the published names (`...lora_A.TE_lora.weight`, `...lora_B...`), which go along and take no
    effect; without them the layers get plain names, which are read as well. prompt: [1, L, D] or [L, D].
    dtype: of the tensors in the files, by default as they are; parts that compute in float32 stay so.
    shard_bytes: larger transformers are cut into shards behind an index.
    Raises ValueError if `spatial` is not exactly the factors of the layers that the expert is on.
    """
    tensors = {name: _stored(name, tensor, dtype) for name, tensor in transformer.state_dict().items()}
    if spatial:
        factors = {name: _stored(name, tensor, dtype) for name, tensor in spatial.items()}
        shapes = {name: list(tensor.shape) for name, tensor in factors.items()}
        if shapes != _factor_shapes(transformer, factors):
            raise ValueError("spatial must hold both factors of every layer of the expert, and nothing else")
        layers = {name.rpartition(".lora_")[0] for name in factors}
        tensors = {_under_base_layer(name, layers): tensor for name, tensor in tensors.items()} | factors
    save_tensors(tensors, folder / "transformer", WEIGHTS_STEM, shard_bytes)
    vae_tensors = {name: _stored(name, tensor, dtype) for name, tensor in vae.state_dict().items()}
    save_tensors(vae_tensors, folder / "vae", WEIGHTS_STEM, shard_bytes)
    write_config(transformer.config, folder / "transformer" / "config.json", TRANSFORMER_CLASS)
    write_config(vae.config, folder / "vae" / "config.json", VAE_CLASS)
    write_config(scheduler.config, folder / "scheduler" / "scheduler_config.json", SCHEDULER_CLASS)
    embedding = prompt.reshape(-1, prompt.shape[-1])
    stem = PROMPT_FILE.removesuffix(".safetensors")
    save_tensors({PROMPT_NAME: _stored(PROMPT_NAME, embedding, dtype)}, folder / "prompt_embeddings", stem)


def _stored(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    kept = not tensor.is_floating_point() or any(part in name for part in KEPT_FLOAT32)
    return tensor.detach().to("cpu", None if kept else dtype).contiguous()


def _under_base_layer(name: str, layers: set[str]) -> str:
    """The name of a layer's own tensor once an adapter lies around the layer."""
    layer, _, leaf = name.rpartition(".")
    return f"{layer}.base_layer.{leaf}" if layer in layers else name


def _config(folder: Path, base: type) -> dict[str, Any]:
    return those_known(read_config(folder / "config.json"), base, folder)


def _build(cls: type[Built], folder: Path, config: Mapping[str, Any]) -> Built:
    """Return a model without weights: on the meta device, at no cost."""
    try:
        with torch.device("meta"):
            return cls(**config)
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
        raise ModelError(f"{folder / 'config.json'} does not describe a {cls.__name__}: {error}") from error


def _check_merged(transformer: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise ModelError unless the merged expert's tensors, which take no effect, are whole or wholly absent."""
    found = {name: tensor for name, tensor in tensors.items() if MERGED in name}
    expected = _factor_shapes(transformer, found)
    base_names = (f"{name.rpartition('.lora_')[0]}.base_layer.weight" for name in expected)
    if not found and not any(name in tensors for name in base_names):
        return  # saved after the merge, as plain layers
    check_names(expected, found, what=what)
    misshapen = [name for name, tensor in found.items() if list(tensor.shape) != expected[name]]
    if misshapen:
        raise ModelError(f"{what} has {len(misshapen)} misshapen tensors: {', '.join(misshapen[:5])}.")


def _factor_shapes(transformer: nn.Module, found: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Return names and shapes of the merged expert's factors; its rank is that of the first one found."""
    down = next((t for name, t in found.items() if ".lora_A." in name and t.ndim == 2), None)
    rank = ADAPTER_RANK if down is None else down.shape[0]
    shapes: dict[str, list[int]] = {}
    for name, parameter in transformer.state_dict().items():
        if MERGED_LAYERS.search(name):
            layer = name.removesuffix(".weight")
            out_features, in_features = parameter.shape
            shapes[f"{layer}.lora_A{MERGED}weight"] = [rank, in_features]
            shapes[f"{layer}.lora_B{MERGED}weight"] = [out_features, rank]
    return shapes


def _fill_positions(transformer: nn.Module, device: torch.device) -> None:
    """Compute the fixed positional embedding of models without rotary embedding, which no file holds."""
    embed: Any = transformer.patch_embed
    if getattr(embed, "pos_embedding", None) is not None and embed.pos_embedding.is_meta:
        embed.pos_embedding = embed._get_positional_embeddings(
            embed.sample_height, embed.sample_width, embed.sample_frames, device=device
        )
