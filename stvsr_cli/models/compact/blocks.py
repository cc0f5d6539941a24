"""Blocks that several parts of the compact network are made of. Features are [B*T, C, H, W]."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.models.layers.parts import frames_at_once
from stvsr_cli.models.layers.silence import silence

SLOPE = 0.1
"""Of every leaky rectifier: smooth activations cost as much as the convolutions on a CPU."""

BRANCH_ENDS = ("conv2", "up_middle", "up_fine", "fuse", "motion")
"""Names of the last convolutions of residual branches."""
BRANCH_GAIN = 0.2
"""Scale of theirs at the start of training."""


def start_at_unit_scale(module: nn.Module) -> None:
    """Initialise convolutions after He et al. (arXiv 1502.01852), so that features keep their scale through the depth.

    Those that start at zero stay so, and the last of a residual branch gets a fifth.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.any():
            nn.init.kaiming_normal_(layer.weight, a=SLOPE)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            if name.rpartition(".")[2] in BRANCH_ENDS:
                with torch.no_grad():
                    layer.weight.mul_(BRANCH_GAIN)


def temporal_shift(frames: Tensor, start: int, stop: int, share: int = 8) -> Tensor:
    """Move one `share`-th of the channels a frame forward and as many a frame back; zeros come in at the ends.

    frames: [B, T, C, H, W]. Returns those from `start` to `stop`, of one frame as it is (Lin et al., TSM, arXiv 1811.08383).
    """
    if frames.shape[1] == 1:
        return frames
    fold = frames.shape[2] // share
    before, after = slice(0, fold), slice(fold, 2 * fold)
    shifted = frames[:, start:stop].clone()
    first, last = int(start == 0), int(stop == frames.shape[1])  # whether there is nothing before, after
    shifted[:, :first, before].zero_()
    shifted[:, first:, before] = frames[:, start + first - 1 : stop - 1, before]
    shifted[:, stop - start - last :, after].zero_()
    shifted[:, : stop - start - last, after] = frames[:, start + 1 : stop + 1 - last, after]
    return shifted


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions on a residual branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus its residual, [N, C, H, W]."""
        return self.conv2(functional.leaky_relu(self.conv1(x), SLOPE, inplace=True)).add_(x)


class TimedBlock(nn.Module):
    """A residual block that mixes neighbouring frames and is modulated by the timestep embedding."""

    keeps_float32 = ("conv1",)  # modulated before it is cast; see `layers.held`

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * width)
        silence(self.modulation)

    def forward(self, x: Tensor, embedding: Tensor, num_frames: int, added: Tensor | None = None) -> Tensor:
        """Return x plus its residual, [B*T, C, H, W].

        embedding: [1 or B*T, E]; added: [B*T, C, H, W], what an expert adds to the first convolution, or None.
        """
        scale, shift = self.modulation(embedding).chunk(2, dim=1)
        frames = x.unflatten(0, (-1, num_frames))
        at_once = frames_at_once(x, len(frames))
        if at_once >= num_frames or added is not None or len(embedding) > 1:
            return x + self._residual(temporal_shift(frames, 0, num_frames).flatten(0, 1), scale, shift, added)
        joined = torch.empty_like(x).unflatten(0, (-1, num_frames))
        for start in range(0, num_frames, at_once):
            stop = min(start + at_once, num_frames)
            residual = self._residual(temporal_shift(frames, start, stop).flatten(0, 1), scale, shift)
            torch.add(frames[:, start:stop], residual.unflatten(0, (len(frames), -1)), out=joined[:, start:stop])
        return joined.flatten(0, 1)

    def _residual(self, shifted: Tensor, scale: Tensor, shift: Tensor, added: Tensor | None = None) -> Tensor:
        """shifted: [N, C, H, W]; scale, shift: [1 or N, C]."""
        if len(scale) == 1:  # one timestep for all: the modulation is a change of the convolution
            weight, bias = self.conv1.weight * (1 + scale.view(-1, 1, 1, 1)), self.conv1.bias
            assert bias is not None
            h = functional.conv2d(shifted, weight, bias * (1 + scale[0]) + shift[0], padding=1)
        else:
            h = self.conv1(shifted) * (1 + scale[..., None, None]) + shift[..., None, None]
        if added is not None:
            h = h + added
        residual: Tensor = self.conv2(functional.leaky_relu(h, SLOPE, inplace=True))
        return residual


class SelfAttention(nn.Module):
    """Self-attention over all positions of each frame, on a residual branch."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.GroupNorm(8, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        silence(self.out)

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus what attention gathers, [N, C, H, W]."""
        height, width = x.shape[-2:]
        qkv = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3 * self.num_heads, -1))  # [N, 3*heads, C/heads, H*W]
        q, k, v = qkv.transpose(2, 3).chunk(3, dim=1)  # each [N, heads, H*W, C/heads]
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(2, 3).flatten(1, 2).unflatten(2, (height, width)))
