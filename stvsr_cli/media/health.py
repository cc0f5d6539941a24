"""Whether the codecs here work: versions, and encoders that really encode."""

import re
import subprocess
from fractions import Fraction
from typing import cast

import av
import av.error
import numpy as np

from stvsr_cli.errors import StvsrError
from stvsr_cli.media.ffmpeg import find_ffmpeg, why_missing
from stvsr_cli.media.write.encode import encoder_options, find_encoder
from stvsr_cli.media.write.settings import EncoderConfig

SIDE_PX = 256
"""Of the picture that is encoded: hardware refuses smaller ones."""
HARDWARE = ("h264_nvenc", "hevc_nvenc", "av1_nvenc")


def library_version() -> str:
    """The version of PyAV, and of FFmpeg's libavcodec in it."""
    return f"{av.__version__}, libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"


def binary_version() -> tuple[str, str]:
    """The version of the FFmpeg binary, and its path. Raises OSError, or subprocess.SubprocessError, if there is none that runs."""
    path = find_ffmpeg()
    if path is None:
        raise FileNotFoundError(why_missing())
    said = subprocess.run([path, "-version"], capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.search(r"ffmpeg version (\S+)", said)
    return (found[1] if found else "unknown"), path


def encoder_fault(name: str) -> str | None:
    """Why an encoder does not work here, or None: it is opened, and encodes three pictures."""
    picture = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    picture[:, ::2] = 200
    try:
        codec = find_encoder(name)
        context = cast(av.VideoCodecContext, av.CodecContext.create(name, "w"))
        formats = [f.name for f in codec.video_formats or ()]
        context.width = context.height = SIDE_PX
        context.pix_fmt = next((f for f in formats if f in ("yuv420p", "yuv422p10le", "gbrp")), "yuv420p")
        context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
        if name not in HARDWARE:
            context.options = encoder_options(EncoderConfig(codec=name))
        num_bytes = 0
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, number, 1), format="rgb24")
            frame = frame.reformat(format=context.pix_fmt, threads=1)
            frame.pts, frame.time_base = number, context.time_base
            num_bytes += sum(packet.size for packet in context.encode(frame))
        num_bytes += sum(packet.size for packet in context.encode(None))
    except (StvsrError, av.error.FFmpegError, ValueError, OSError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    return None if num_bytes else "it gives no data"
