"""Models with random weights, at full size or a tiny one, on any device, the meta device too.

They compute what the real ones compute, in the same time and memory; their pictures mean nothing.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, CogVideoXDPMScheduler, UNet2DConditionModel
from torch import nn

from stvsr_cli.models import linear
from stvsr_cli.models.compact import CompactModel
from stvsr_cli.models.compact.config import CompactConfig
from stvsr_cli.models.compact.network import CompactNetwork
from stvsr_cli.models.contract import OneStepModel
from stvsr_cli.models.diffst import SIZES, DiffST, new_network
from stvsr_cli.models.diffst.network import fill_positions
from stvsr_cli.models.dloral import DLoRAL
from stvsr_cli.models.dloral.retrieval import CrossFrameRetrieval
from stvsr_cli.models.dloral.vae import FrameCodec
from stvsr_cli.models.osdenhancer import OSDEnhancer
from stvsr_cli.models.osdenhancer.decoder import BidirectionalAutoencoder
from stvsr_cli.models.osdenhancer.transformer import ResidualGatedTransformer

Network = TypeVar("Network", bound=nn.Module)
COGVIDEOX_1_5_5B: dict[str, Any] = {
    "num_attention_heads": 48,
    "attention_head_dim": 64,
    "num_layers": 42,
    "in_channels": 16,
    "out_channels": 16,
    "text_embed_dim": 4096,
    "time_embed_dim": 512,
    "max_text_seq_length": 226,
    "patch_size": 2,
    "patch_size_t": 2,
    "patch_bias": False,
    "sample_height": 300,
    "sample_width": 300,
    "sample_frames": 81,
    "use_rotary_positional_embeddings": True,
}
"""diffusers' conversion of CogVideoX1.5-5B (text to video)."""
COGVIDEOX_VAE: dict[str, Any] = {"sample_height": 480, "sample_width": 720, "scaling_factor": 0.7}
"""The rest is diffusers' default."""
SD21_UNET: dict[str, Any] = {
    "act_fn": "silu",
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "use_linear_projection": True,
}
SD21_VAE: dict[str, Any] = {
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 768,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}

TINY_COGVIDEOX = COGVIDEOX_1_5_5B | {
    "num_attention_heads": 2, "attention_head_dim": 32, "num_layers": 2, "text_embed_dim": 32, "time_embed_dim": 32,
    "max_text_seq_length": 8,
}  # fmt: skip
TINY_COGVIDEOX_VAE = COGVIDEOX_VAE | {"block_out_channels": [32] * 4, "layers_per_block": 1}
TINY_UNET = SD21_UNET | {
    "block_out_channels": [32, 64, 64, 64], "attention_head_dim": [2, 4, 4, 4], "cross_attention_dim": 32,
    "layers_per_block": 1,
}  # fmt: skip
TINY_VAE = SD21_VAE | {"block_out_channels": [32] * 4, "layers_per_block": 1}


TINY_COMPACT = CompactConfig(
    width=16, middle_width=16, coarse_width=16, output_width=16, output_blocks=1, uses_alignment=False,
    uses_guidance=False, uses_retrieval=False, uses_temporal_expert=False,
)  # fmt: skip


def build(
    name: str, size: str, device: torch.device, dtype: torch.dtype, config: CompactConfig | None = None
) -> OneStepModel:
    """A model with random weights. size: full or tiny. config: of the compact model; None: its default."""
    torch.manual_seed(0)
    full = size == "full"
    if name == "linear":
        return linear.load(device)
    if name == "compact":
        network = CompactNetwork((config or CompactConfig()) if full else TINY_COMPACT).eval().requires_grad_(False)
        network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return CompactModel(network, (), device, dtype)
    systems: dict[str, Callable[[bool, torch.device, torch.dtype], OneStepModel]] = {
        "osdenhancer": _osdenhancer, "dloral": _dloral, "diffst": _diffst}  # fmt: skip
    return systems[name](full, device, dtype)


def _ready(network: Network, device: torch.device, dtype: torch.dtype) -> Network:
    """A network without gradients on a device; what computes in float32 whatever the precision stays so."""
    kept = [name for name, _ in network.named_parameters() if name.startswith("flow.") or ".dcn_pack." in name]
    kept += [
        name
        for part in getattr(network, "_keep_in_fp32_modules", None) or ()
        for name, _ in network.named_parameters()
        if part in name.split(".")
    ]
    nn.Module.to(network, device=device, dtype=dtype)  # without diffusers' warning about what stays in float32
    for name in kept:
        network.get_parameter(name).data = network.get_parameter(name).data.float()
    return network.requires_grad_(False).eval()


def _osdenhancer(full: bool, device: torch.device, dtype: torch.dtype) -> OSDEnhancer:
    settings = COGVIDEOX_1_5_5B if full else TINY_COGVIDEOX
    with device:
        transformer = ResidualGatedTransformer(**settings)
        vae = BidirectionalAutoencoder(**(COGVIDEOX_VAE if full else TINY_COGVIDEOX_VAE))
        prompt = torch.randn(1, settings["max_text_seq_length"], settings["text_embed_dim"], dtype=dtype)
    scheduler = CogVideoXDPMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=1.0, timestep_spacing="trailing"
    )
    return OSDEnhancer(_ready(transformer, device, dtype), _ready(vae, device, dtype), scheduler, prompt)


def _dloral(full: bool, device: torch.device, dtype: torch.dtype) -> DLoRAL:
    config = SD21_UNET if full else TINY_UNET
    with device:
        unet = UNet2DConditionModel.from_config({**config, "in_channels": 8})
        vae = AutoencoderKL.from_config(SD21_VAE if full else TINY_VAE)
        retrieval = CrossFrameRetrieval(4)
        prompt = torch.randn(1, 77, config["cross_attention_dim"], dtype=dtype)
    codec = FrameCodec(_ready(vae, device, dtype), tile_px=None, posterior="mode", on_card=device.type == "cuda")
    return DLoRAL(_ready(unet, device, dtype), codec, _ready(retrieval, device, dtype), prompt)


def _diffst(full: bool, device: torch.device, dtype: torch.dtype) -> DiffST:
    with device:
        network = new_network(SIZES["full" if full else "small"])
    _ready(network.transformer, device, dtype)
    _ready(network.vae, device, dtype)
    if device.type == "meta":
        fill_positions(network.transformer, device)
    network.tile(512)
    return DiffST(network.requires_grad_(False).eval())
