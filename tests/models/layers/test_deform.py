"""Deformable convolution against its definition, and channel attention against its properties."""

import math

import pytest
import torch
import torch.nn.functional as F

from stvsr_cli.models.layers import deform
from stvsr_cli.models.layers.channel_attention import ChannelCrossAttention
from stvsr_cli.models.layers.deform import ModulatedDeformableConv2d, deform_conv2d


def sample(image, y, x):
    """The bilinear value at (y, x) of an image [C, H, W] that is zero outside."""
    value = torch.zeros(image.shape[0], dtype=image.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                value += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return value


def by_definition(features, offset, mask, weight, bias, padding):
    """Equation 1 of the DCNv2 paper, position by position."""
    batch, channels, _, _ = features.shape
    out_channels, per_group, kernel, _ = weight.shape
    taps, groups = kernel * kernel, mask.shape[1] // (kernel * kernel)
    output = torch.zeros(batch, out_channels, *mask.shape[2:], dtype=features.dtype)
    for b, i, j in torch.cartesian_prod(*(torch.arange(n) for n in (batch, *mask.shape[2:]))).tolist():
        columns = torch.zeros(channels, taps, dtype=features.dtype)
        for g in range(groups):
            part = slice(g * channels // groups, (g + 1) * channels // groups)
            for k in range(taps):
                down, right = offset[b, 2 * (g * taps + k) : 2 * (g * taps + k) + 2, i, j].tolist()
                y, x = i - padding + k // kernel + down, j - padding + k % kernel + right
                columns[part, k] = mask[b, g * taps + k, i, j] * sample(features[b, part], y, x)
        for d in range(out_channels):
            first = d // (out_channels * per_group // channels) * per_group
            output[b, d, i, j] = (weight[d].flatten(1) * columns[first : first + per_group]).sum() + bias[d]
    return output


def case(
    *, batch=2, channels=4, out_channels=6, groups=2, offset_groups=2, size=(5, 7), kernel=3, padding=1, reach=2.0
):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    out = [side + 2 * padding - kernel + 1 for side in size]
    taps = offset_groups * kernel * kernel
    offset, mask = reach * random(batch, 2 * taps, *out), random(batch, taps, *out).sigmoid()
    weight = random(out_channels, channels // groups, kernel, kernel)
    return random(batch, channels, *size), offset, mask, weight, random(out_channels), padding


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"batch": 1, "groups": 1, "offset_groups": 4, "out_channels": 3},
        {"groups": 4, "offset_groups": 1, "out_channels": 4, "size": (4, 1)},
        {"kernel": 1, "padding": 0, "size": (3, 4)},
        {"padding": 2, "size": (1, 3), "reach": 9.0},
    ],
)
def test_it_is_what_the_paper_defines(kwargs, monkeypatch) -> None:
    monkeypatch.setattr(deform, "_compiled_deform_conv2d", lambda: None)
    *tensors, padding = case(**kwargs)
    torch.testing.assert_close(
        deform_conv2d(*tensors, padding=padding), by_definition(*tensors, padding), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("column_bytes", [1, 5000, 1 << 30])
def test_strips_change_nothing(column_bytes, monkeypatch) -> None:
    monkeypatch.setattr(deform, "_compiled_deform_conv2d", lambda: None)
    *tensors, padding = case(size=(6, 5))
    whole = deform_conv2d(*tensors, padding=padding)
    strips = deform_conv2d(*tensors, padding=padding, column_bytes=column_bytes)
    torch.testing.assert_close(strips, whole, rtol=1e-12, atol=1e-12)


def test_no_offset_and_full_mask_is_a_plain_convolution() -> None:
    features, offset, mask, weight, bias, padding = case()
    plain = F.conv2d(features, weight, bias, padding=padding, groups=2)
    deformed = deform_conv2d(features, 0 * offset, torch.ones_like(mask), weight, bias, padding=padding)
    torch.testing.assert_close(deformed, plain, rtol=1e-9, atol=1e-9)


def test_gradients_reach_everything() -> None:
    tensors = [tensor.requires_grad_() for tensor in case(size=(3, 3))[:-1]]
    deform_conv2d(*tensors, padding=1).square().sum().backward()
    assert all(tensor.grad.abs().max() > 0 for tensor in tensors)


def test_shapes_that_do_not_fit_are_refused() -> None:
    features, offset, mask, weight, bias, _ = case()
    with pytest.raises(ValueError, match="shapes do not fit"):
        deform_conv2d(features, offset[:, :-2], mask, weight, bias)
    with pytest.raises(ValueError, match="shapes do not fit"):
        deform_conv2d(features, offset, mask, weight, bias, padding=0)


def test_agrees_with_torchvision() -> None:
    ops = pytest.importorskip("torchvision.ops")
    features, offset, mask, weight, bias, padding = case()
    expected = ops.deform_conv2d(features, offset, weight, bias, padding=padding, mask=mask)
    torch.testing.assert_close(deform_conv2d(features, offset, mask, weight, bias, padding=padding), expected)


def test_the_module_computes_in_float32() -> None:
    module = ModulatedDeformableConv2d(16)
    torch.manual_seed(0)
    features, guide = torch.randn(2, 1, 16, 4, 5).bfloat16()
    halved = F.conv2d(features.float(), module.deform.weight, module.deform.bias, padding=1, groups=8) / 2
    result = module(features, guide)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), halved, rtol=1e-2, atol=1e-2)


def test_channel_attention_starts_as_the_identity_and_mixes_channels_only() -> None:
    torch.manual_seed(0)
    attention = ChannelCrossAttention(16)
    features, other = torch.randn(2, 3, 16, 4, 5)
    assert torch.equal(attention(features, other), features)
    torch.nn.init.normal_(attention.project_out.weight)
    single = torch.cat([attention(a[None], b[None]) for a, b in zip(features, other, strict=True)])
    torch.testing.assert_close(attention(features, other), single, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(attention(features, 0 * other), attention(features, other))


def test_channel_attention_refuses_uneven_heads() -> None:
    with pytest.raises(ValueError, match="multiple"):
        ChannelCrossAttention(20)
