"""A start for small autoencoders of Wan's class: a block cosine transform, which training then improves.

From random weights such an autoencoder needs hours on a CPU until it passes on fine detail; as a truncated block transform it does so from
the first step. Every residual block starts by adding nothing. What is left is conv_in, a normalisation, SiLU and
conv_out, which pass values on linearly: a large constant channel holds the normalisation's divisor still, and each
value goes in with both signs, since silu(x) - silu(-x) = x.
"""

import math

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from stvsr_cli.models.layers.silence import silence

CONSTANT = 40.0
"""Value of the constant channel: large against a patch of values in [-1, 1]."""
LOG_VARIANCE = -6.0
"""Of the posterior at the start."""


def fits_block_transform(vae: AutoencoderKLWan) -> bool:
    """Return whether an autoencoder has one level, patches, and at least 2 * z_dim + 1 channels."""
    patch, latent, width = vae.config["patch_size"], vae.config["z_dim"], vae.config["base_dim"]
    return bool(patch) and len(vae.config["dim_mult"]) == 1 and 2 * latent < width and latent <= 3 * patch * patch


def start_as_block_transform(vae: AutoencoderKLWan) -> None:
    """Set the weights of an autoencoder of one level so that it codes patches by their lowest cosine coefficients.

    Raises ValueError unless it fits.
    """
    if not fits_block_transform(vae):
        raise ValueError(f"no block transform fits {dict(vae.config)}")
    patch, latent, width = vae.config["patch_size"], vae.config["z_dim"], vae.config["base_dim"]
    basis = cosine_basis(patch)[:latent]  # [latent, 3 * patch * patch]
    with torch.no_grad():
        for half in (vae.encoder, vae.decoder):
            _add_nothing(half)
            half.norm_out.gamma.fill_(CONSTANT / math.sqrt(width))
        _pairs_in(vae.encoder.conv_in, basis)
        _pairs_out(vae.encoder.conv_out, torch.eye(latent))
        nn.init.constant_(bias_of(vae.encoder.conv_out)[latent:], LOG_VARIANCE)
        for conv in (vae.quant_conv, vae.post_quant_conv):
            _central(conv, torch.eye(conv.weight.shape[0]))
        _pairs_in(vae.decoder.conv_in, torch.eye(latent))
        _pairs_out(vae.decoder.conv_out, basis.T)


def cosine_basis(patch: int) -> Tensor:
    """Return the orthonormal transform of a colour patch, [3 * patch * patch, 3 * patch * patch].

    Columns: colour, column and row of the pixel, as Wan's patches hold them. Rows: brightness by rising frequency, then both
    colour differences together by rising frequency.
    """
    place = torch.arange(patch, dtype=torch.float64)
    wave = torch.cos(math.pi * (place[None] + 0.5) * place[:, None] / patch) * math.sqrt(2 / patch)
    wave[0] /= math.sqrt(2)
    colour = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)
    colour /= colour.norm(dim=1, keepdim=True)
    order = sorted(((u, v) for u in range(patch) for v in range(patch)), key=lambda uv: (sum(uv), uv))
    spatial = [torch.outer(wave[v], wave[u]).flatten() for u, v in order]
    rows = [torch.outer(colour[0], w).flatten() for w in spatial]
    rows += [torch.outer(colour[c], w).flatten() for w in spatial for c in (1, 2)]
    return torch.stack(rows).float()


def _add_nothing(half: nn.Module) -> None:
    """Let every residual and attention block of an encoder or decoder start by adding nothing."""
    for module in half.modules():
        last = getattr(module, "conv2", None) if hasattr(module, "conv1") else getattr(module, "proj", None)
        if last is not None:
            silence(last)


def _pairs_in(conv: nn.Conv3d, matrix: Tensor) -> None:
    """Let a convolution give each row of a matrix times the present pixel, with both signs, and the constant."""
    rows = matrix.shape[0]
    full = torch.zeros(conv.weight.shape[:2])
    full[:rows], full[rows : 2 * rows] = matrix, -matrix
    _central(conv, full)
    nn.init.constant_(bias_of(conv)[2 * rows], CONSTANT)


def _pairs_out(conv: nn.Conv3d, matrix: Tensor) -> None:
    """Let a convolution give a matrix times the values that come with both signs."""
    rows, columns = matrix.shape
    full = torch.zeros(conv.weight.shape[:2])
    full[:rows, :columns], full[:rows, columns : 2 * columns] = matrix, -matrix
    _central(conv, full)


def _central(conv: nn.Conv3d, matrix: Tensor) -> None:
    """Set the tap of the present frame (the last: convolutions are causal in time) and the same place; zero the others."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(bias_of(conv))
    height, width = conv.weight.shape[-2:]
    conv.weight[:, :, -1, height // 2, width // 2] = matrix


def bias_of(conv: nn.Conv2d | nn.Conv3d) -> Tensor:
    """Return the bias of a convolution. Raises ValueError if it has none."""
    if conv.bias is None:
        raise ValueError("the convolution has no bias")
    return conv.bias
