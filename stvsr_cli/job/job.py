"""Job: everything that is asked for one video."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

from stvsr_cli.errors import UsageError
from stvsr_cli.job.timeline import MOST_FACTOR
from stvsr_cli.media.write.settings import EncoderConfig
from stvsr_cli.models.dials import Dial, given_dials
from stvsr_cli.models.entry import ModelOptions
from stvsr_cli.models.fit.asked import Fit
from stvsr_cli.runtime.watchdog import check_timeout

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Compile = Literal["auto", "on", "off"]
Cuts = Literal["hold", "ignore"]
FitMode = Literal["inside", "pad", "crop"]
Resume = Literal["auto", "never", "force"]
Deinterlace = Literal["auto", "off", "on"]
Repeats = Literal["auto", "keep", "smooth"]
CropBars = Literal["auto", "off", "remove"]
SlowSound = Literal["stretch", "drop"]
Format = Literal["matroska", "nut", "mpegts", "y4m", "png", "jpg", "jpeg"]
CHOICES = {
    "precision": Precision, "compile": Compile, "cuts": Cuts, "resume": Resume, "deinterlace": Deinterlace, "repeats": Repeats,
    "fit_mode": FitMode, "crop_bars": CropBars, "slow_sound": SlowSound,
}  # fmt: skip
"""Options that take one of a few words, by name."""
MOST_RATE = 1000
"""Most frames a second of an output, and of pictures that are read."""
MOST_SCALE = 16
"""Largest spatial factor: what a model does not do of it is resampled."""
IMAGE_FORMATS = {"png": ".png", "jpg": ".jpg", "jpeg": ".jpg"}
"""Formats of pictures, and their suffixes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Everything that is asked for one video."""

    input: Path
    """Video to read; - for standard input; a picture, a numbered pattern of them or a folder."""
    output: Path
    """Video to write, whose suffix chooses the container; - for standard output; a picture, a pattern or a folder."""
    model: str = "compact"
    """Name of the model."""
    weights: Path | None = None
    """Weights file or folder; None: where the model's weights are found."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Precision = "auto"
    """What the model computes in."""
    scale: Fraction | None = None
    """Spatial factor in [1, 16]; None: 4, or what width and height ask for."""
    width: int | None = None
    """Output width in pixels; keeps the aspect."""
    height: int | None = None
    """Output height in pixels; keeps the aspect."""
    fit_mode: FitMode = "inside"
    """Where width and height are given: the largest picture inside; with bars around it; or filling all, sides cut."""
    crop_bars: CropBars = "auto"
    """auto: black bars are left out of the model and put back; remove: they are not put back; off: they are picture."""
    fps_factor: Fraction | int = 2
    """Output frames for each input frame, up to 32, in whole or in part; a variable frame rate stays variable."""
    target_fps: Fraction | None = None
    """Frames per second of the output, at a constant rate; None: as `fps_factor` says."""
    slow_motion: Fraction | int = 1
    """How many times as slow, up to 32: of the frames that come to each input frame so many are shown in its time."""
    slow_sound: SlowSound = "stretch"
    """Where time is stretched: stretch: the sound is too, at its pitch; drop: it is left out."""
    window: int | None = None
    """Source frames per model call; None: the model's own, longer where memory is ample."""
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
    restore: float | None = None
    """How strongly degradation of the input is worked against, in [0, 1]; None: as a look at the input says."""
    options: ModelOptions = field(default_factory=ModelOptions)
    """Options of single models."""
    compile: Compile = "auto"
    """auto: the model's main parts are compiled for runs so long that it pays, on CUDA, and use OpenVINO on a CPU where it is
    installed; on or off: compiled by PyTorch for all, or none."""
    fit: Fit = field(default_factory=Fit)
    """How a large model is made to fit the device."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """How the video is encoded."""
    format: Format | None = None
    """Of what goes to standard output: matroska (None), nut, mpegts or y4m; of pictures in a folder: png or jpg."""
    fps: Fraction | None = None
    """Frames per second of pictures that are read; None: 25."""
    cuts: Cuts = "hold"
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
    resume: Resume = "auto"
    """auto: go on where an earlier run ended; force: start over; never: keep no journal and go on with none."""
    segment_frames: int = 240
    """Output frames after which what is made is put on disk to stay, at the next window or shot."""
    record: bool = True
    """Whether the output's metadata says how it was made: version, model, weights, options."""
    deinterlace: Deinterlace = "auto"
    """auto: what is found to be interlaced is deinterlaced; on: everything is; off: nothing."""
    repeats: Repeats = "auto"
    """keep: frames that repeat the one before stay so; smooth: they are made anew, so that motion is even; auto: smooth
    where much of the picture moves unevenly throughout, as in animation on twos or film in a faster rate."""
    max_pixels: int = 1 << 26
    """Most pixels of an input frame; 8192 x 8192 unless said otherwise."""
    allow_url: bool = False
    """Whether the input may be something else than a local file."""
    check_space: bool = True
    """Whether to begin only if the output will fit on its disk."""
    stall_timeout_s: float | None = None
    """Seconds without progress after which a stage has stalled; 0: any time is allowed; None: half an hour, but any
    time for the model and for the other end of a pipe."""

    def __post_init__(self) -> None:
        self._check_words()
        self._check_size_and_time()
        for name, least in (("batch", 1), ("tile", 0), ("segment_frames", 1), ("max_pixels", 1), ("threads", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name.replace('_', '-')}={value} must be at least {least}.")
        for name, strength in self.dials.items():
            if not 0 <= strength <= 1:
                raise UsageError(f"{name}={strength} must lie in [0, 1].")
        check_timeout(self.stall_timeout_s)

    def _check_words(self) -> None:
        for name, kinds in CHOICES.items():
            if getattr(self, name) not in get_args(kinds):
                known = get_args(kinds)
                raise UsageError(
                    f"{name.replace('_', '-')}={getattr(self, name)!r} must be {', '.join(known[:-1])} or {known[-1]}."
                )
        if self.format is not None and self.format not in get_args(Format):
            raise UsageError(
                f"--format {self.format!r} is not known.", hint=f"Use one of {', '.join(get_args(Format))}."
            )

    def _check_size_and_time(self) -> None:
        self._check_rates()
        if self.scale is not None and (self.width is not None or self.height is not None):
            raise UsageError("--scale cannot be combined with --width, --height or --fit.", hint="Give one of them.")
        if self.fit_mode != "inside" and (self.width is None or self.height is None):
            raise UsageError(f"--fit-mode {self.fit_mode} needs a width and a height.", hint="Give --fit, or both.")
        if self.scale is not None and not 1 <= self.scale <= MOST_SCALE:
            raise UsageError(f"scale={float(self.scale):g} must lie in [1, {MOST_SCALE}].")
        if self.start is not None and self.start < 0:
            raise UsageError(f"start={float(self.start)} must not be negative.")
        if self.end is not None and self.end <= (self.start or 0):
            raise UsageError("--end must lie after --start.")

    def _check_rates(self) -> None:
        if not 1 <= self.slow_motion <= MOST_FACTOR:
            raise UsageError(f"slow-motion={float(self.slow_motion):g} must lie in [1, {MOST_FACTOR}].")
        if not 0 < self.fps_factor <= MOST_FACTOR:
            raise UsageError(
                f"{float(self.fps_factor):g} frames for each of the input's must lie in (0, {MOST_FACTOR}].",
                hint="Change --fps, --fps-factor or --slow-motion.",
            )
        if self.target_fps is None and 1 < self.slow_motion > self.fps_factor:
            raise UsageError(
                f"--slow-motion {float(self.slow_motion):g} needs as many frames; {float(self.fps_factor):g} for each "
                "would come at less than the input's rate.",
                hint="Raise --fps-factor or --fps.",
            )
        for rate in (self.target_fps, self.fps):
            if rate is not None and not 0 < rate <= MOST_RATE:
                raise UsageError(f"fps={float(rate):g} must lie in (0, {MOST_RATE}].")

    @property
    def dials(self) -> dict[Dial, float]:
        """The strengths that are given."""
        return given_dials(self.detail, self.restore)

    @property
    def makes_frames(self) -> bool:
        """Whether frames may lie between those of the input."""
        return self.target_fps is not None or self.fps_factor != 1
