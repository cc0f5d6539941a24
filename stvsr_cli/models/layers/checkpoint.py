"""Checkpoints read and loaded strictly: every tensor that takes effect is there, in its shape, and none besides; written too.

Safetensors, whole or in shards behind an index, and pickles read with `weights_only=True`, which run no code.
"""

import json
import pickle
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stvsr_cli.errors import ModelError
from stvsr_cli.runtime.parts import replacing, write_whole

INDEX_SUFFIX = ".safetensors.index.json"
PICKLE_SUFFIXES = (".pkl", ".pt", ".pth", ".bin", ".ckpt")
SHARD_NAME = re.compile(r"-(\d+)-of-(\d+)\.safetensors$")
NUM_NAMES_SHOWN = 5

SHARD_BYTES = 5_000_000_000
"""Larger checkpoints are written in several files."""

Ignore = Callable[[str], bool] | Collection[str]
Renames = Iterable[tuple[str, str]]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, on the CPU and in the precision of the file.

    path: a safetensors file, an index (`*.safetensors.index.json`), a pickle of a flat state dict, or a folder
    that holds one of the first two. Raises ModelError if it is absent, damaged, ambiguous or not a state dict.
    """
    if not path.exists():
        raise ModelError(f"No checkpoint at {path}.", hint="Check the path, or fetch it with `stvsr models pull`.")
    if path.is_dir() or path.name.endswith(INDEX_SUFFIX):
        files = _files_of_folder(path) if path.is_dir() else _files_of_index(path)
        return {name: tensor for file in files for name, tensor in _read_safetensors(file).items()}
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    tensors = read_pickle(path)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ModelError(f"{path} is not a flat table of tensors.", hint="Expected a state dict.")
    return tensors


def read_pickle(path: Path) -> Any:
    """Return what a `torch.save` file holds, read with `weights_only=True`: tensors and plain values, no code run.

    Raises ModelError if the file is absent, damaged, or wants to run code.
    """
    if path.suffix not in PICKLE_SUFFIXES:
        raise ModelError(
            f"{path} has the unknown suffix {path.suffix!r}.",
            hint=f"Known: .safetensors, {', '.join(PICKLE_SUFFIXES)}.",
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"No checkpoint at {path}.") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{path} cannot be read as weights: {reason}", hint="It is damaged, or holds more than weights; refused."
        ) from error


def read_config(path: Path) -> dict[str, Any]:
    """Return a model's `config.json` as a table. Raises ModelError if it is absent or not a JSON object."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"No configuration at {path}.", hint="The folder is not a complete download.") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object.")
    return config


def load_strict(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    what: str,
    ignore: Ignore = (),
    renames: Renames = (),
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    keep_float32: Collection[str] = (),
) -> None:
    """Load `tensors` into `module`; every name and shape must match both ways.

    what: how messages call the checkpoint. ignore: a predicate, or a collection of name prefixes, of tensors in the
    file that take no effect; applied to the file's own names. renames: pairs of (regular expression, replacement),
    applied in order to the names that remain. device, dtype: where the tensors go and as what; by default the file's.
    keep_float32: parts of names whose tensors become float32 whatever `dtype` says.
    Works on modules built on the meta device: the tensors are assigned, not copied.
    Raises ModelError naming the first five missing, unexpected or misshapen tensors.
    """
    renamed = _renamed(tensors, what, ignore, list(renames))
    expected = module.state_dict()
    check_names(expected, renamed, what=what)
    misshapen = [
        f"{name} {list(tensor.shape)} (expected {list(expected[name].shape)})"
        for name, tensor in renamed.items()
        if tensor.shape != expected[name].shape
    ]
    if misshapen:
        raise ModelError(f"{what} has {_listed('misshapen', misshapen)}.", hint="It belongs to another configuration.")
    state = {
        name: tensor.to(device=device, dtype=_target_dtype(name, tensor, dtype, keep_float32))
        for name, tensor in renamed.items()
    }
    module.load_state_dict(state, strict=True, assign=True)


def save_tensors(tensors: Mapping[str, Tensor], folder: Path, stem: str, shard_bytes: int = SHARD_BYTES) -> None:
    """Write `stem.safetensors` into a folder, or shards of it behind an index, as diffusers names them."""
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    names = [f"{stem}.safetensors"]
    if len(shards) > 1:
        names = [f"{stem}-{n:05}-of-{len(shards):05}.safetensors" for n in range(1, len(shards) + 1)]
        table = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
        total = sum(tensor.nbytes for tensor in tensors.values())
        _write_json({"metadata": {"total_size": total}, "weight_map": table}, folder / f"{stem}{INDEX_SUFFIX}")
    for name, shard in zip(names, shards, strict=True):
        with replacing(folder / name) as part:
            save_file(shard, part, metadata={"format": "pt"})


def write_config(config: Mapping[str, Any], path: Path, class_name: str) -> None:
    """Write a model's settings as diffusers does, without its own bookkeeping."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {name: value for name, value in config.items() if not name.startswith("_")}
    _write_json({"_class_name": class_name, **table}, path)


def _write_json(table: Mapping[str, Any], path: Path) -> None:
    write_whole(path, json.dumps(table, indent=2) + "\n")


def check_names(expected: Iterable[str], found: Iterable[str], *, what: str) -> None:
    """Raise ModelError, with the first five names of each kind, unless the two sets of names are the same."""
    expected, found = dict.fromkeys(expected), dict.fromkeys(found)
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    faults = [_listed(kind, names) for kind, names in (("missing", missing), ("unexpected", unexpected)) if names]
    if faults:
        raise ModelError(f"{what} has {'; '.join(faults)}.", hint="It is damaged, or belongs to another configuration.")


def _renamed(
    tensors: Mapping[str, Tensor], what: str, ignore: Ignore, renames: list[tuple[str, str]]
) -> dict[str, Tensor]:
    ignored = ignore if callable(ignore) else (lambda name, prefixes=tuple(ignore): name.startswith(prefixes))
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if ignored(name):
            continue
        target = name
        for pattern, replacement in renames:
            target = re.sub(pattern, replacement, target)
        if target in renamed:
            raise ModelError(f"{what} holds {target} twice, the second time as {name}.")
        renamed[target] = tensor
    return renamed


def _target_dtype(
    name: str, tensor: Tensor, dtype: torch.dtype | None, keep_float32: Collection[str]
) -> torch.dtype | None:
    if not tensor.is_floating_point():
        return None
    return torch.float32 if any(part in name for part in keep_float32) else dtype


def _listed(kind: str, names: list[str]) -> str:
    shown = ", ".join(names[:NUM_NAMES_SHOWN])
    more = f", and {len(names) - NUM_NAMES_SHOWN} more" if len(names) > NUM_NAMES_SHOWN else ""
    return f"{len(names)} {kind} tensor{'s' if len(names) > 1 else ''}: {shown}{more}"


def _files_of_folder(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder: those its index names, or a whole set of shards, or the only one."""
    indices = sorted(folder.glob(f"*{INDEX_SUFFIX}"))
    if len(indices) == 1:
        return _files_of_index(indices[0])
    files = sorted(folder.glob("*.safetensors"))
    shards = [SHARD_NAME.search(path.name) for path in files]
    if len(files) == 1 and shards == [None]:
        return files
    numbers = [(int(shard[1]), int(shard[2])) for shard in shards if shard]
    if files and not indices and numbers == [(number, len(files)) for number in range(1, len(files) + 1)]:
        return files
    if not files:
        raise ModelError(f"{folder} holds no safetensors file.", hint="The folder is not a complete download.")
    names = ", ".join(path.name for path in [*indices, *files][:NUM_NAMES_SHOWN])
    raise ModelError(f"{folder} holds neither one checkpoint nor a whole one: {names}.", hint="Fetch all its shards.")


def _files_of_index(index: Path) -> list[Path]:
    weight_map = read_config(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise ModelError(f"{index} has no weight_map.", hint="The index is damaged.")
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        if Path(shard).name != shard or not (index.parent / shard).is_file():
            raise ModelError(f"{index} names {shard!r}, which is not beside it.", hint="Fetch all the shards.")
    return [index.parent / shard for shard in shards]


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} cannot be read as safetensors: {error}", hint="It is damaged; fetch it again."
        ) from error
    return tensors
