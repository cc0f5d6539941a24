"""Backward warping moves pixels by exactly the flow."""

import pytest
import torch

from stvsr_cli.models.layers.warp import warp


def flow_of(dx: float, dy: float, height: int, width: int) -> torch.Tensor:
    return torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(1, 2, height, width)


@pytest.mark.parametrize("align_corners", [True, False])
def test_zero_flow_changes_nothing(align_corners):
    x = torch.rand(2, 3, 5, 7)
    torch.testing.assert_close(warp(x, torch.zeros(2, 2, 5, 7), align_corners=align_corners), x)


@pytest.mark.parametrize("align_corners", [True, False])
def test_whole_pixels_move_x_then_y_and_zeros_come_in(align_corners):
    x = torch.rand(1, 2, 6, 8)
    out = warp(x, flow_of(2, -1, 6, 8), align_corners=align_corners)
    torch.testing.assert_close(out[:, :, 1:, :-2], x[:, :, :-1, 2:], atol=1e-5, rtol=0)
    assert out[:, :, :, -2:].abs().max() < 1e-5
    assert out[:, :, 0].abs().max() < 1e-5


def test_border_padding_repeats_the_edge():
    x = torch.rand(1, 1, 4, 6)
    out = warp(x, flow_of(3, 0, 4, 6), padding="border")
    torch.testing.assert_close(out[..., -3:], x[..., -1:].expand(1, 1, 4, 3))


def test_half_a_pixel_is_the_mean_of_two():
    x = torch.rand(1, 1, 3, 9)
    out = warp(x, flow_of(0.5, 0, 3, 9))
    torch.testing.assert_close(out[..., :-1], (x[..., :-1] + x[..., 1:]) / 2)


def test_low_precision_does_not_blur_positions():
    x = torch.rand(1, 1, 2, 1000).bfloat16()
    out = warp(x, flow_of(1, 0, 2, 1000).bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out[..., :-1], x[..., 1:], atol=4e-3, rtol=0)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1)])
def test_one_pixel_sides(shape):
    x = torch.rand(1, 1, *shape)
    torch.testing.assert_close(warp(x, torch.zeros(1, 2, *shape)), x)


def test_gradient_reaches_the_flow():
    flow = torch.full((1, 2, 4, 4), 0.3, requires_grad=True)
    warp(torch.rand(1, 1, 4, 4), flow).sum().backward()
    assert flow.grad is not None and flow.grad.abs().sum() > 0


def test_bicubic_sampling_keeps_what_is_fine() -> None:
    """Half a pixel aside, a fine wave loses less than bilinearly; whole pixels aside nothing changes."""
    x = torch.sin(torch.arange(32) * 1.6).expand(1, 1, 8, 32).contiguous()
    half, whole = torch.zeros(2, 1, 2, 8, 32)
    half[:, 0], whole[:, 0] = 0.5, 3.0
    wanted = torch.sin((torch.arange(32) + 0.5) * 1.6)[4:28]
    errors = [
        float((warp(x, half, padding="border", sampling=how)[0, 0, 4, 4:28] - wanted).abs().max())
        for how in ("bilinear", "bicubic")
    ]
    assert errors[1] < 0.6 * errors[0]
    assert torch.allclose(warp(x, whole, sampling="bicubic")[..., :28], x[..., 3:31], atol=1e-4)
