"""DiffST's folder: Wan2.1 in diffusers' layout, with `diffst.safetensors` and `diffst.json` beside it.

diffst.json             sizes of DiffST's own parts
diffst.safetensors      flow.*, aggregation.*, guidance.* and transformer.*: all of it, or adapters on the base
transformer/            config.json, and the base's weights where there are adapters (whole or in shards)
vae/                    config.json and weights

The last two may also lie in a folder `base/`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor, nn

from stvsr_cli.errors import ModelError
from stvsr_cli.models.diffst.adapters import ADAPTER, factor_shapes, is_factor
from stvsr_cli.models.diffst.config import DiffSTConfig
from stvsr_cli.models.diffst.network import DiffSTNetwork, fill_positions
from stvsr_cli.models.layers.checkpoint import check_names, load_strict, read_config, read_tensors
from stvsr_cli.models.layers.lora import merge
from stvsr_cli.models.layers.settings import refuse_unknown, those_known
from stvsr_cli.runtime.parts import replacing, write_whole

CONFIG_FILE, WEIGHTS_FILE = "diffst.json", "diffst.safetensors"
BASE_WEIGHTS = "diffusion_pytorch_model.safetensors"
OWN_PARTS = ("flow.", "aggregation.", "guidance.")
TRANSFORMER = "transformer."
REPLACED = ("condition_embedder.text_embedder.",)
"""What the base has and DiffST does not use: guidance tokens stand in the place of embedded text."""
KEPT_FLOAT32 = tuple(
    f"{part}." if part.startswith("norm") else part for part in WanTransformer3DModel._keep_in_fp32_modules
)
"""Parts of the transformer that compute in float32 whatever the precision."""


def read_network(folder: Path, device: torch.device, dtype: torch.dtype) -> DiffSTNetwork:
    """Return the network of a folder, in evaluation mode; its own parts compute in float32.

    Raises ModelError if a file is absent or damaged, or a tensor is missing, unexpected or misshapen.
    """
    config = read_own_config(folder / CONFIG_FILE)
    tensors = read_tensors(folder / WEIGHTS_FILE)
    base = _base_folder(folder)
    transformer = _meta_transformer(base / "transformer")
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(TRANSFORMER)}
    tuned = {name.removeprefix(TRANSFORMER): t for name, t in tensors.items() if name.startswith(TRANSFORMER)}
    if config.finetune == "lora":
        tuned = _with_adapters(base, transformer, tuned, config.lora_rank, str(folder / WEIGHTS_FILE))
    _load_transformer(transformer, tuned, str(folder / WEIGHTS_FILE), device, dtype)
    network = DiffSTNetwork(config, transformer, read_vae(base / "vae", device, dtype))
    load_own(network, own, str(folder / WEIGHTS_FILE))
    network.requires_grad_(False).eval()
    return network.to(device)


def read_base(folder: Path, own: DiffSTConfig) -> DiffSTNetwork:
    """Return a network to fine-tune, float32 on the CPU: Wan2.1 of a folder, and DiffST's own parts untrained.

    Raises ModelError as `read_network` does.
    """
    device, dtype = torch.device("cpu"), torch.float32
    transformer = _meta_transformer(folder / "transformer")
    _load_transformer(transformer, _base_tensors(folder), str(folder / "transformer"), device, dtype)
    vae = read_vae(folder / "vae", device, dtype)
    return DiffSTNetwork(own, transformer, vae, adapted=own.finetune == "lora")


def read_vae(folder: Path, device: torch.device, dtype: torch.dtype) -> AutoencoderKLWan:
    """Return the autoencoder of a folder. Raises ModelError as `read_network` does."""
    with torch.device("meta"):
        vae = _built(AutoencoderKLWan, folder)
    load_strict(vae, read_tensors(folder), what=str(folder), device=device, dtype=dtype)
    return vae


def read_own_config(path: Path) -> DiffSTConfig:
    """Return the sizes in a file. Raises ModelError if it is absent or has settings of another version."""
    table = read_config(path)
    refuse_unknown(table, DiffSTConfig, f"{path}: unknown settings", ModelError, hint="It belongs to another version.")
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in table.items()}
    try:
        return DiffSTConfig(**settings)
    except TypeError as error:
        raise ModelError(f"{path}: {error}.", hint="Restore the file that came with the weights.") from error


def load_own(network: DiffSTNetwork, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load flow, aggregation and guidance, in float32. Raises ModelError unless names and shapes are exactly right."""
    modules = nn.ModuleDict({part.rstrip("."): network.get_submodule(part.rstrip(".")) for part in OWN_PARTS})
    load_strict(modules, tensors, what=what, dtype=torch.float32)


def write_folder(
    network: DiffSTNetwork,
    folder: Path,
    *,
    state: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a folder that `read_network` reads.

    state: the tensors to write, by the network's names; by default its own. dtype: of the tensors in the files.
    """
    state = {name: t.detach().to("cpu", dtype).contiguous() for name, t in (state or network.state_dict()).items()}
    config, adapted = network.config, any(is_factor(name) for name in state)
    config = replace(config, finetune="lora" if adapted else "full")
    folder.mkdir(parents=True, exist_ok=True)
    kept = {n: t for n, t in state.items() if n.startswith((*OWN_PARTS, TRANSFORMER)) and (not adapted or _own(n))}
    _save(kept, folder / WEIGHTS_FILE)
    _write_json(asdict(config), folder / CONFIG_FILE)
    latents = {name: state[name].float().tolist() for name in ("latents_mean", "latents_std")}
    for part, settings in (("transformer", network.transformer.config), ("vae", network.vae.config | latents)):
        (folder / part).mkdir(exist_ok=True)
        table = {"_class_name": settings["_class_name"]} if "_class_name" in settings else {}
        table |= {name: value for name, value in settings.items() if not name.startswith("_")}
        _write_json(table, folder / part / "config.json")
    _save(_part(state, "vae."), folder / "vae" / BASE_WEIGHTS)
    if adapted:
        base = {name: t for name, t in _part(state, TRANSFORMER).items() if not is_factor(name)}
        _save(base, folder / "transformer" / BASE_WEIGHTS)


def _own(name: str) -> bool:
    return name.startswith(OWN_PARTS) or is_factor(name)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    with replacing(path) as part:
        save_file(tensors, part, metadata={"format": "pt"})


def _write_json(table: Mapping[str, Any], path: Path) -> None:
    write_whole(path, json.dumps(table, indent=1) + "\n")


def _meta_transformer(folder: Path) -> WanTransformer3DModel:
    with torch.device("meta"):
        transformer = _built(WanTransformer3DModel, folder)
        transformer.condition_embedder.text_embedder = nn.Identity()
    return transformer


def _built(cls: Any, folder: Path) -> Any:
    """Return one of diffusers' models as its `config.json` describes it."""
    try:
        return cls(**those_known(read_config(folder / "config.json"), cls, folder))
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
        raise ModelError(f"{folder / 'config.json'} does not describe a {cls.__name__}: {error}") from error


def _base_folder(folder: Path) -> Path:
    """Where `transformer/` and `vae/` are: in a folder `base/` if there is one, else beside DiffST's own files."""
    return folder / "base" if (folder / "base").is_dir() else folder


def _base_tensors(folder: Path) -> dict[str, Tensor]:
    tensors = read_tensors(folder / "transformer")
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(REPLACED)}


def _with_adapters(
    base: Path, transformer: WanTransformer3DModel, factors: dict[str, Tensor], rank: int, what: str
) -> dict[str, Tensor]:
    """Return the base's weights with the adapters of the file merged in."""
    shapes = factor_shapes(transformer, rank)
    check_names([f"{TRANSFORMER}{name}" for name in shapes], [f"{TRANSFORMER}{name}" for name in factors], what=what)
    misshapen = [name for name, shape in shapes.items() if tuple(factors[name].shape) != shape]
    if misshapen:
        raise ModelError(f"{what} has {len(misshapen)} misshapen tensors: {', '.join(misshapen[:5])}.")
    return merge(_base_tensors(base) | factors, {ADAPTER: 1.0}, what=what)


def _load_transformer(
    transformer: WanTransformer3DModel, tensors: dict[str, Tensor], what: str, device: torch.device, dtype: torch.dtype
) -> None:
    load_strict(transformer, tensors, what=what, device=device, dtype=dtype, keep_float32=KEPT_FLOAT32)
    fill_positions(transformer, device)
