"""Backward warping by optical flow."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def warp(x: Tensor, flow: Tensor, *, padding: Literal["zeros", "border"] = "zeros") -> Tensor:
    """Sample x where the flow points, bilinearly.

    x: [N, C, H, W]; flow: [N, 2, H, W] in pixels, x then y: output(p) = x(p + flow(p)). Outside x lie zeros, or its
    border. Returns [N, C, H, W] in x's dtype; positions are computed in float32.
    """
    height, width = x.shape[-2:]
    rows = torch.arange(height, device=x.device, dtype=torch.float32).view(1, height, 1)
    columns = torch.arange(width, device=x.device, dtype=torch.float32).view(1, 1, width)
    gx = (flow[:, 0].float() + columns) * (2 / max(width - 1, 1)) - 1
    gy = (flow[:, 1].float() + rows) * (2 / max(height - 1, 1)) - 1
    grid = torch.stack([gx, gy], dim=-1).to(x.dtype)  # [N, H, W, 2]
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=True)
