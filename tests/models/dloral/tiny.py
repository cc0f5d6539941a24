"""DLoRAL's published layout with tiny networks."""

import json
import warnings

from diffusers import UNet2DConditionModel

from stvsr_cli.models.dloral.base import build_vae
from stvsr_cli.models.dloral.published import EXPERTS, PARTS
from tests.clips import PARITY

TINY_UNET = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": [2, 4],
    "cross_attention_dim": 32,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "in_channels": 4,
    "out_channels": 4,
    "use_linear_projection": True,
}
TINY_VAE = {
    "block_out_channels": [8, 8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
}
RANKS = {"quality": 3, "consistency": 2}
TARGETS = {
    "encoder": ["conv_in", "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", "downsamplers.0.conv"],
    "decoder": ["conv_out", "up_blocks.0.resnets.0.conv1", "up_blocks.0.resnets.0.conv_shortcut"],
    "others": ["mid_block.attentions.0.proj_in"],
}
"""Some by the end of their names only, and not all that the authors adapt."""


def shapes(module):
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def adapted_unet():
    """The tiny UNet as PEFT leaves it, with all six adapters at full strength."""
    from peft import LoraConfig

    unet = UNet2DConditionModel.from_config({**TINY_UNET, "in_channels": 8})
    for expert in EXPERTS:
        for part in PARTS:
            config = LoraConfig(r=RANKS[expert], target_modules=TARGETS[part])
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
                unet.add_adapter(config, adapter_name=f"default_{part}_{expert}")
    unet.set_adapter([f"default_{part}_{expert}" for part in PARTS for expert in EXPERTS])
    return unet.eval()


def tiny_spec():
    """The specification of a checkpoint in the published layout, for `make_checkpoint`."""
    spec = json.loads((PARITY / "dloral.json").read_text())
    spec["texts"]["base/unet/config.json"] = json.dumps(TINY_UNET)
    spec["texts"]["base/vae/config.json"] = json.dumps(TINY_VAE)
    del spec["safetensors"]["base/unet/diffusion_pytorch_model.safetensors"]
    spec["safetensors"]["base/vae/diffusion_pytorch_model.safetensors"] = shapes(build_vae(TINY_VAE))
    tree = spec["pickles"]["model.pkl"]
    tree["state_dict_unet"] = {"tensors": shapes(adapted_unet())}
    for expert in EXPERTS:
        tree[f"lora_rank_unet_{expert}"] = RANKS[expert]
        for part in PARTS:
            tree[f"unet_lora_{part}_modules_{expert}"] = TARGETS[part]
    return spec
