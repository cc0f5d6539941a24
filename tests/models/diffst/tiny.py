"""A DiffST small enough for tests, with every part taking effect."""

from dataclasses import replace

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from stvsr_cli.models.diffst.config import DiffSTConfig, Size
from stvsr_cli.models.diffst.network import DiffSTNetwork, new_network

OWN = DiffSTConfig(
    flow_widths=(4, 4, 4, 4), flow_radius=1, aggregation_width=8, guidance_frames=4, guidance_px=32, guidance_width=16,
    guidance_depth=1, guidance_heads=2, guidance_tokens=3, lora_rank=2,
)  # fmt: skip
TINY = Size(
    own=OWN,
    transformer={
        "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": 8,
        "freq_dim": 16, "ffn_dim": 32, "num_layers": 2,
    },
    vae={
        "base_dim": 4, "z_dim": 4, "dim_mult": [1, 2, 4], "num_res_blocks": 1, "temperal_downsample": [False, True],
        "latents_mean": [0.1, -0.2, 0.0, 0.3], "latents_std": [0.5, 0.4, 0.6, 0.5],
        "scale_factor_spatial": 4, "scale_factor_temporal": 2,
    },
)  # fmt: skip


def lively(network: DiffSTNetwork) -> DiffSTNetwork:
    """Fill what starts at zero, so that every part takes effect."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in network.named_parameters():
        if not parameter.detach().any() and parameter.ndim > 1:
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.02 if "flow" in name else 0.1))
    return network


def tiny(own: DiffSTConfig = OWN) -> DiffSTNetwork:
    torch.manual_seed(0)
    return lively(new_network(replace(TINY, own=own)))


def clip(num_frames=2, height=16, width=16, batch=1, seed=0):
    return torch.rand(batch, num_frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


def write_wan(folder):
    """Write Wan in diffusers' own layout, the transformer in shards; return the folder."""
    torch.manual_seed(1)
    WanTransformer3DModel(**TINY.transformer).save_pretrained(folder / "transformer", max_shard_size="30KB")
    AutoencoderKLWan(**TINY.vae).save_pretrained(folder / "vae")
    return folder
