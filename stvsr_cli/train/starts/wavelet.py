"""A start for small autoencoders of Stable Diffusion's class: a transform to two bands a direction, which loses next to nothing.

As in `block_start`: residual blocks add nothing, and each value passes a normalisation with both signs beside a large constant with
both signs, so that the normalisation divides by the constant alone and silu(x) - silu(-x) = x.
"""

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from stvsr_cli.models.layers.silence import silence
from stvsr_cli.train.starts.block import bias_of
from stvsr_cli.train.starts.plain import CONSTANT, LOG_VARIANCE

BANDS = 2
"""Low and high, in each direction."""
COLOURS = 3
ANALYSIS = ((0.678, 0.619, -0.242), (0.644, -0.937, 0.391))
"""By band: taps at the two pixels of a position and the one after them."""
MIXING = (((-0.113, 0.963, -0.010), (0.420, -0.008, -0.342)), ((-0.083, 0.137, -0.006), (0.309, 1.032, 0.236)))
"""By band and band it is made from: taps at a position and both its neighbours."""
SYNTHESIS = ((0.266, 0.598, 0.254), (-0.692, -0.159, 0.854))
"""By band: taps at a pixel and both its neighbours, after positions were doubled. A stride of 2 with doubling has no exact inverse at the
highest frequency; these three were fitted together to signals whose amplitude falls with the frequency."""


def start_as_wavelet(vae: AutoencoderKL) -> None:
    """Set the weights of an autoencoder of two levels so that its latent is the four bands of each colour.

    Raises ValueError unless it has two levels, 12 latent channels, groups for the colours, and room in them for both signs.
    """
    widths, groups, latent = (
        vae.config["block_out_channels"], vae.config["norm_num_groups"], vae.config["latent_channels"]
    )  # fmt: skip
    fits = len(widths) == 2 and latent == COLOURS * BANDS**2 and groups == COLOURS
    if not fits or widths[0] < 4 * COLOURS or widths[1] <= 2 * latent:
        raise ValueError(f"no wavelet fits {widths = }, {groups = }, {latent = }")
    for module in vae.modules():
        if hasattr(module, "conv1") and hasattr(module, "conv2"):
            silence(module.conv2)
        elif hasattr(module, "to_out"):
            silence(module.to_out[0])
    eye = torch.eye(COLOURS)
    encoder, decoder = vae.encoder, vae.decoder
    _set(encoder.conv_in, eye[:, :, None, None])
    _set(encoder.down_blocks[0].downsamplers[0].conv, _colourwise(_separable(ANALYSIS)[:, None]))
    _pairs(encoder.down_blocks[1].resnets[0].conv_shortcut, encoder.conv_norm_out, latent)
    mixing = torch.einsum("abi,cdj->acbdij", torch.tensor(MIXING), torch.tensor(MIXING)).reshape(4, 4, 3, 3)
    _unpair(encoder.conv_out, _colourwise(mixing), groups)
    nn.init.constant_(bias_of(encoder.conv_out)[latent:], LOG_VARIANCE)
    for conv in (vae.quant_conv, vae.post_quant_conv):
        _set(conv, torch.eye(conv.weight.shape[0])[:, :, None, None])
    _set(decoder.conv_in, torch.eye(latent)[:, :, None, None])
    _set(decoder.up_blocks[0].upsamplers[0].conv, _colourwise(_separable(SYNTHESIS)[None]))
    _pairs(decoder.up_blocks[1].resnets[0].conv_shortcut, decoder.conv_norm_out, COLOURS)
    _unpair(decoder.conv_out, eye[:, :, None, None], groups)


def _separable(taps: tuple[tuple[float, ...], ...]) -> Tensor:
    """Return the kernels of the bands in two directions, [4, 3, 3]."""
    return torch.einsum("ai,bj->abij", torch.tensor(taps), torch.tensor(taps)).reshape(4, 3, 3)


def _colourwise(kernels: Tensor) -> Tensor:
    """Return kernels [O, I, k, k] as those of all colours, one after the other: [3 * O, 3 * I, k, k]."""
    outputs, inputs, *size = kernels.shape
    full = kernels.new_zeros(COLOURS, outputs, COLOURS, inputs, *size)
    for colour in range(COLOURS):
        full[colour, :, colour] = kernels
    return full.reshape(COLOURS * outputs, COLOURS * inputs, *size)


@torch.no_grad()
def _set(conv: nn.Conv2d, kernels: Tensor) -> None:
    """Let a convolution be these kernels [O, I, k, k] in its first channels, around the middle tap, and zero elsewhere."""
    silence(conv)
    lead = (conv.weight.shape[-1] - kernels.shape[-1]) // 2
    size = kernels.shape[-1]
    conv.weight[: kernels.shape[0], : kernels.shape[1], lead : lead + size, lead : lead + size] = kernels


@torch.no_grad()
def _pairs(conv: nn.Conv2d, norm: nn.GroupNorm, count: int) -> None:
    """Let a convolution give each value with both signs and fill its group with the constant; the normalisation keeps them."""
    silence(conv)
    width, held = conv.weight.shape[0] // COLOURS, count // COLOURS
    for colour in range(COLOURS):
        first = colour * width
        for value in range(held):
            for sign, place in ((1.0, 2 * value), (-1.0, 2 * value + 1)):
                conv.weight[first + place, colour * held + value, 0, 0] = sign
        constants = bias_of(conv)[first + 2 * held : first + width]
        constants[0::2], constants[1::2] = CONSTANT, -CONSTANT
    nn.init.constant_(norm.weight, CONSTANT * ((width - 2 * held) / width) ** 0.5)


@torch.no_grad()
def _unpair(conv: nn.Conv2d, kernels: Tensor, groups: int) -> None:
    """Let a convolution be these kernels [O, I, k, k] on the values that `_pairs` gave with both signs."""
    inputs = kernels.shape[1]
    width, held = conv.weight.shape[1] // groups, inputs // groups
    plain = torch.zeros(kernels.shape[0], conv.weight.shape[1], *kernels.shape[2:])
    for value in range(inputs):
        place = value // held * width + 2 * (value % held)
        plain[:, place], plain[:, place + 1] = kernels[:, value], -kernels[:, value]
    _set(conv, plain)
