"""How a large model is made to fit a device: 8-bit weights, weights in main memory, another attention kernel."""

import logging

import torch
from torch import nn

from stvsr_cli.models.contract import OneStepModel, PartedModel
from stvsr_cli.models.fit.asked import Fit
from stvsr_cli.models.fit.attention import pick_attention, use_attention
from stvsr_cli.models.fit.offload import Offloader, resident_bytes
from stvsr_cli.models.fit.quantize import check_quantize, quantize

logger = logging.getLogger(__name__)


def loading_device(fit: Fit, device: torch.device) -> torch.device:
    """Return where weights are read to: main memory, if they are to wait or to be quantized there, or the device.

    Raises DeviceError if a package is missing, before anything is read.
    """
    check_quantize(fit.quantize)
    return torch.device("cpu") if (fit.offload, fit.quantize) != ("none", "none") else device


def offload_on(fit: Fit, device: torch.device) -> str:
    """Return the kind of offloading in effect: none on a CPU, whose memory is the main memory."""
    return "none" if device.type == "cpu" else fit.offload


def waiting_bytes(model: OneStepModel, fit: Fit, device: torch.device) -> int:
    """Return the bytes of weights that a loaded model still brings to a device, or that a CPU holds already."""
    kind = offload_on(fit, device)
    if not isinstance(model, PartedModel) or (kind == "none" and device.type != "cpu"):
        return 0
    weights = resident_bytes(model.parts, kind).values()
    return sum(weights) if kind == "none" else max(weights)


def fit_model(model: OneStepModel, fit: Fit, device: torch.device) -> None:
    """Make a model, read to `loading_device`, fit a device. Models without parts stay as they are."""
    if not isinstance(model, PartedModel):
        return
    kind = offload_on(fit, device)
    if kind != fit.offload:
        logger.warning("--offload %s has no effect on a CPU, whose weights are in main memory anyway", fit.offload)
    denoiser = model.parts[model.traits.denoiser]
    if fit.quantize != "none":
        logger.info("%d layers quantized to %s", quantize(denoiser, fit.quantize), fit.quantize)
    use_attention(denoiser, pick_attention(fit.attention, device))
    if kind == "none":
        for part in model.parts.values():
            nn.Module.to(part, device)  # diffusers' own warns of parts in float32, which stay what they are
    else:
        Offloader(model.parts, device, kind)
