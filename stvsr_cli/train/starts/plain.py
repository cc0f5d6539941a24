"""A start for small autoencoders of CogVideoX's class: they pass frames on as they are, and training goes on from there.

As in `block_start`: residual blocks add nothing, each value goes in with both signs beside a large constant with both signs, so
that group normalisation divides by the constant alone and silu(x) - silu(-x) = x.
"""

import math

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import nn

from stvsr_cli.models.layers.silence import silence

CONSTANT = 10.0
"""Value of the constant channels: large against values in [-1, 1]."""
GROUP = 4
"""Channels of a group: a value with both signs, and the constant with both."""
LOG_VARIANCE = -6.0
"""Of the posterior at the start."""


def start_as_identity(vae: AutoencoderKLCogVideoX) -> None:
    """Set the weights of an autoencoder of one level so that latent and output are the frames themselves.

    Raises ValueError unless it has one level, as many latent channels as colours, and a group of 4 channels for each.
    """
    widths, groups, latent = (
        vae.config["block_out_channels"], vae.config["norm_num_groups"], vae.config["latent_channels"]
    )  # fmt: skip
    if len(widths) != 1 or widths[0] != GROUP * groups or not latent == vae.config["in_channels"] <= groups:
        raise ValueError(f"no identity fits {widths = }, {groups = }, {latent = }")
    for half in (vae.encoder, vae.decoder):
        for module in half.modules():
            if hasattr(module, "conv1") and hasattr(module, "conv2"):
                silence(module.conv2.conv)
        _pairs(half.conv_in.conv, latent)
        _unpair(half.conv_out.conv, latent)
    gain = CONSTANT / math.sqrt(2)
    nn.init.constant_(vae.encoder.norm_out.weight, gain)
    nn.init.constant_(vae.encoder.conv_out.conv.bias[latent:], LOG_VARIANCE)
    nn.init.constant_(vae.decoder.norm_out.norm_layer.weight, gain)
    for module in vae.decoder.modules():
        if hasattr(module, "conv_y"):  # the latent does not modulate the normalisation
            silence(module.conv_y.conv)
            silence(module.conv_b.conv)
            nn.init.ones_(module.conv_y.conv.bias)


@torch.no_grad()
def _pairs(conv: nn.Conv3d, count: int) -> None:
    """Let a convolution give, in a group each, the values of the present pixel and the constant, with both signs."""
    silence(conv)
    for value in range(count):
        for sign, channel in ((1.0, GROUP * value), (-1.0, GROUP * value + 1)):
            conv.weight[channel, value, -1, 1, 1] = sign
            if conv.bias is not None:
                conv.bias[channel + 2] = sign * CONSTANT


@torch.no_grad()
def _unpair(conv: nn.Conv3d, count: int) -> None:
    """Let a convolution give the values of the present pixel from what went in with both signs."""
    silence(conv)
    for value in range(count):
        conv.weight[value, GROUP * value, -1, 1, 1] = 1.0
        conv.weight[value, GROUP * value + 1, -1, 1, 1] = -1.0
