"""What travels between the program and its workers: pieces of work one way, what became of them the other."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stvsr_cli.durable.segments import Segment
from stvsr_cli.errors import StvsrError
from stvsr_cli.job.job import Job
from stvsr_cli.job.plan import Plan
from stvsr_cli.job.report import Loaded, Report
from stvsr_cli.job.stretches import Stretch
from stvsr_cli.media.read.moments import Moment
from stvsr_cli.media.read.probe import VideoInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """What a worker does by functions from rooms above; they travel by name."""

    load: Callable[[Job], Loaded]
    plan: Callable[[Job, VideoInfo, Loaded], Plan]
    upscale: Callable[..., Report]


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a worker is, and what it computes with: the latter must be the same on all."""

    host: str
    node: str
    """Ray's name of the machine."""
    pid: int
    version: str
    device: str
    precision: str
    weights: str
    load_s: float

    @property
    def sameness(self) -> dict[str, str]:
        """What the result depends on."""
        return {"version": self.version, "device": self.device, "precision": self.precision, "weights": self.weights}


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A stretch of a video, to be made into a segment."""

    job: Job
    planned: Plan
    stretch: Stretch
    call: int
    """Windows per model call here: the plan's batch, or fewer where memory is short."""
    longest: int
    """Frames per model call, where an earlier run had no memory for whole windows; 0: whole windows."""
    first: int
    """Which frame the first of the moments is."""
    moments: tuple[Moment, ...]
    """Of the frames that the model must see, and those that repeats among them are made from."""
    folder: Path | None
    """Where the segment goes, if the worker has the program's disk; it then reads the input there, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A plan, a segment, or a whole file."""

    planned: Plan | None = None
    segment: Segment | None = None
    report: Report | None = None
    data: bytes | None = None
    """What was made; None where it lies on the program's disk."""
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a piece of work: something made, or a reason."""

    made: Made | None = None
    error: StvsrError | None = None
    """Ends the job."""
    no_memory: bool = False
    """Whether the worker has too little memory for the batch."""
    differs: str = ""
    """Why the packets that were sent do not give the frames they should: the whole file is needed."""
    notes: tuple[str, ...] = ()
    """Warnings to pass on."""


def answer(value: Any) -> Outcome:
    """The outcome that a worker gave. Raises TypeError for anything else."""
    if not isinstance(value, Outcome):
        raise TypeError(f"a worker gave {type(value).__name__}")
    return value
