"""In-between frames for models that are spatial only: the compact model's flow and cross-frame context aggregation.

It works at the input's size, before such a model enlarges the frames.
"""

import logging
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from stvsr_cli.models.compact import CompactModel
from stvsr_cli.models.compact import load as load_compact
from stvsr_cli.models.contract import Request
from stvsr_cli.models.layers.insertion import Inserter, insert_mixtures
from stvsr_cli.models.step import padding

logger = logging.getLogger(__name__)


class CompactInserter:
    """The initialisation of the compact model, for frames of any size."""

    def __init__(self, model: CompactModel) -> None:
        self.model = model

    def __call__(self, frames: Tensor, factor: int) -> Tensor:
        """Insert factor - 1 frames between each two. See `Inserter`."""
        if factor == 1 or frames.shape[1] == 1:
            return frames
        height, width = frames.shape[-2:]
        bottom, right = padding(height, width, self.model.traits)
        padded = functional.pad(frames.flatten(0, 1), (0, right, 0, bottom), mode="replicate")
        init = self.model.initialise(padded.unflatten(0, frames.shape[:2]), Request(fps_factor=factor))
        result = init.frames[..., :height, :width].to(frames).clamp(0, 1)
        result[:, ::factor] = frames
        return result


class PlainInserter:
    """Blends of the neighbours, where there are no weights for better; says so once."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, frames: Tensor, factor: int) -> Tensor:
        """Insert factor - 1 frames between each two. See `Inserter`."""
        if factor > 1 and frames.shape[1] > 1 and not self._told:
            logger.warning("without the compact model's weights, frames in between are blends of their neighbours")
            self._told = True
        return insert_mixtures(frames, factor)


def load(weights: Path | None, device: torch.device, dtype: torch.dtype) -> Inserter:
    """The inserter of the compact model's weights, or without any one that blends.

    Raises ModelError if the weights do not fit.
    """
    if weights is None:
        return PlainInserter()
    return CompactInserter(load_compact(weights, device, dtype))
