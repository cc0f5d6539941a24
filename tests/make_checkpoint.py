"""Writes a tiny checkpoint with made-up weights from a specification: files, tensor names, shapes and a seed.

Every tensor comes from a generator seeded by the specification's seed and the tensor's own name, so that the same
specification gives the same checkpoint anywhere. `texts` are written as they are, `safetensors` and `pickles` filled.
"""

import json
import math
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file

GAINS = {"lora_B": 0.5, "conv_offset": 0.7, "conv_mask": 0.7, "spynet": 1.6}
POSTERIOR = ("quant_conv", "encoder.conv_out.conv")


def made_up_tensor(seed, name, shape):
    """The tensor `name`, float32 with values of half precision, at a scale that keeps activations near one."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{seed}:{name}".encode())))
    if "temperature" in name:
        values = 1 + 0.1 * values
    elif "threshold_fc.bias" in name:
        values = values * 0 - 0.1
    elif len(shape) < 2:
        values = 1 + 0.1 * values if name.endswith("weight") else 0.05 * values
    else:
        gain = next((gain for part, gain in GAINS.items() if part in name), 1.0)
        gain = 0.35 if name.startswith("decoder.conv_out") else gain
        values = values * gain / math.sqrt(math.prod(shape[1:]))
    half = shape[0] // 2 if shape else 0
    if name.removesuffix(".weight") in POSTERIOR and name.endswith(".weight"):  # a posterior without variance
        values[:half] *= 4
        values[half:] = 0
    if name.removesuffix(".bias") in POSTERIOR and name.endswith(".bias"):
        values[half:] = -30.0
    return values.half().float()


def make_checkpoint(spec, folder):
    """Write the checkpoint of a specification (a table, or the path of its JSON file) into `folder`; return that."""
    spec = spec if isinstance(spec, dict) else json.loads(Path(spec).read_text())
    folder = Path(folder)

    def filled(tensors):
        return {name: made_up_tensor(spec["seed"], name, shape) for name, shape in tensors.items()}

    for kind in ("texts", "safetensors", "pickles"):
        for relative, content in spec.get(kind, {}).items():
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "texts":
                path.write_text(content)
            elif kind == "safetensors":
                save_file(filled(content), path, metadata={"format": "pt"})
            else:
                torch.save({k: filled(v["tensors"]) if isinstance(v, dict) else v for k, v in content.items()}, path)
    return folder
