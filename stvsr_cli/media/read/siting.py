"""Where chroma samples lie between the pixels, read and written around PyAV, which does not expose it."""

import re
import subprocess
from functools import lru_cache
from pathlib import Path

LOCATIONS = ("left", "center", "topleft", "top", "bottomleft", "bottom")
"""FFmpeg's names in the order of ITU-T H.264, table E-1, chroma_sample_loc_type."""
DEFAULT = "left"
"""What H.264 and MPEG-2 assume of 4:2:0 video that does not say."""
TIMEOUT_S = 20


def read_siting(path: Path, stream_index: int) -> str:
    """The chroma location of a video stream, by the ffmpeg binary's description; `DEFAULT` where there is none."""
    try:
        state = path.stat()
    except OSError:
        return DEFAULT
    return _described(path, stream_index, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _described(path: Path, stream_index: int, size: int, modified_ns: int) -> str:
    import imageio_ffmpeg  # looks for its binary on import

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "verbose", "-nostdin", "-protocol_whitelist", "file", "-i"]
    try:
        done = subprocess.run([*command, f"file:{path}"], capture_output=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return DEFAULT
    text = done.stderr.decode("utf-8", "replace")
    match = re.search(rf"Stream #0:{stream_index}\b.*?Video:.*?\byuvj?\d+p\w*\(([^)]*)\)", text)
    words = [] if match is None else [word.strip() for word in match[1].split(",")]
    return next((word for word in words if word in LOCATIONS), DEFAULT)


def siting_options(codec: str, siting: str) -> dict[str, str]:
    """Encoder options that write a chroma location into the stream; none for the default and other encoders."""
    if siting == DEFAULT or siting not in LOCATIONS:
        return {}
    number = LOCATIONS.index(siting)
    return {
        "libx264": {"x264-params": f"chromaloc={number}"},
        "libx265": {"x265-params": f"chromaloc={number}"},
    }.get(codec, {})
