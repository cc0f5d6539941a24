"""Job: everything that is asked for one video."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from stvsr_cli.errors import UsageError
from stvsr_cli.media.read.deinterlace import MODES
from stvsr_cli.media.read.probe import MAX_PIXELS
from stvsr_cli.media.write.encode import EncoderConfig
from stvsr_cli.models.entry import ModelOptions
from stvsr_cli.models.fit.fit import Fit
from stvsr_cli.runtime.watchdog import check_timeout


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Everything that is asked for one video."""

    input: Path
    """Video to read."""
    output: Path
    """Video to write; its suffix chooses the container."""
    model: str = "compact"
    """Name of the model."""
    weights: Path | None = None
    """Weights file or folder; None: where the model's weights are found."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: str = "auto"
    """auto, fp32, bf16 or fp16."""
    scale: Fraction | None = None
    """Spatial factor in [1, 4]; None: 4, or what width or height ask for."""
    width: int | None = None
    """Output width in pixels; keeps the aspect."""
    height: int | None = None
    """Output height in pixels; keeps the aspect."""
    fps_factor: int = 2
    """1, 2 or 4 times the frame rate."""
    window: int | None = None
    """Source frames per model call; None: the model's own."""
    overlap: int | None = None
    """Source frames two windows share; None: the model's own."""
    batch: int | None = None
    """Windows or tiles per model call; None: as many as fit (CUDA), or 1."""
    tile: int | None = None
    """Tile side in input pixels, 0 for whole frames; None: the model's own, or what memory allows."""
    seed: int = 0
    """Seed of models that sample."""
    detail: float | None = None
    """Strength of the detail expert in [0, 1]; None: the model's own."""
    options: ModelOptions = field(default_factory=ModelOptions)
    """Options of single models."""
    fit: Fit = field(default_factory=Fit)
    """How a large model is made to fit the device."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """How the video is encoded."""
    cuts: str = "hold"
    """hold: no frame is made across a cut; ignore: the whole file is one shot."""
    start: Fraction | None = None
    """Seconds from the input's start to begin at."""
    end: Fraction | None = None
    """Seconds from the input's start to end at."""
    video_stream: int | None = None
    """Which of several video streams."""
    threads: int = 0
    """Compute threads; 0: one a core."""
    overwrite: bool = False
    """Whether an existing output may be replaced."""
    resume: str = "auto"
    """auto: go on where an earlier run ended; force: start over; never: keep no journal and go on with none."""
    segment_frames: int = 240
    """Output frames after which what is made is put on disk to stay, at the next window or shot."""
    record: bool = True
    """Whether the output's metadata says how it was made: version, model, weights, options."""
    deinterlace: str = "auto"
    """auto: what is found to be interlaced is deinterlaced; on: everything is; off: nothing."""
    max_pixels: int = MAX_PIXELS
    """Most pixels of an input frame."""
    allow_url: bool = False
    """Whether the input may be something else than a local file."""
    check_space: bool = True
    """Whether to begin only if the output will fit on its disk."""
    stall_timeout_s: float | None = None
    """Seconds without progress after which a stage has stalled; 0: any time is allowed; None: half an hour, but any
    time for the model and for the other end of a pipe."""

    def __post_init__(self) -> None:
        if self.fps_factor not in (1, 2, 4):
            raise UsageError(f"fps-factor={self.fps_factor} must be 1, 2 or 4.")
        if sum(x is not None for x in (self.scale, self.width, self.height)) > 1:
            raise UsageError("--scale, --width and --height exclude each other.", hint="Give one of them.")
        if self.scale is not None and not 1 <= self.scale <= 4:
            raise UsageError(f"scale={float(self.scale):g} must lie in [1, 4].")
        if self.cuts not in ("hold", "ignore"):
            raise UsageError(f"cuts={self.cuts!r} must be hold or ignore.")
        if self.deinterlace not in MODES:
            raise UsageError(f"deinterlace={self.deinterlace!r} must be {', '.join(MODES)}.")
        if self.max_pixels < 1:
            raise UsageError(f"max-pixels={self.max_pixels} must be at least 1.")
        if self.resume not in ("auto", "never", "force"):
            raise UsageError(f"resume={self.resume!r} must be auto, never or force.")
        if self.segment_frames < 1:
            raise UsageError(f"segment-frames={self.segment_frames} must be at least 1.")
        if self.detail is not None and not 0 <= self.detail <= 1:
            raise UsageError(f"detail={self.detail} must lie in [0, 1].")
        if self.start is not None and self.start < 0:
            raise UsageError(f"start={float(self.start)} must not be negative.")
        if self.end is not None and self.end <= (self.start or 0):
            raise UsageError("--end must lie after --start.")
        if self.tile is not None and self.tile < 0:
            raise UsageError(f"tile={self.tile} must not be negative.", hint="Use auto, off or a number of pixels.")
        check_timeout(self.stall_timeout_s)
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"batch={self.batch} must be at least 1.")
