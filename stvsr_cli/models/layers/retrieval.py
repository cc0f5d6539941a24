"""Cross-frame retrieval: attention that keeps only what is similar enough, and adds nothing where nothing is.

After DLoRAL (arXiv 2506.15591): no softmax, but similarities above a threshold that each query predicts.
"""

import torch
from torch import Tensor, nn

BLOCK_BYTES = 256 * 2**20
"""Bytes of similarities held at a time."""


def thresholded_attention(
    query: Tensor, key: Tensor, value: Tensor, threshold: Tensor, *, block_bytes: int = BLOCK_BYTES
) -> Tensor:
    """Return relu(query @ key^T - threshold) @ value, in blocks of queries and exact: memory is linear in positions.

    query: [N, Q, D]; key: [N, K, D]; value: [N, K, E]; threshold: [N, Q, 1]. Returns [N, Q, E].
    Raises ValueError if block_bytes is not positive.
    """
    if block_bytes <= 0:
        raise ValueError(f"{block_bytes = } must be positive")
    num, num_queries, _ = query.shape
    rows = max(1, block_bytes // (num * key.shape[1] * query.element_size()))
    transposed = key.transpose(1, 2)
    blocks = []
    for start in range(0, num_queries, rows):
        block = slice(start, start + rows)
        # [N, rows, K] without a name, so that only one block of it is alive
        blocks.append(torch.bmm(torch.baddbmm(-threshold[:, block], query[:, block], transposed).relu_(), value))
    return torch.cat(blocks, dim=1)


class FrameRetrieval(nn.Module):
    """Adds to a frame's features what is similar in another frame's."""

    def __init__(self, channels: int = 4, *, heads: int = 9, dim: int = 64, temperature: float = 3000.0) -> None:
        """channels: of the features. heads, dim: of the attention. temperature: similarities are divided by it."""
        super().__init__()
        self.heads, self.dim, self.temperature = heads, dim, temperature
        self.query_conv = nn.Conv2d(channels, heads * dim, 1)
        self.key_conv = nn.Conv2d(channels, heads * dim, 1)
        self.value_conv = nn.Conv2d(channels, heads * dim, 1)
        self.proj_out = nn.Conv2d(heads * dim, channels, 1)
        self.threshold_fc = nn.Linear(dim, 1)

    def forward(self, features: Tensor, aligned: Tensor, *, block_bytes: int = BLOCK_BYTES) -> Tensor:
        """features: [N, C, H, W], the queries; aligned: the same shape, keys and values. Returns [N, C, H, W].

        The attention is in the layers' precision, the sum in that of `features`.
        """
        known = aligned.to(self.key_conv.weight.dtype)
        query = self._heads(self.query_conv(features.to(known.dtype)))
        key, value = self._heads(self.key_conv(known)), self._heads(self.value_conv(known))
        threshold = self.threshold_fc(query)
        # the temperature divides the values, so that the sums over thousands of positions fit half precision
        found = thresholded_attention(
            query * self.dim**-0.5, key, value / self.temperature, threshold, block_bytes=block_bytes
        )
        height, width = features.shape[-2:]
        found = found.transpose(1, 2).reshape(-1, self.heads * self.dim, height, width)
        projected: Tensor = self.proj_out(found)
        return features + projected.to(features.dtype)

    def _heads(self, x: Tensor) -> Tensor:
        """[N, heads * D, H, W] -> [N * heads, H * W, D]."""
        return x.reshape(x.shape[0] * self.heads, self.dim, -1).transpose(1, 2)
