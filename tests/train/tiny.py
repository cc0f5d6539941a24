"""Training at a size that takes seconds: small networks, stages of a step or two, random perceptual features."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from stvsr_cli.quality.features import Perceptual
from stvsr_cli.train import diffst, dloral_network, osdenhancer
from tests.models.diffst.tiny import TINY as TINY_DIFFST

COMPACT = {
    "width": 16, "middle_width": 16, "coarse_width": 16, "latent_channels": 8, "output_width": 12, "output_blocks": 1,
    "denoiser_blocks": 1, "decoder_blocks": 1, "pixel_width": 8, "detail_rank": 2, "flow_widths": [8, 8, 8, 8],
}  # fmt: skip
"""Settings of a small compact network, for a recipe's [network]."""
STAGES = {
    "compact": (
        "autoencoder", "flow", "diffusion", "one_step", "decoder", "temporal", "detail", "pixels", "joint", "restore",
    ),
    "osdenhancer": ("one_step", "tc", "te", "decoder"),
    "dloral": ("flow", "base", "consistency", "detail"),
    "diffst": ("vae", "flow", "latent", "one_step"),
}  # fmt: skip
LOSSES = {
    "autoencoder": "pixel", "flow": "flow", "diffusion": "velocity", "one_step": "between", "decoder": "pixel",
    "temporal": "temporal", "detail": "pixel", "pixels": "plain_fidelity", "tc": "latent", "te": "pixel", "base": "latent",
    "joint": "plain_fidelity", "restore": "pixel", "consistency": "pixel", "vae": "pixel", "latent": "latent",
}  # fmt: skip


def shrink(monkeypatch) -> None:
    """Make the networks that the recipes train from scratch small ones."""
    monkeypatch.setattr(diffst, "SMALL", TINY_DIFFST)
    transformer = {"num_attention_heads": 1, "attention_head_dim": 16, "num_layers": 1, "time_embed_dim": 16}
    monkeypatch.setattr(osdenhancer, "SMALL_TRANSFORMER", osdenhancer.SMALL_TRANSFORMER | transformer)
    monkeypatch.setattr(osdenhancer, "SMALL_RANK", 2)
    unet = {"block_out_channels": (8, 16), "norm_num_groups": 4}
    monkeypatch.setattr(dloral_network, "SMALL_UNET", dloral_network.SMALL_UNET | unet)
    monkeypatch.setattr(dloral_network, "SMALL_RETRIEVAL", {"heads": 2, "dim": 4})
    monkeypatch.setattr(dloral_network, "SMALL_RANKS", {"consistency": 2, "quality": 3})


def write_stage(folder: Path, model: str, stage: str, before: str = "", **changes: object) -> Path:
    """Write the configuration of a stage of two small steps."""
    loss = "latent" if (model, stage) == ("osdenhancer", "one_step") else LOSSES[stage]
    settings = {
        "model": model, "stage": stage, "steps": 2, "batch": 1, "crop_px": 64 if model == "dloral" else 128,
        "keyframes": 2, "precision": "fp32", "warmup_steps": 1, "save_every": 100, "log_every": 1, "workers": 1,
        "start_from": f"{before}.safetensors" if before else "",
        "start_parts": {"target.": "autoencoder.safetensors"} if before and stage == "diffusion" else {},
    } | changes  # fmt: skip
    network = dict(COMPACT) if model == "compact" else {}
    if stage == "temporal":
        network["uses_temporal_expert"] = True
    lines = [f"{name} = {_toml(value)}" for name, value in settings.items() if name not in ("losses", "data")]
    losses = changes.get("losses", {loss: 1.0})
    lines += [
        f"losses = {_toml(losses)}",
        "[network]",
        *(f"{name} = {_toml(value)}" for name, value in network.items()),
    ]
    lines += [
        "[data]",
        *(
            f"{name} = {_toml(v)}"
            for name, v in {"sources": ["."], "photo_share": 0.0, **changes.get("data", {})}.items()
        ),
    ]
    path = folder / f"{stage}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{name}" = {_toml(v)}' for name, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def write_features(path: Path) -> Path:
    """Write SqueezeNet 1.1 with random weights."""
    generator = torch.Generator().manual_seed(0)

    def conv(outputs: int, inputs: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        scale = (2 / (inputs * side * side)) ** 0.5
        return scale * torch.randn(outputs, inputs, side, side, generator=generator), torch.zeros(outputs)

    layers = {"features.0": conv(64, 3, 3)}
    inputs = 64
    for index, squeezed in zip(Perceptual.FIRES, (16, 16, 32, 32, 48, 48, 64, 64), strict=True):
        layers[f"features.{index}.squeeze"] = conv(squeezed, inputs, 1)
        layers[f"features.{index}.expand1x1"] = conv(4 * squeezed, squeezed, 1)
        layers[f"features.{index}.expand3x3"] = conv(4 * squeezed, squeezed, 3)
        inputs = 8 * squeezed
    save_file(
        {f"{n}.{kind}": t for n, pair in layers.items() for kind, t in zip(("weight", "bias"), pair, strict=True)}, path
    )
    return path
