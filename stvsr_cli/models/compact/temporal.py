"""The temporal expert: low-rank adapters on the denoiser, gated by the motion residual.

After the TC-LoRA of OSDEnhancer (arXiv 2601.20308). Where nothing moves the gate is zero and the expert changes
nothing; because the gate differs from place to place it cannot be merged into the weights.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional


class GatedAdapter(nn.Module):
    """A low-rank 3x3 convolution whose inner channels a gate multiplies."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(width, rank, 3, padding=1, bias=False)
        self.up = nn.Conv2d(rank, width, 1, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """x: [N, C, H, W]; gate: [N, rank, H, W]. Returns what to add, [N, C, H, W]."""
        added: Tensor = self.up(self.down(x) * gate)
        return added


class TemporalExpert(nn.Module):
    """One adapter for each block of the denoiser, and the gate they share."""

    def __init__(self, widths: Iterable[int], channels: int, rank: int) -> None:
        """widths: of the blocks, in their order. channels: of the motion residual on the latent grid."""
        super().__init__()
        self.gate = nn.Conv2d(channels, rank, 1, bias=False)
        self.adapters = nn.ModuleList(GatedAdapter(width, rank) for width in widths)
        with torch.no_grad():
            self.gate.weight.abs_()

    def gates(self, residual: Tensor) -> list[Tensor]:
        """Gates on the latent grid, on half and on a quarter of it.

        residual: [B*T, channels, H, W], the motion residual on the latent grid. Returns three of [B*T, rank, ., .].
        """
        gate = self.gate(residual.abs().clamp(max=1))
        return [gate, functional.avg_pool2d(gate, 2), functional.avg_pool2d(gate, 4)]
