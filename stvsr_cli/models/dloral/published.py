"""What the authors published, `model.pkl`, read strictly: the UNet with its adapters, and the retrieval."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stvsr_cli.errors import ModelError
from stvsr_cli.models.dloral.retrieval import DIM, HEADS, CrossFrameRetrieval
from stvsr_cli.models.layers.checkpoint import check_names, load_strict, read_pickle, read_tensors
from stvsr_cli.models.layers.lora import adapted_layers, expected_names, factor_name, merge
from stvsr_cli.runtime.parts import replacing

PICKLE, CONVERTED = "model.pkl", "model.safetensors"
BASE_FOLDER = "base"
PARTS = ("encoder", "decoder", "others")
EXPERTS = ("quality", "consistency")
"""The D-LoRA, which adds detail, and the C-LoRA."""
DETAIL_EXPERT = "quality"
ADAPTER_ALPHA = 8
"""PEFT's default `lora_alpha`, which the authors left as it was: B A is scaled by it over the rank."""

RETRIEVAL_RENAMES = (
    (r"^spynet\.basic_module\.(\d+)\.basic_module\.(\d+)\.conv\.", r"flow.levels.\1.convs.\2."),
    (r"^cross_attn_module\.", "attention."),
)
RETRIEVAL_UNUSED = (
    "feat_extract.",
    "weight_predict.",
    "weight_predict_final.",
    "reconstruction_feat.",
    "conv_hr.",
    "conv_last.",
    "spynet.mean",
    "spynet.std",
)
"""Layers of the authors' class that its forward pass never reaches, and two constants."""
KEPT_FLOAT32 = ("flow.",)
"""Parts of the retrieval that compute in float32 whatever the precision."""
UNET_PREFIX, RETRIEVAL_PREFIX = "unet.", "retrieval."
"""Of names in the converted file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    path: Path
    targets: dict[str, list[str]]
    """By adapter: the layers it is on, as PEFT's target modules."""
    ranks: dict[str, int]
    """By expert."""
    unet: dict[str, Tensor]
    """The whole UNet, adapters included, by PEFT's names."""
    retrieval: dict[str, Tensor]


def locate(weights: Path, base: Path | None) -> tuple[Path, Path]:
    """Return the checkpoint file and the base folder. Raises ModelError if one is absent.

    weights: a folder that holds `model.pkl` or `model.safetensors`, and `base/` unless `base` is given; or the file.
    """
    if weights.is_dir():
        found = [path for name in (CONVERTED, PICKLE) if (path := weights / name).is_file()]
        if not found:
            raise ModelError(f"{weights} holds no {PICKLE}.", hint="`stvsr models show dloral` says how to get it.")
        file, base = found[0], base or weights / BASE_FOLDER
    else:
        file = weights
        if base is None:
            raise ModelError(f"{file} needs its base model.", hint="Give a Stable Diffusion 2.1 folder with --base.")
    if not base.is_dir():
        raise ModelError(f"No base model at {base}.", hint="Put a Stable Diffusion 2.1 folder there, or give --base.")
    return file, base


def read_checkpoint(path: Path) -> Checkpoint:
    """Return what the authors' pickle holds, or the safetensors made of it. Raises ModelError if it is another thing."""
    if path.suffix == ".safetensors":
        return _read_converted(path)
    tree = read_pickle(path)
    entries = {
        **{_targets_entry(part, expert): list for part in PARTS for expert in EXPERTS},
        **{_rank_entry(expert): int for expert in EXPERTS},
        "state_dict_unet": dict,
        "state_dict_bpp": dict,
    }
    faults = [
        name for name, kind in entries.items() if not isinstance(tree, dict) or not isinstance(tree.get(name), kind)
    ]
    if faults:
        raise ModelError(f"{path} is not DLoRAL's checkpoint: it lacks {', '.join(faults[:5])}.")
    return Checkpoint(
        path=path,
        targets={_adapter(part, expert): tree[_targets_entry(part, expert)] for part in PARTS for expert in EXPERTS},
        ranks={expert: tree[_rank_entry(expert)] for expert in EXPERTS},
        unet=tree["state_dict_unet"],
        retrieval=tree["state_dict_bpp"],
    )


def convert(checkpoint: Checkpoint, target: Path) -> None:
    """Write the checkpoint as safetensors, which hold the same and are read without unpickling."""
    tensors = {f"{UNET_PREFIX}{name}": tensor.contiguous() for name, tensor in checkpoint.unet.items()}
    tensors |= {f"{RETRIEVAL_PREFIX}{name}": tensor.contiguous() for name, tensor in checkpoint.retrieval.items()}
    metadata = {"targets": json.dumps(checkpoint.targets), "ranks": json.dumps(checkpoint.ranks)}
    with replacing(target) as part:
        save_file(tensors, part, metadata=metadata)


def merged_weights(checkpoint: Checkpoint, unet: nn.Module, detail: float) -> dict[str, Tensor]:
    """Return the UNet's plain weights with the C-LoRA at full strength and the D-LoRA at `detail`.

    unet: as `build_unet` makes it. Raises ModelError if a tensor is missing or unexpected, or a rank is not the file's.
    """
    what = str(checkpoint.path)
    layers = {adapter: adapted_layers(unet, targets) for adapter, targets in checkpoint.targets.items()}
    check_names(expected_names(unet, layers), checkpoint.unet, what=what)
    strengths = {}
    for expert in EXPERTS:
        rank, share = checkpoint.ranks[expert], detail if expert == DETAIL_EXPERT else 1.0
        for adapter in (_adapter(part, expert) for part in PARTS):
            strengths[adapter] = share * ADAPTER_ALPHA / rank
            _check_rank(checkpoint, adapter, layers[adapter], rank)
    return merge(checkpoint.unet, strengths, what=what)


def load_retrieval(
    checkpoint: Checkpoint, channels: int, device: torch.device, dtype: torch.dtype
) -> CrossFrameRetrieval:
    """Return the cross-frame retrieval for latents of `channels`, with the heads of the file.

    Raises ModelError as `merged_weights` does.
    """
    heads, dim = _attention_size(checkpoint)
    with torch.device("meta"):
        retrieval = CrossFrameRetrieval(channels, heads=heads, dim=dim)
    load_strict(
        retrieval,
        checkpoint.retrieval,
        what=f"{checkpoint.path} (retrieval)",
        ignore=RETRIEVAL_UNUSED,
        renames=RETRIEVAL_RENAMES,
        device=device,
        dtype=dtype,
        keep_float32=KEPT_FLOAT32,
    )
    return retrieval.requires_grad_(False).eval()


def _attention_size(checkpoint: Checkpoint) -> tuple[int, int]:
    """Return the heads of the retrieval's attention and their width; the published ones where the file does not tell."""
    sizes = {name.split(".", 1)[-1]: tensor.shape for name, tensor in checkpoint.retrieval.items()}
    query, threshold = sizes.get("query_conv.weight"), sizes.get("threshold_fc.weight")
    if query is None or threshold is None:
        return HEADS, DIM
    return query[0] // threshold[1], threshold[1]


def _check_rank(checkpoint: Checkpoint, adapter: str, layers: list[str], rank: int) -> None:
    for layer in layers:
        found = checkpoint.unet[factor_name(layer, "A", adapter)].shape[0]
        if found != rank:
            raise ModelError(f"{checkpoint.path}: {adapter} has rank {found} on {layer}, not {rank}.")


def _read_converted(path: Path) -> Checkpoint:
    tensors = read_tensors(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    try:
        targets, ranks = json.loads(metadata["targets"]), json.loads(metadata["ranks"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path} is not DLoRAL's checkpoint.", hint=f"Convert the authors' {PICKLE} again.") from error
    parts: dict[str, dict[str, Tensor]] = {prefix: {} for prefix in (UNET_PREFIX, RETRIEVAL_PREFIX)}
    for name, tensor in tensors.items():
        prefix = next((prefix for prefix in parts if name.startswith(prefix)), None)
        if prefix is None:
            raise ModelError(f"{path} holds the unexpected tensor {name}.")
        parts[prefix][name.removeprefix(prefix)] = tensor
    unet, retrieval = parts.values()
    return Checkpoint(path=path, targets=targets, ranks=ranks, unet=unet, retrieval=retrieval)


def _adapter(part: str, expert: str) -> str:
    return f"default_{part}_{expert}"


def _targets_entry(part: str, expert: str) -> str:
    return f"unet_lora_{part}_modules_{expert}"


def _rank_entry(expert: str) -> str:
    return f"lora_rank_unet_{expert}"
