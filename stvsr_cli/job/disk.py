"""What a job's output takes: room on the disk, estimated and looked for before the start, and what formats can hold."""

import logging
import os
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from stvsr_cli.errors import OutputError
from stvsr_cli.job.job import Job
from stvsr_cli.job.plan import Plan
from stvsr_cli.job.rates import told
from stvsr_cli.media.images import is_image
from stvsr_cli.media.pipes import is_pipe
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.write.settings import DEFAULT_CRF, INSTEAD, EncoderConfig

logger = logging.getLogger(__name__)

BITS_PER_PIXEL = {"libx264": 0.2, "libx265": 0.12, "libsvtav1": 0.1, "libvpx-vp9": 0.15, "libaom-av1": 0.1,
                  "prores_ks": 4.5}  # fmt: skip
"""Bits an encoder spends on a pixel at its entry of `DEFAULT_CRF`: measured on enlarged film, and half again."""
OTHER_BITS_PER_PIXEL = 1.0
MORE_ON_CARDS = 1.5
"""How much more a graphics card's encoder is taken to spend than the program of its format."""
HALVES_AFTER = {"libx264": 6, "libx265": 6}
"""By how much a constant rate factor rises until half the bits are left; 10 for the others, whose scale is longer."""
LOSSLESS = {"ffv1": 0.4, "rawvideo": 1.0}
"""Share of the samples' own size."""
IMAGE_BITS = {".png": 14.0, ".jpg": 5.0, ".jpeg": 5.0}
LARGEST = {
    "libx264": ("H.264", 36864 * 256, 530_841_600, 139264 * 256, 16384),
    "libx265": ("HEVC", 8_912_896, 1_069_547_520, 35_651_584, 16888),
    "libsvtav1": ("AV1", 8_912_896, 1_069_547_520, 35_651_584, 16384),
}
"""Of an encoder: its format; pixels of a frame, and a second, that common hardware plays (level 5.2 of H.264 and HEVC,
5.2 of AV1; tables A-1, A.8 and A.3 of the standards); pixels and side of a frame at the highest level."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes a job needs, about."""

    output: int
    """The finished file, or all pictures."""
    journal: int
    """The segments, which lie beside the output until it is whole."""

    @property
    def total(self) -> int:
        """What must be free."""
        return self.output + self.journal


def estimate(job: Job, plan: Plan, *, keeps_journal: bool) -> Estimate | None:
    """How much room a job's output takes; None where nobody knows how long it will be, or it goes into a pipe."""
    if plan.num_frames is None or is_pipe(job.output):
        return None
    pixels = plan.width * plan.height * plan.num_frames
    if is_image(job.output):
        return Estimate(int(pixels * IMAGE_BITS[job.output.suffix.lower()] / 8), 0)
    video = int(pixels * bits_per_pixel(plan.encoder, plan.pix_fmt) / 8)
    beside = plan.info.path.stat().st_size if plan.info.streams and plan.info.path.is_file() else 0
    return Estimate(video + int(beside * _share(job, plan.info)), video if keeps_journal else 0)


def _share(job: Job, info: VideoInfo) -> Fraction:
    """How much of an input a job is about."""
    length = info.duration_s
    if not length or (job.start is None and job.end is None):
        return Fraction(1)
    return max(Fraction(0), min(job.end or length, length) - (job.start or 0)) / length


def bits_per_pixel(encoder: EncoderConfig, pix_fmt: str) -> float:
    """Bits that an encoder spends on a pixel, about."""
    if encoder.codec in LOSSLESS:
        samples = 3.0 if "444" in pix_fmt or pix_fmt.startswith("gbrp") else 2.0 if "422" in pix_fmt else 1.5
        return LOSSLESS[encoder.codec] * samples * (16 if "10le" in pix_fmt else 8)
    program = INSTEAD.get(encoder.codec, encoder.codec)
    bits = BITS_PER_PIXEL.get(program, OTHER_BITS_PER_PIXEL) * (1 if program == encoder.codec else MORE_ON_CARDS)
    if encoder.crf is None or encoder.codec not in DEFAULT_CRF:
        return bits
    return bits * 2 ** ((DEFAULT_CRF[encoder.codec] - encoder.crf) / HALVES_AFTER.get(program, 10))


def check_space(job: Job, plan: Plan, *, journal: Path | None = None) -> None:
    """Raise OutputError if a job's output will not fit on its disk, unless the job says not to look.

    journal: folder of the journal, if the job keeps one; what an earlier run left there counts as had.
    """
    need = estimate(job, plan, keeps_journal=journal is not None)
    if need is None or not job.check_space:
        return
    had = sum(path.stat().st_size for path in journal.glob("*")) if journal is not None and journal.is_dir() else 0
    folder = job.output.parent
    free = free_bytes(folder)
    if need.total - had > free:
        beside = " with the journal" if need.journal else ""
        raise OutputError(
            f"{job.output} needs about {in_words(need.total - had)}{beside}, and {in_words(free)} are free in "
            f"{os.fspath(folder)}.",
            hint="Free space, or pass --no-space-check.",
        )


def free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder, or of the one that it would be made in."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.is_dir()), Path())
    return shutil.disk_usage(there).free


def warn_of_limits(job: Job, plan: Plan) -> None:
    """Log a warning for what comes out otherwise than the options alone say.

    Those are frames that are larger, or come faster, than the format holds or common hardware plays; that are resampled;
    and that show other moments than their own.
    """
    if plan.size.factor > plan.model_scale + Fraction(1, 100) and plan.model_scale > 1:
        logger.warning(
            "%s: the model enlarges %d times; the rest, to %.3g times, is resampled", job.output, plan.model_scale,
            float(plan.size.factor),
        )  # fmt: skip
    if (line := told(plan.timeline, job.model)) is not None:
        logger.warning("%s: %s", job.output, line)
    if job.target_fps is not None and plan.rate < job.target_fps:
        logger.warning("%s: GIF holds no more than %s frames a second", job.output, plan.rate)
    line = beyond_limits(plan.encoder.codec, plan.width, plan.height, float(plan.rate))
    if line is not None and not is_image(job.output):
        logger.warning("%s: %s", job.output, line)


def beyond_limits(codec: str, width: int, height: int, rate: float) -> str | None:
    """What a video of a size and rate exceeds, or None."""
    codec = INSTEAD.get(codec, codec)
    if codec not in LARGEST:
        return None
    name, played_px, played_rate, largest_px, largest_side = LARGEST[codec]
    what = f"{width}x{height} at {rate:.6g} fps"
    if width * height > largest_px or max(width, height) > largest_side:
        return f"{what} is beyond the highest level of {name}, and players may refuse it. Lower --scale."
    if width * height > played_px or width * height * rate > played_rate:
        other = " Use --codec libx265 or libsvtav1." if codec == "libx264" else ""
        return f"{what} in {name} is more than most hardware players take.{other}"
    return None


def in_words(num_bytes: int) -> str:
    """A number of bytes as text."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{max(num_bytes, 0) / 2**10:.1f} KiB"
