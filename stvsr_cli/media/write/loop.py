"""A short clip that plays over and over, from pictures."""

import logging
import os
import secrets
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from stvsr_cli.errors import OutputError, UsageError
from stvsr_cli.media.ffmpeg import need_ffmpeg

logger = logging.getLogger(__name__)

WAYS = {
    ".gif": ("-vf", "split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse=dither=sierra2_4a", "-loop", "0"),
    ".webp": ("-c:v", "libwebp_anim", "-quality", "90", "-loop", "0"),
    ".mp4": ("-c:v", "libx264", "-crf", "14", "-pix_fmt", "yuv420p", "-movflags", "+faststart"),
}
"""FFmpeg's arguments by suffix."""


def check_loop(target: Path) -> None:
    """Raise UsageError or OutputError unless a clip can be written in the form that a path's suffix asks for."""
    if target.suffix.lower() not in WAYS:
        raise UsageError(f"--clip {target} should end in {', '.join(WAYS)}.")
    need_ffmpeg("--clip")


def write_loop(pictures: Sequence[np.ndarray], rate: Fraction, target: Path) -> None:
    """Write pictures [H, W, 3] uint8, of one even size, as a clip. Raises OutputError or UsageError."""
    check_loop(target)
    height, width = pictures[0].shape[:2]
    part = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.part{target.suffix}")
    command = [
        need_ffmpeg("--clip"), "-v", "error", "-nostdin", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24",
        "-s", f"{width}x{height}", "-r", str(rate), "-i", "pipe:0", *WAYS[target.suffix.lower()], os.path.abspath(part),
    ]  # fmt: skip
    data = b"".join(np.ascontiguousarray(picture).tobytes() for picture in pictures)
    try:
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        if done.returncode:
            why = (done.stderr.decode(errors="replace").strip().splitlines() or ["no word of why"])[-1]
            raise OutputError(f"{target} cannot be written: {why}.", hint="Check the folder, or use another suffix.")
        os.replace(part, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}.", hint="Check the folder.") from error
    finally:
        part.unlink(missing_ok=True)
