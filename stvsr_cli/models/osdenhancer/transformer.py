"""The CogVideoX transformer with the motion residual's embedding and the gated temporal expert."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import Tensor, nn

from stvsr_cli.models.osdenhancer.adapters import ADAPTER_RANK, GatedBlock


class ResidualEmbedding(nn.Module):
    """Turns the motion residual's latent into the gates of the temporal expert, one vector a video token."""

    def __init__(self, *, in_channels: int, dim: int, patch_size: int, patch_size_t: int | None) -> None:
        super().__init__()
        self.patch_size, self.patch_size_t = patch_size, patch_size_t or 1
        in_features = in_channels * self.patch_size**2 * self.patch_size_t
        self.res_proj = nn.Linear(in_features, dim)
        self.res_ff0_proj = nn.Linear(in_features, 4 * dim)

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gate [B, tokens, D] and the wide gate [B, tokens, 4 * D] of a latent [B, T, C, H, W]."""
        batch, num_frames, channels, height, width = residual.shape
        patch, patch_t = self.patch_size, self.patch_size_t
        magnitude = (
            residual.clamp(-1, 1)
            .abs()
            .reshape(batch, num_frames // patch_t, patch_t, channels, height // patch, patch, width // patch, patch)
        )
        # [B, t, pt, C, h, p, w, p] -> [B, t, h, w, C, pt, p, p] -> [B, tokens, C * pt * p * p]
        patches = magnitude.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(4).flatten(1, 3)
        return self.res_proj(patches), self.res_ff0_proj(patches)


class ResidualGatedTransformer(CogVideoXTransformer3DModel):  # type: ignore[misc]
    """CogVideoX's transformer whose blocks are `GatedBlock`s, gated by the motion residual."""

    _no_split_modules = ["GatedBlock", "CogVideoXPatchEmbed"]

    def __init__(self, *, adapter_rank: int = ADAPTER_RANK, **config: Any) -> None:
        super().__init__(**config)
        config = dict(self.config)
        dim = config["num_attention_heads"] * config["attention_head_dim"]
        kept = (
            "num_attention_heads",
            "attention_head_dim",
            "time_embed_dim",
            "dropout",
            "activation_fn",
            "attention_bias",
            "norm_elementwise_affine",
            "norm_eps",
        )
        block_config = {name: config[name] for name in kept}
        self.transformer_blocks = nn.ModuleList(
            GatedBlock(dim=dim, rank=adapter_rank, **block_config) for _ in range(config["num_layers"])
        )
        self.res_patch = ResidualEmbedding(
            in_channels=config["in_channels"],
            dim=dim,
            patch_size=config["patch_size"],
            patch_size_t=config["patch_size_t"],
        )

    def forward(
        self,
        latent: Tensor,
        residual: Tensor,
        prompt: Tensor,
        timestep: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """Return the velocity prediction of a latent, of its shape.

        latent, residual: [B, T, C, H, W], T a multiple of `patch_size_t`, H and W of `patch_size`.
        prompt: [B, L, text_embed_dim]. timestep: [B]. rotary: what `rotary_embedding` gives for the latent.
        """
        gate, wide_gate = self.res_patch(residual)
        prediction: Tensor = super().forward(
            hidden_states=latent,
            encoder_hidden_states=prompt,
            timestep=timestep,
            image_rotary_emb=rotary,
            attention_kwargs={"gate": gate, "wide_gate": wide_gate},
            return_dict=False,
        )[0]
        return prediction


def rotary_embedding(
    config: Mapping[str, Any], num_frames: int, height: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """Return the cosines and sines for a latent of this size, each [tokens, head size], or None where none are used.

    CogVideoX 1.5 (with `patch_size_t`) counts positions from zero; 1.0 stretches its training size over the grid.
    """
    if not config["use_rotary_positional_embeddings"]:
        return None
    patch, patch_t, head_size = config["patch_size"], config["patch_size_t"], config["attention_head_dim"]
    grid = (height // patch, width // patch)
    if patch_t is None:
        base = (config["sample_height"] // patch, config["sample_width"] // patch)
        cos, sin = get_3d_rotary_pos_embed(head_size, _centred_fit(grid, base), grid, num_frames, device=device)
    else:
        cos, sin = get_3d_rotary_pos_embed(
            head_size, None, grid, -(-num_frames // patch_t), grid_type="slice", max_size=grid, device=device
        )
    return cos, sin


def _centred_fit(grid: tuple[int, int], base: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the corners, in the base grid, of the largest centred rectangle with the grid's shape (CogVideoX 1.0)."""
    (height, width), (base_height, base_width) = grid, base
    if height / width > base_height / base_width:
        fitted = (base_height, round(base_height / height * width))
    else:
        fitted = (round(base_width / width * height), base_width)
    top, left = round((base_height - fitted[0]) / 2), round((base_width - fitted[1]) / 2)
    return (top, left), (top + fitted[0], left + fitted[1])
