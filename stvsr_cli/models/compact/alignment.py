"""Deformable alignment of the decoder's recurrent state, on two levels, with channel cross-attention.

After the bidirectional deformable decoder of OSDEnhancer (arXiv 2601.20308): modulated deformable convolution
(Zhu et al. 2019), its offsets joined from coarse to fine. As in BasicVSR++ (arXiv 2104.13371, eq. 5) the offsets are
added to the flow.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.compact.blocks import SLOPE
from stvsr_cli.models.layers.channel_attention import ChannelCrossAttention
from stvsr_cli.models.layers.deform import deform_conv2d
from stvsr_cli.models.layers.silence import silence

GROUPS = 1
TAPS = 9
NUM_HEADS = 4


class DeformableSampler(nn.Module):
    """A modulated deformable convolution around a flow, which starts as a plain one at half strength."""

    keeps_float32 = ("offset",)  # outside autocast; see `layers.held`

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(inputs, 3 * GROUPS * TAPS, 3, padding=1)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        silence(self.offset)

    def forward(self, features: Tensor, guide: Tensor, flow: Tensor) -> Tensor:
        """features, guide: [B, inputs, H, W]; flow: [B, 2, H, W], x then y. Returns [B, outputs, H, W], float32."""
        with torch.autocast(features.device.type, enabled=False):
            drawn = functional.conv2d(guide.float(), self.offset.weight, self.offset.bias, padding=1)
            offset, mask = drawn[:, : 2 * GROUPS * TAPS], drawn[:, 2 * GROUPS * TAPS :].sigmoid()
            offset = offset + flow.float().flip(1).repeat(1, GROUPS * TAPS, 1, 1)  # down, then right
            return deform_conv2d(features.float(), offset, mask, self.weight)


class DeformableAlignment(nn.Module):
    """Aligns the state of the frame before to the frame in work."""

    def __init__(self, inputs: int, width: int, inner_width: int) -> None:
        """inputs: of the frame's features; width: of the state; inner_width: of what is sampled."""
        super().__init__()
        coarse = 2 * inner_width
        self.reduce = nn.Conv2d(width, inner_width, 1)
        self.reduce_features = nn.Conv2d(inputs, inner_width, 1)
        self.state_down = nn.Conv2d(inner_width, coarse, 3, stride=2, padding=1)
        self.features_down = nn.Conv2d(inner_width, coarse, 3, stride=2, padding=1)
        self.coarse_guide = nn.Conv2d(2 * coarse, coarse, 3, padding=1)
        self.coarse_sample = DeformableSampler(coarse, coarse)
        self.attention = ChannelCrossAttention(coarse, num_heads=NUM_HEADS)
        self.coarse_out = nn.Conv2d(coarse, 4 * inner_width, 1)
        self.guide = nn.Conv2d(3 * inner_width, inner_width, 3, padding=1)
        self.lift = nn.Conv2d(coarse, 4 * inner_width, 1)
        self.sample = DeformableSampler(inner_width, width)
        self.join = nn.Conv2d(inner_width, width, 1)
        silence(self.join)
        nn.init.zeros_(self.sample.weight)  # nothing is added at first

    def forward(self, features: Tensor, state: Tensor, flow: Tensor) -> Tensor:
        """Return what to add to the warped state, [B, width, H, W].

        features: [B, inputs, H, W] of the frame in work; state: [B, width, H, W] of the frame before it in travel, as
        it lies there; flow: [B, 2, H, W] from the frame in work to the one before. H and W are even.
        """
        here, there = self.reduce_features(features), self.reduce(state)
        low_here, low_there = self.features_down(here), self.state_down(there)
        low_flow = functional.avg_pool2d(flow.float(), 2) / 2
        guide = functional.leaky_relu(self.coarse_guide(torch.cat([low_here, low_there], 1)), SLOPE)
        sampled = self.coarse_sample(low_there, guide, low_flow).to(here.dtype)
        matched = self.attention(low_here, sampled) - low_here + sampled
        lifted = functional.pixel_shuffle(self.lift(guide), 2)
        fine = functional.leaky_relu(self.guide(torch.cat([here, there, lifted], 1)), SLOPE)
        found = self.sample(there, fine, flow).to(here.dtype)
        joined: Tensor = found + self.join(functional.pixel_shuffle(self.coarse_out(matched), 2))
        return joined
