"""Blocks that several parts of the compact network are made of. Features are [B*T, C, H, W]."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

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


def temporal_shift(x: Tensor, num_frames: int, share: int = 8) -> Tensor:
    """Move one `share`-th of the channels a frame forward and as many a frame back; zeros come in at the ends.

    x: [B*T, C, H, W] with T = `num_frames`. Returns the same shape (Lin et al., TSM, arXiv 1811.08383).
    """
    if num_frames == 1:
        return x
    frames = x.unflatten(0, (-1, num_frames))  # [B, T, C, H, W]
    fold = x.shape[1] // share
    shifted = torch.zeros_like(frames)
    shifted[:, 1:, :fold] = frames[:, :-1, :fold]
    shifted[:, :-1, fold : 2 * fold] = frames[:, 1:, fold : 2 * fold]
    shifted[:, :, 2 * fold :] = frames[:, :, 2 * fold :]
    return shifted.flatten(0, 1)  # [B*T, C, H, W]


def in_parts(work: Callable[[Tensor, Tensor], Tensor], most: int, a: Tensor, b: Tensor) -> Tensor:
    """Join what `work` makes of frames a and b, [N, ., ., .], of as many at once as have `most` positions in a; one at least."""
    at_once = max(1, most // (a.shape[-2] * a.shape[-1]))
    if at_once >= len(a):
        return work(a, b)
    parts = (work(*part) for part in zip(a.split(at_once), b.split(at_once), strict=True))
    if torch.is_grad_enabled():
        return torch.cat(list(parts))
    joined: Tensor | None = None  # written to part by part: joined at the end, all of it would be there twice
    for place, part in enumerate(parts):
        joined = part.new_empty(len(a), *part.shape[1:]) if joined is None else joined
        joined[place * at_once : (place + 1) * at_once] = part
        del part
    assert joined is not None
    return joined


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
        x_shifted = temporal_shift(x, num_frames)
        if embedding.shape[0] == 1:  # one timestep for all: the modulation is a change of the convolution
            weight = self.conv1.weight * (1 + scale.view(-1, 1, 1, 1))
            h = functional.conv2d(x_shifted, weight, self.conv1.bias * (1 + scale[0]) + shift[0], padding=1)
        else:
            h = self.conv1(x_shifted) * (1 + scale[..., None, None]) + shift[..., None, None]
        if added is not None:
            h = h + added
        return x + self.conv2(functional.leaky_relu(h, SLOPE, inplace=True))


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
