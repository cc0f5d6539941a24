"""Channel cross-attention: attention between channels instead of positions ("transposed", Zamir et al. 2022)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelCrossAttention(nn.Module):
    """Adds to a feature what another one holds, weighted by how alike their channels are over all positions.

    The attention matrix is [C / heads, C / heads] a head, so memory is linear in the number of positions.
    Starts as the identity: the output projection is zero.
    """

    def __init__(self, channels: int, *, num_heads: int = 8) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels = } must be a multiple of {num_heads = }")
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.q_proj = nn.Conv2d(channels, channels, 1, bias=False)
        self.kv_proj = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.q_dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.kv_dwconv = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)
        nn.init.zeros_(self.project_out.weight)

    def forward(self, features: Tensor, other: Tensor) -> Tensor:
        """Return `features` enriched by `other`, both [B, C, H, W]."""
        query = self.q_dwconv(self.q_proj(features))
        key, value = self.kv_dwconv(self.kv_proj(other)).chunk(2, dim=1)
        query, key, value = (  # [B, heads, C / heads, H * W]
            part.flatten(2).unflatten(1, (self.num_heads, -1)) for part in (query, key, value)
        )
        similarity = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        attended = (similarity * self.temperature).softmax(dim=-1) @ value
        added: Tensor = self.project_out(attended.reshape(features.shape))
        return features + added
