"""Videos of many kinds, made by the ffmpeg binary, and a reader of videos that is not ours."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
FAST = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", "-pix_fmt", "yuv420p")


def ffmpeg(*arguments: object) -> str:
    """Run the ffmpeg binary. Returns what it says."""
    command = [FFMPEG, "-nostdin", "-hide_banner", "-y", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stderr


def made(path: Path, *arguments: object) -> Path:
    """Make a video with the ffmpeg binary."""
    told = ffmpeg(*arguments, path)
    assert path.exists() and path.stat().st_size, told
    return path


def source(filters: str = "", *, size: str = "64x48", rate: str = "25", count: int = 10) -> tuple[str, ...]:
    """Input arguments of a moving pattern."""
    chain = f"gradients=s={size}:r={rate}:speed=0.05:seed=1,trim=end_frame={count}{filters}"
    return ("-f", "lavfi", "-i", chain)


@dataclass(frozen=True)
class Seen:
    """A file, as the ffmpeg binary sees it."""

    times: tuple[float, ...]
    """Seconds at which frames are shown."""
    streams: tuple[str, ...]
    """Descriptions of its streams."""
    text: str
    """All that is said of it."""

    def kinds(self, name: str) -> int:
        """Number of streams of a kind."""
        return sum(f": {name}:" in stream for stream in self.streams)


def see(path: Path, stream: str = "0:v:0") -> Seen:
    """Read a file with the ffmpeg binary."""
    text = ffmpeg("-i", path)
    shown = ffmpeg("-copyts", "-noautorotate", "-i", path, "-map", stream, "-vf", "showinfo", "-fps_mode", "passthrough",
                   "-f", "null", "-")  # fmt: skip
    times = tuple(float(found) for found in re.findall(r"showinfo.* n: *\d+ pts:.*? pts_time:(-?[\d.]+)", shown))
    return Seen(times, tuple(re.findall(r"^ *Stream #0:\d+.*", text, re.MULTILINE)), text)
