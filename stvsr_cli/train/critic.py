"""A small spatio-temporal discriminator for the detail stage, and its losses."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

SLOPE = 0.2


class Critic(nn.Module):
    """Scores of patches of a clip: high for real ones (PatchGAN, arXiv 1611.07004, over space and time)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = [(12, width), (width, 2 * width), (2 * width, 2 * width)]
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(sizes):
            conv = nn.Conv3d(inputs, outputs, 3, stride=(1, 2, 2) if i else 1, padding=1)
            layers += [nn.utils.parametrizations.spectral_norm(conv), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Conv3d(2 * width, 1, 3, padding=1))

    def forward(self, clip: Tensor) -> Tensor:
        """clip: [B, T, 3, H, W] in [0, 1], even sides. Returns [B, 1, T, H / 8, W / 8]."""
        small = functional.pixel_unshuffle(clip - 0.5, 2).transpose(1, 2)  # [B, 12, T, H / 2, W / 2]
        scores: Tensor = self.layers(small)
        return scores


def critic_losses(critic: Critic, output: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The relativistic losses (RaGAN, arXiv 1807.00734) of both sides, each with no gradient for the other.

    output, target: [B, T, 3, H, W]. `adversarial` moves what made the output, `critic` the critic.
    """
    frozen = {name: tensor.detach() for name, tensor in critic.state_dict().items()}
    made = functional_call(critic, frozen, (output,))
    with torch.no_grad():
        real = critic(target)
    adversarial = functional.softplus(-(made - real.mean())).mean() + functional.softplus(real - made.mean()).mean()
    own_real, own_made = critic(target), critic(output.detach())
    own = (
        functional.softplus(-(own_real - own_made.mean())).mean()
        + functional.softplus(own_made - own_real.mean()).mean()
    )
    return {"adversarial": adversarial / 2, "critic": own / 2}
