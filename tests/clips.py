"""Clips that tests make for themselves, through real codecs."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from stvsr_cli.media.images import encoded

TESTS = Path(__file__).parent
ROOT = TESTS.parent
BUNNY = TESTS / "bunny.mp4"
PARITY = TESTS / "parity"

SAMPLE_RATE = 48000


def pattern(index: int, width: int, height: int, speed: int = 2) -> np.ndarray:
    """A smooth coloured pattern that moves `speed` pixels a frame, [height, width, 3] uint8."""
    x = np.arange(width)[None] - speed * index
    y = np.arange(height)[:, None]
    red = 127 + 100 * np.sin(x / 7.0) * np.cos(y / 9.0)
    green = 127 + 100 * np.sin((x + 2 * y) / 11.0)
    blue = 127 + 100 * np.cos(x / 13.0 + y * 0)
    return np.stack(np.broadcast_arrays(red, green, blue), -1).round().astype(np.uint8)


def make_video(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    rate: Fraction | int = 25,
    stamps: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    pix_fmt: str = "yuv420p",
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    rotation: int = 0,
    aspect: Fraction | None = None,
    color: tuple[int, int] | None = None,
    audio_s: float | None = None,
    audio_codec: str = "aac",
    audio_start_s: float = 0.0,
    beeps_s: Sequence[float] = (),
    metadata: dict[str, str] | None = None,
    chapters: Sequence[tuple[float, float, str]] = (),
) -> Path:
    """Write pictures [H, W, 3] uint8 as a video, with sound if asked for.

    stamps, time_base: presentation times of the frames; evenly spaced by `rate` without them. color: matrix and range.
    beeps_s: moments at which the sound has a beep of 20 ms; silence else.
    """
    base = time_base or 1 / Fraction(rate)
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        if chapters:
            unit = Fraction(1, 1000)
            container.set_chapters(
                [
                    {"id": i, "start": int(a * 1000), "end": int(b * 1000), "time_base": unit, "metadata": {"title": t}}
                    for i, (a, b, t) in enumerate(chapters)
                ]
            )
        stream = container.add_stream(codec, rate=Fraction(rate))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.time_base = stream.codec_context.time_base = base
        stream.codec_context.options = options or ({"crf": "12", "preset": "ultrafast"} if codec == "libx264" else {})
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if color is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = color
        if rotation:
            stream.set_display_rotation(rotation)
        sound = container.add_stream(audio_codec, rate=SAMPLE_RATE) if audio_s is not None else None
        if sound is not None:
            sound.codec_context.layout = "mono"
            sound.metadata["language"] = "deu"
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if color is not None:
                frame = frame.reformat(format=pix_fmt, dst_colorspace=color[0], dst_color_range=color[1], threads=1)
                frame.colorspace, frame.color_range = color
            frame.pts, frame.time_base = (stamps[i] if stamps is not None else i), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            _write_sound(container, sound, audio_s, audio_start_s, beeps_s)
    return path


def _write_sound(container, stream, seconds: float, start_s: float, beeps_s: Sequence[float]) -> None:
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = np.zeros_like(times)
    for beep in beeps_s:
        active = (times >= beep) & (times < beep + 0.02)
        wave[active] = 0.8 * np.sin(2 * np.pi * 2000 * times[active])
    samples = (wave * 32767).astype(np.int16)[None]
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
    frame.pts = int(start_s * SAMPLE_RATE)
    if not stream.codec_context.is_open:
        stream.codec_context.open()
    resampler = av.AudioResampler(
        stream.codec_context.format, "mono", SAMPLE_RATE, stream.codec_context.frame_size or 1024
    )
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(stream.encode(piece))
    container.mux(stream.encode())


def read_frames(path: Path) -> tuple[list[np.ndarray], list[Fraction], list[Fraction]]:
    """Frames as RGB, their times in seconds and their durations in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pictures, times, durations = [], [], []
        for frame in container.decode(stream):
            pictures.append(frame.to_ndarray(format="rgb24"))
            times.append(frame.pts * frame.time_base)
            durations.append((frame.duration or 0) * frame.time_base)
    return pictures, times, durations


def beep_times(path: Path, *, threshold: float = 0.2) -> list[float]:
    """Moments in seconds at which the sound rises out of silence."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        found: list[float] = []
        for frame in container.decode(stream):
            wave = np.abs(frame.to_ndarray().astype(np.float64).mean(0))
            wave = wave / 32768 if frame.format.name.startswith("s16") else wave
            begin = float(frame.pts * frame.time_base)
            for i in np.flatnonzero(wave > threshold):
                moment = begin + i / frame.sample_rate
                if not found or moment - found[-1] > 0.1:
                    found.append(moment)
    return found


def flash_times(path: Path, *, threshold: float = 128) -> list[float]:
    """Moments in seconds at which the picture turns bright."""
    pictures, times, _ = read_frames(path)
    bright = [picture.mean() > threshold for picture in pictures]
    return [float(t) for i, t in enumerate(times) if bright[i] and (i == 0 or not bright[i - 1])]


def picture(path: Path, rgb: np.ndarray) -> Path:
    """Write one picture, of the kind that the suffix says, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(rgb, path.suffix))
    return path


def sequence(folder: Path, count: int = 5, suffix: str = ".png", first: int = 1) -> Path:
    """Write numbered pictures into a folder."""
    for i in range(count):
        picture(folder / f"{i + first:03d}{suffix}", pattern(i, 48, 32))
    return folder
