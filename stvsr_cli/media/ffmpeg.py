"""Where the FFmpeg binary is, for the few things that PyAV does not do."""

import os
import shutil

from stvsr_cli.errors import OutputError

NAMED = "IMAGEIO_FFMPEG_EXE"
"""The environment variable that names the binary, as imageio-ffmpeg has it."""


def find_ffmpeg() -> str | None:
    """The binary that is named, the one that imageio-ffmpeg brings or finds, or the one on the path; None: there is none."""
    named = os.environ.get(NAMED)
    if named:
        return shutil.which(named)
    try:
        import imageio_ffmpeg  # looks for its binary on import

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return shutil.which("ffmpeg")


def need_ffmpeg(purpose: str) -> str:
    """The binary. Raises OutputError where there is none. purpose: what it is for, as the subject of a sentence."""
    found = find_ffmpeg()
    if found is None:
        raise OutputError(f"{purpose} needs the FFmpeg binary: {why_missing()}.", hint=how_to_get())
    return found


def why_missing() -> str:
    """Why no binary was found."""
    named = os.environ.get(NAMED)
    return f"{NAMED} names {named}, which does not run" if named else "none was found"


def how_to_get() -> str:
    """What to do where no binary was found."""
    if os.environ.get(NAMED):
        return f"Correct {NAMED}, or unset it."
    return "Install ffmpeg, or: pip install --force-reinstall imageio-ffmpeg"
