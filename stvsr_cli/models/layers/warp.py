"""Backward warping by optical flow."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Sampling = Literal["bilinear", "bicubic"]


def warp(
    x: Tensor,
    flow: Tensor,
    padding: Literal["zeros", "border"] = "zeros",
    align_corners: bool = True,
    sampling: Sampling = "bilinear",
) -> Tensor:
    """Sample x where the flow points: output(p) = x(p + flow(p)).

    x: [N, C, H, W]. flow: [N, 2, H, W] in pixels, x then y. padding: what lies outside x, zeros or its border.
    align_corners: whether outside begins at the centres of the outermost pixels, or at their outer edges.
    sampling: bilinear, or bicubic, which keeps more of what is fine and may overshoot.
    Returns [N, C, H, W] in x's dtype; positions and weights are float32 whatever that is.
    """
    grid = sampling_grid(flow, align_corners)
    sampled = functional.grid_sample(x.float(), grid, mode=sampling, padding_mode=padding, align_corners=align_corners)
    return sampled.to(x.dtype)


def sampling_grid(flow: Tensor, align_corners: bool = True) -> Tensor:
    """Where a flow points, as `grid_sample` wants it: flow as for `warp`, [N, 2, H, W]. Returns [N, H, W, 2], float32."""
    flow = flow.float()
    rows, row_step = _places(flow.shape[-2], align_corners, flow.device)
    columns, column_step = _places(flow.shape[-1], align_corners, flow.device)
    if torch.is_grad_enabled():
        x, y = torch.add(columns, flow[:, 0], alpha=column_step), torch.add(rows[:, None], flow[:, 1], alpha=row_step)
        return torch.stack([x, y], dim=-1)
    grid = flow.new_empty(len(flow), *flow.shape[-2:], 2)  # written in place: joining takes longer than all the rest
    torch.add(columns, flow[:, 0], alpha=column_step, out=grid[..., 0])
    torch.add(rows[:, None], flow[:, 1], alpha=row_step, out=grid[..., 1])
    return grid


def _places(size: int, align_corners: bool, device: torch.device) -> tuple[Tensor, float]:
    """Positions along an axis from -1 to 1, [size], float32, and the step from pixel to pixel."""
    step = 2 / max(size - 1, 1) if align_corners else 2 / size
    first = -1.0 if align_corners else step / 2 - 1
    return torch.arange(size, device=device, dtype=torch.float32) * step + first, step
