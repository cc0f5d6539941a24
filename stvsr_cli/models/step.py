"""The one step: a window through the five verbs, padded as the model needs and cropped back exactly."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli.models.contract import OneStepModel, Request, Traits


def padding(height_px: int, width_px: int, traits: Traits) -> tuple[int, int]:
    """Pixels to add at the bottom and at the right, so that both sides suit the model."""
    return (_missing(height_px, traits), _missing(width_px, traits))


def _missing(side: int, traits: Traits) -> int:
    wanted = max(side, traits.minimum_px)
    return -(-wanted // traits.multiple_px) * traits.multiple_px - side


def run_window(model: OneStepModel, frames: Tensor, request: Request) -> Tensor:
    """Run a window through the model once.

    frames: [B, T, 3, h, w], float32 in [0, 1]. Returns [B, T', 3, F * h, F * w], float32 in [0, 1], with T' as
    `Request.num_outputs` says and F as `Traits.factor`. Sides the model cannot take are padded by repeating the border, too short windows by repeating the last
    frame; both are cropped off again.
    """
    traits = model.traits
    height, width = frames.shape[-2:]
    num_frames = frames.shape[1]
    count = request.num_outputs(num_frames)
    bottom, right = padding(height, width, traits)
    if bottom or right:
        flat = functional.pad(frames.flatten(0, 1), (0, right, 0, bottom), mode="replicate")
        frames = flat.unflatten(0, (-1, num_frames))
    if num_frames < traits.minimum_window:
        tail = frames[:, -1:].expand(-1, traits.minimum_window - num_frames, -1, -1, -1)
        frames = torch.cat([frames, tail], 1)
        if request.moments is not None:
            request = replace(request, moments=request.moments + ((),) * tail.shape[1])
    with torch.inference_mode():
        init = model.initialise(frames, request)
        latent = model.encode(init, request)
        condition = model.condition(init, latent, request)
        clean = model.denoise(latent, condition, request)
        output = model.decode(clean, init, request)
    factor = traits.factor(request)
    return output[:, :count, :, : height * factor, : width * factor].float()
