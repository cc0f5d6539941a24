"""A training stage as a configuration file (TOML)."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stvsr_cli.errors import UsageError
from stvsr_cli.models.layers.settings import refuse_unknown

FLOW_LOSSES = ("flow", "warp")
"""Losses of the stages that look at the clips' flow."""
MOST_LEAST = 0.9
"""Most of `DataConfig.least_strength`: hardly anything is drawn that is degraded more strongly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    sources: tuple[str, ...]
    """Folders or tar files of clips and photos, relative to the folder named on the command line."""
    validation: str = ""
    """Folder of clips that are never trained on; empty: no validation."""
    photo_share: float = 0.3
    """Share of samples made from photos."""
    reuse_steps: int = 1500
    """Steps after which a clip is degraded anew."""
    least_strength: float = 0.0
    """How strongly all samples are degraded at least, see `degrade.overall`."""
    most_strength: float = 1.0
    """And at most."""
    dark_share: float = 0.0
    """Share of clips that are made as dark as a night, before they are degraded."""
    seed: int = 1
    """Seed of everything drawn for the data."""
    teacher: str = ""
    """Weights of the teacher that makes the lessons: Real-ESRGAN x4plus, as its ncnn package has them; in the stage `motion` RIFE. Empty: none."""
    lesson_share: float = 0.0
    """Share of batches that are lessons made before."""
    live_lessons: bool = False
    """Whether the teacher sees every batch while training, which a GPU has the time for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageConfig:
    model: str
    """Model the stage trains."""
    stage: str
    """Name of the stage; the model says which there are."""
    data: DataConfig
    steps: int
    """Optimiser steps at which the stage ends; the learning rate falls to its end by a cosine."""
    batch: int = 4
    """Samples per step."""
    crop_px: int = 192
    """Side of the full-size crop."""
    keyframes: int = 4
    """Source frames per sample."""
    whole_px: int = 0
    """Side of the squares to which the whole keyframes are reduced, for stages that see them beside the crop; 0: none."""
    learning_rate: float = 4e-4
    """Highest learning rate."""
    final_rate: float = 1e-6
    """Learning rate at the last step."""
    warmup_steps: int = 200
    """Steps over which the rate rises from zero."""
    ema_decay: float = 0.999
    """Decay of the averaged weights, which are the ones validated and shipped."""
    clip_norm: float = 0.5
    """Largest norm of the gradient."""
    precision: str = "bf16"
    """Autocast type: bf16 or fp32."""
    start_from: str = ""
    """Weights to start from, relative to the output folder; empty: from scratch."""
    start_parts: dict[str, str] = field(default_factory=dict)
    """By prefix of parameters: weights, relative to the output folder, from which these start in place of those in `start_from`."""
    validate_every: int = 1000
    """Steps between validations."""
    save_every: int = 500
    """Steps between checkpoints."""
    workers: int = 2
    """Threads that make batches ahead."""
    log_every: int = 50
    """Steps between rows of the log."""
    compile: bool = False
    """Whether to compile the network; CUDA only."""
    losses: dict[str, float] = field(default_factory=dict)
    """Weights of the stage's losses, by name."""
    losses_before: dict[str, float] = field(default_factory=dict)
    """Weights at the first step, from which `losses` are reached over `blend_steps`."""
    blend_steps: int = 0
    """Steps over which the weights change linearly; 0: they are `losses` from the start."""
    trains: tuple[str, ...] = ()
    """Prefixes of parameters: of those that the stage trains, only these are; empty: all."""
    network: dict[str, Any] = field(default_factory=dict)
    """Settings of the model's own, which its stages know."""
    perceptual_weights: str = ""
    """SqueezeNet 1.1 weights (safetensors) for the perceptual loss and metric."""

    @property
    def looks_at_flow(self) -> bool:
        """Whether a loss looks at the flow between the frames of the clips."""
        return any(self.losses.get(name) or self.losses_before.get(name) for name in FLOW_LOSSES)

    def weights_at(self, step: int) -> dict[str, float]:
        """Weights of the losses at a step."""
        if step >= self.blend_steps:
            return self.losses
        share, names = step / self.blend_steps, dict.fromkeys([*self.losses_before, *self.losses])
        return {n: (1 - share) * self.losses_before.get(n, 0.0) + share * self.losses.get(n, 0.0) for n in names}

    def __post_init__(self) -> None:
        if self.crop_px % 64:
            raise UsageError(f"crop_px={self.crop_px} must be a multiple of 64.")
        if self.precision not in ("bf16", "fp32"):
            raise UsageError(f"precision={self.precision!r} must be bf16 or fp32.")
        if self.keyframes < 2:
            raise UsageError(f"keyframes={self.keyframes} must be at least 2.")
        least, most = self.data.least_strength, self.data.most_strength
        if not 0 <= least < most <= 1 or least > MOST_LEAST:
            raise UsageError(
                f"least_strength={least} must lie in [0, {MOST_LEAST}], and most_strength={most} above it, in (0, 1]."
            )


def read_config(path: Path) -> StageConfig:
    """Read a stage from a TOML file. Raises UsageError with what is wrong in it."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}.") from error
    data = table.pop("data", {})
    for name, given, known in (("data", data, DataConfig), ("stage", table, StageConfig)):
        refuse_unknown(given, known, f"{path}: unknown {name} settings", UsageError)
    try:
        table["trains"] = tuple(table.get("trains", ()))
        return StageConfig(data=DataConfig(**{**data, "sources": tuple(data.get("sources", ()))}), **table)
    except TypeError as error:
        raise UsageError(f"{path}: {error}.") from error
