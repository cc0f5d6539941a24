"""A discriminator that sees pictures at full size, and its losses."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2
FRAMES = 3
"""Frames that the critic sees at once."""
LEVELS = 3
"""Halvings of the size, after each of which patches are scored."""


class Critic(nn.Module):
    """Scores of patches of three frames, at a half, a quarter and an eighth of the size: high for real ones.

    PatchGAN (arXiv 1611.07004) with spectral normalisation (arXiv 1802.05957), from convolutions at full size on, so
    that what differs from pixel to pixel is seen. Beside the frames it sees the enlarged input, so that what does not
    belong to it is told from what does.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.enter = spectral_norm(nn.Conv2d(3 * FRAMES + 3, width, 3, padding=1))
        levels, heads, inputs = [], [], width
        for _ in range(LEVELS):
            outputs = min(2 * inputs, 4 * width)
            halve = spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1))
            look = spectral_norm(nn.Conv2d(outputs, outputs, 3, padding=1))
            levels.append(nn.Sequential(halve, nn.LeakyReLU(SLOPE), look, nn.LeakyReLU(SLOPE)))
            heads.append(spectral_norm(nn.Conv2d(outputs, 1, 3, padding=1)))
            inputs = outputs
        self.levels, self.heads = nn.ModuleList(levels), nn.ModuleList(heads)

    def forward(self, frames: Tensor, given: Tensor) -> list[Tensor]:
        """Return a map of scores [B, 1, H / 2^l, W / 2^l] for each level l from 1 on.

        frames: [B, 3, 3, H, W] in [0, 1], sides multiples of 8; given: [B, 3, H, W], the middle frame's enlarged input.
        """
        x = torch.cat([frames.flatten(1, 2), given], 1) - 0.5
        x = functional.leaky_relu(self.enter(x.contiguous(memory_format=torch.channels_last)), SLOPE)
        scores = []
        for level, head in zip(self.levels, self.heads, strict=True):
            x = level(x)
            scores.append(head(x))
        return scores


def critic_losses(
    critic: Critic, output: Tensor, target: Tensor, given: Tensor, worth: Tensor | None = None
) -> dict[str, Tensor]:
    """The relativistic losses (RaGAN, arXiv 1807.00734) of both sides, each with no gradient for the other.

    output, target: [B, 3, 3, H, W]; given: [B, 3, H, W]; worth: [B], how much the critic's word counts for each output.
    `adversarial` moves what made the output, `critic` the critic.
    """
    worth = output.new_ones(len(output)) if worth is None else worth
    frozen = {name: tensor.detach() for name, tensor in critic.state_dict().items()}
    made: list[Tensor] = functional_call(critic, frozen, (output, given))
    real = critic(target, given)
    adversarial = [(_relative(a, b.detach()) * worth).mean() for a, b in zip(made, real, strict=True)]
    own = [_relative(a, b).mean() for a, b in zip(real, critic(output.detach(), given), strict=True)]
    return {"adversarial": torch.stack(adversarial).mean(), "critic": torch.stack(own).mean()}


def _relative(wanted: Tensor, other: Tensor) -> Tensor:
    """How far the first is from scoring higher than the other does on average, and the other lower than the first, [B]."""
    wanted, other = wanted.float(), other.float()
    up, down = functional.softplus(other.mean() - wanted), functional.softplus(other - wanted.mean())
    return (up.mean((1, 2, 3)) + down.mean((1, 2, 3))) / 2
