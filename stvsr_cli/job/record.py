"""What of a job goes into the record of the file that it makes."""

from pathlib import Path

from stvsr_cli import __version__
from stvsr_cli.job.described import described
from stvsr_cli.job.job import Job
from stvsr_cli.job.report import Loaded
from stvsr_cli.media.record import Record

UNSAID = frozenset(
    {
        "input", "output", "model", "weights", "device", "precision", "overwrite", "allow_url", "max_pixels", "resume",
        "record", "check_space", "stall_timeout_s", "segment_frames", "threads", "encoder threads", "options base",
        "batch", "tile", "window",
    }
)  # fmt: skip
"""Fields of a job that are said elsewhere, or tell of a machine and not of the result."""


def record_of(job: Job, loaded: Loaded, *, tile_px: int = 0, window: int | None = None) -> Record:
    """The record of a job: what it was made with, and all that was asked for beyond the defaults.

    tile_px: side of the tiles in effect; 0: whole frames. window: source frames per call of the model; None: its usual.
    """
    default = described(Job(input=Path(), output=Path()))
    asked = {name: text for name, text in described(job).items() if name not in UNSAID and text != default.get(name)}
    if tile_px:
        asked["tile"] = str(tile_px)
    if window not in (None, loaded.model.traits.window):
        asked["window"] = str(window)
    return Record(
        version=__version__,
        model=job.model,
        weights=loaded.weights,
        device=loaded.device.type,
        precision=loaded.precision,
        options=asked,
    )
