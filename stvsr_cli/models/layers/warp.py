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
    height, width = flow.shape[-2:]
    rows = torch.arange(height, device=flow.device, dtype=torch.float32).view(1, height, 1)
    columns = torch.arange(width, device=flow.device, dtype=torch.float32).view(1, 1, width)
    x_position, y_position = flow[:, 0].float() + columns, flow[:, 1].float() + rows
    if align_corners:
        grid_x = 2 * x_position / max(width - 1, 1) - 1
        grid_y = 2 * y_position / max(height - 1, 1) - 1
    else:
        grid_x = (2 * x_position + 1) / width - 1
        grid_y = (2 * y_position + 1) / height - 1
    return torch.stack([grid_x, grid_y], dim=-1)
