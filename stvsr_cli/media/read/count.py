"""What a file really holds, by reading all its packets: a header may promise more than there is."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av.error

from stvsr_cli.errors import InputError
from stvsr_cli.media.pyav import exact
from stvsr_cli.media.read.probe import open_input


@dataclass(frozen=True, slots=True)
class Measure:
    """Frames of the first video stream that are there."""

    width: int
    height: int
    num_frames: int
    duration_s: Fraction
    """From the first frame's begin to the last one's end."""


def measure(path: Path) -> Measure:
    """Count the video frames of a file without decoding them. Raises InputError if it cannot be read."""
    with open_input(path) as container:
        if not container.streams.video:
            raise InputError(f"{path} has no video stream.", hint="Name a file with a video.")
        stream = container.streams.video[0]
        stamps = []
        try:
            for packet in container.demux(stream):
                if packet.pts is not None and not packet.is_corrupt:
                    stamps.append((packet.pts, packet.duration or 0))
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{path} ends unexpectedly: {error}.", hint="Make it again.") from error
        base = exact(stream.time_base) or Fraction(1)
        length = max(p + d for p, d in stamps) - min(p for p, _ in stamps) if stamps else 0
        return Measure(stream.width, stream.height, len(stamps), length * base)
