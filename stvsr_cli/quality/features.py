"""Perceptual distance: features of SqueezeNet 1.1, unit-normalised (uncalibrated LPIPS, arXiv 1801.03924)."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from stvsr_cli.errors import ModelError


class Perceptual(nn.Module):
    """Distance of unit-normalised SqueezeNet 1.1 features (uncalibrated LPIPS, arXiv 1801.03924)."""

    FIRES = (3, 4, 6, 7, 9, 10, 11, 12)
    POOLED = frozenset({3, 6, 9})
    TAPS = frozenset({4, 7, 9, 10, 11, 12})

    def __init__(self, weights: Path) -> None:
        super().__init__()
        try:
            tensors = load_file(str(weights))
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(f"{weights}: {error}.", hint="Name SqueezeNet 1.1 weights as safetensors.") from error
        self.names = {name: name.replace(".", "_") for name in tensors}
        for name, tensor in tensors.items():
            self.register_buffer(self.names[name], tensor.float())

    def _conv(self, x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        weight, bias = getattr(self, self.names[f"{name}.weight"]), getattr(self, self.names[f"{name}.bias"])
        return functional.relu(functional.conv2d(x, weight, bias, stride=stride, padding=padding))

    def features(self, rgb: Tensor) -> list[Tensor]:
        """Feature maps of rgb [N, 3, H, W] in [0, 1]."""
        x = rgb.flip(1) * 255 - rgb.new_tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1)
        x = self._conv(x, "features.0", stride=2)
        taps = [x]
        for i in self.FIRES:
            if i in self.POOLED:
                x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
            squeezed = self._conv(x, f"features.{i}.squeeze")
            wide = self._conv(squeezed, f"features.{i}.expand3x3", padding=1)
            x = torch.cat([self._conv(squeezed, f"features.{i}.expand1x1"), wide], 1)
            if i in self.TAPS:
                taps.append(x)
        return taps

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of a to b, each [N, 3, H, W] in [0, 1]; b gets no gradient. Returns [N]."""
        with torch.no_grad():
            targets = self.features(b)
        total = a.new_zeros(a.shape[0], dtype=torch.float32)
        for x, y in zip(self.features(a), targets, strict=True):
            difference = functional.normalize(x.float(), dim=1) - functional.normalize(y.float(), dim=1)
            total = total + difference.square().sum(1).mean((1, 2))
        return total
