"""VMAF by FFmpeg's libvmaf, fed frame by frame through two pipes."""

import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import IO

import numpy as np

from stvsr_cli.media.ffmpeg import find_ffmpeg, need_ffmpeg
from stvsr_cli.runtime.workers import Worker

logger = logging.getLogger(__name__)


@cache
def has_vmaf() -> bool:
    """Whether the FFmpeg binary has libvmaf, and pipes with numbers are to be had here."""
    binary = find_ffmpeg()
    if os.name != "posix" or binary is None:
        return False
    command = [binary, "-hide_banner", "-v", "error", "-h", "filter=libvmaf"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return False
    return "libvmaf" in found.stdout and "Unknown filter" not in found.stdout + found.stderr


class Vmaf:
    """VMAF of frames against their references; all of one size."""

    def __init__(self, width: int, height: int, *, threads: int = 2) -> None:
        """Start FFmpeg. width, height: of every frame, in pixels. Raises OutputError where there is no binary."""
        self._size = (width - width % 2, height - height % 2)
        self._folder = tempfile.TemporaryDirectory(prefix="stvsr_vmaf_")
        self._log = Path(self._folder.name) / "vmaf.json"
        ends = [os.pipe(), os.pipe()]
        raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "{}x{}".format(*self._size), "-r", "25"]
        inputs = [part for read, _ in ends for part in (*raw, "-i", f"pipe:{read}")]
        chain = f"libvmaf=log_fmt=json:log_path=vmaf.json:n_threads={threads}"
        command = [
            need_ffmpeg("VMAF"),
            "-v",
            "error",
            "-nostdin",
            *inputs,
            "-lavfi",
            chain,
            "-f",
            "null",
            "-",
        ]
        self._process = subprocess.Popen(
            command, pass_fds=[read for read, _ in ends], cwd=self._folder.name,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        for read, _ in ends:
            os.close(read)
        self._pipes: list[IO[bytes]] = [os.fdopen(write, "wb") for _, write in ends]
        self._workers = [Worker(partial(_write, pipe), "write", 4) for pipe in self._pipes]

    def put(self, frame: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> None:
        """Take a frame and its reference: planes Y, U and V of 4:2:0, uint8, of one size."""
        width, height = self._size
        for worker, planes in zip(self._workers, (frame, reference), strict=True):
            y, *chroma = planes
            parts = [y[:height, :width], *(c[: height // 2, : width // 2] for c in chroma)]
            worker.put(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))

    def close(self) -> list[float]:
        """Wait for FFmpeg and return each frame's VMAF; empty, with a warning, if it failed."""
        for worker, pipe in zip(self._workers, self._pipes, strict=True):
            worker.stop()
            with suppress(OSError):
                pipe.close()
        _, said = self._process.communicate()
        try:
            frames = json.loads(self._log.read_text())["frames"]
            return [float(frame["metrics"]["vmaf"]) for frame in frames]
        except (OSError, ValueError, KeyError):
            last = (said.decode(errors="replace").strip().splitlines() or ["no word of why"])[-1]
            logger.warning("VMAF is left out: FFmpeg failed: %s", last)
            return []
        finally:
            self._folder.cleanup()


def _write(pipe: IO[bytes], data: bytes) -> None:
    with suppress(BrokenPipeError):  # why FFmpeg ended is told when it is closed
        pipe.write(data)
