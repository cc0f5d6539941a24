"""What a run says while it goes, what it came to, and the model that it goes with."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stvsr_cli.media.read.probe import VideoInfo

if TYPE_CHECKING:
    import torch

    from stvsr_cli.models.contract import OneStepModel


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    phase: str
    """load, upscale or finish."""
    done: int
    """Output frames made."""
    total: int | None
    """Output frames expected; None where the input does not say."""
    fps: float
    """Output frames per second so far."""
    file: str = ""
    """Which file of a batch."""
    workers: dict[str, float] = field(default_factory=dict)
    """Output frames a second of each of several workers, by its name."""

    @property
    def eta_s(self) -> float | None:
        """Seconds to go."""
        return (self.total - self.done) / self.fps if self.total and self.fps else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a job came to."""

    output: VideoInfo
    """The finished file, probed."""
    frames_in: int
    frames_out: int
    num_shots: int
    seconds: dict[str, float]
    """Seconds by stage: load, decode, wait (for decoding), model, convert, held (by what follows), total. They overlap."""
    peak_bytes: int
    """Most memory in use: the device's on CUDA, the process's on a CPU."""


@dataclass(slots=True)
class Loaded:
    """A model on its device, ready for any number of jobs."""

    model: "OneStepModel"
    device: "torch.device"
    dtype: "torch.dtype"
    seconds: float
    weights: str = ""
    """What the weights are known by."""
    computes_in: str = ""
    """Precision in words, where there is more to say than the type; see `precision`."""

    @property
    def precision(self) -> str:
        """What the model computes in, in words: results differ where these do."""
        return self.computes_in or str(self.dtype).removeprefix("torch.")
