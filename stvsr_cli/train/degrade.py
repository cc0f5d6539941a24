"""Degradations of the real world, drawn per clip: blur, reduction, noise, JPEG, video codecs.

The order and the ranges follow Real-ESRGAN's idea of a random chain (Wang et al., arXiv 2107.10833), with real codecs
in place of simulated ones.
"""

import io
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
import cv2
import numpy as np
import torch

from stvsr_cli.color.convert import from_rgb, to_rgb
from stvsr_cli.media.read.decode import Picture
from stvsr_cli.media.read.probe import ColorTags
from stvsr_cli.media.write.encode import has_avx512, to_av

PIX_FMT, COLOR = "yuv420p", ColorTags()
"""What the codecs are given and give back: 4:2:0, with the matrix and range of an untagged small video."""
REDUCTIONS = (cv2.INTER_AREA, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4)
CODECS = ("libx264", "libx264", "libx264", "mpeg4", "mpeg2video", "libvpx", "libvpx-vp9")


@dataclass(frozen=True, kw_only=True, slots=True)
class Degradation:
    """One draw of the chain, applied equally to all frames of a clip."""

    blur: np.ndarray | None
    """Blur kernel on the full-size frame, or None."""
    reduction: int
    """OpenCV interpolation of the reduction."""
    noise: float
    """Standard deviation of Gaussian noise, in code values."""
    shot_noise: float
    """Noise that grows with the square root of brightness, in code values at white."""
    noise_correlation: float
    """Blur of the noise in pixels; 0 is white noise."""
    jpeg: int | None
    """JPEG quality, or None."""
    codecs: tuple[tuple[str, int], ...]
    """Codecs with their quality (crf, or quantiser)."""


def draw(rng: np.random.Generator) -> Degradation:
    """Draw a degradation: a third only reduced and lightly coded, a third as of a phone or the web, the rest of any kind."""
    kind = rng.random()
    if kind < 0.35:
        return Degradation(
            blur=None, reduction=REDUCTIONS[int(rng.integers(2 if rng.random() < 0.7 else 5))], noise=0.0, shot_noise=0.0,
            noise_correlation=0.0, jpeg=None, codecs=(("libx264", int(rng.integers(6, 20))),) if rng.random() < 0.9 else (),
        )  # fmt: skip
    if kind < 0.65:
        return Degradation(
            blur=_gaussian(rng.uniform(0.8, 2.2)), reduction=cv2.INTER_AREA, noise=float(rng.uniform(1, 6)), shot_noise=0.0,
            noise_correlation=0.0, jpeg=None, codecs=(("libx264", int(rng.integers(22, 34))),),
        )  # fmt: skip
    codecs = [_codec(rng)] if rng.random() < 0.92 else []
    if rng.random() < 0.15:
        codecs.append(_codec(rng))
    return Degradation(
        blur=_kernel(rng) if rng.random() < 0.8 else None,
        reduction=REDUCTIONS[int(rng.integers(len(REDUCTIONS)))],
        noise=float(rng.uniform(0, 8)) if rng.random() < 0.6 else 0.0,
        shot_noise=float(rng.uniform(0, 8)) if rng.random() < 0.25 else 0.0,
        noise_correlation=float(rng.uniform(0.4, 1.0)) if rng.random() < 0.25 else 0.0,
        jpeg=int(rng.integers(40, 95)) if rng.random() < 0.15 else None,
        codecs=tuple(codecs),
    )


def strengths(degradation: Degradation) -> np.ndarray:
    """How strong the noise, the coding and the blur of a draw are, each from 0, none, to about the most that is drawn, 1: [3] float32."""
    noise = math.hypot(degradation.noise, degradation.shot_noise / math.sqrt(2)) / 8
    coding = [_coding(codec, quality) for codec, quality in degradation.codecs]
    coding += [] if degradation.jpeg is None else [(95 - degradation.jpeg) / 55]
    spread = 0.0
    if degradation.blur is not None:
        x, y = _grid(len(degradation.blur))
        spread = math.sqrt(max(float((degradation.blur * (x**2 + y**2)).sum()) / 2, 0.0))
    return np.clip(np.array([noise, max(coding, default=0.0), spread / 2.6], np.float32), 0, 1)


def overall(degradation: Degradation) -> float:
    """How strong a draw is as a whole: the mean of its strengths, from 0, none, to 1."""
    return float(strengths(degradation).mean())


def draw_within(rng: np.random.Generator, least: float, most: float) -> Degradation:
    """Draw a degradation that is as a whole at least and at most so strong."""
    while True:
        drawn = draw(rng)
        if least <= overall(drawn) <= most:
            return drawn


def darkened(frames: np.ndarray, brightness: float) -> np.ndarray:
    """Frames, uint8, at a share of their brightness."""
    return frames if brightness == 1 else np.rint(frames * np.float32(brightness)).astype(np.uint8)


def _coding(codec: str, quality: int) -> float:
    """How strongly a codec takes away at a quality, from 0, what hardly shows, to 1."""
    least, span = {"libx264": (12, 24), "libvpx": (4, 36), "libvpx-vp9": (12, 33)}.get(codec, (1, 9))
    return (quality - least) / span


def apply(frames: np.ndarray, degradation: Degradation, scale: int, rng: np.random.Generator) -> np.ndarray:
    """Return the degraded, reduced clip.

    frames: [T, H, W, 3] uint8, RGB. Returns [T, H/scale, W/scale, 3] uint8.
    """
    height, width = frames.shape[1] // scale, frames.shape[2] // scale
    out = []
    for frame in frames:
        x = frame if degradation.blur is None else cv2.filter2D(frame, -1, degradation.blur)
        x = cv2.resize(x, (width, height), interpolation=degradation.reduction).astype(np.float32)
        x = np.clip(np.rint(x + _noise(x, degradation, rng)), 0, 255).astype(np.uint8)
        if degradation.jpeg is not None:
            _, data = cv2.imencode(".jpg", x[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, degradation.jpeg])
            x = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
        out.append(x)
    clip = np.stack(out)
    for codec, quality in degradation.codecs:
        clip = through_codec(clip, codec, quality)
    return clip


def through_codec(frames: np.ndarray, codec: str, quality: int) -> np.ndarray:
    """Encode and decode a clip. frames: [T, H, W, 3] uint8; odd sides are padded and cropped again."""
    height, width = frames.shape[1:3]
    padded = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    buffer = io.BytesIO()
    pictures = from_rgb(torch.from_numpy(padded.transpose(0, 3, 1, 2)).float() / 255, PIX_FMT, COLOR)
    with av.open(buffer, "w", format="matroska") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=Fraction(15)))
        stream.height, stream.width, stream.pix_fmt = *padded.shape[1:3], PIX_FMT
        stream.codec_context.options = _options(codec, quality)
        for i, picture in enumerate(pictures):
            container.mux(stream.encode(to_av(picture, i, 1, Fraction(1, 15))))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer, "r") as source:
        decoded = [_rgb(frame) for frame in source.decode(video=0)]
    if len(decoded) < len(frames):
        decoded += [decoded[-1]] * (len(frames) - len(decoded))
    return np.stack(decoded[: len(frames)])[:, :height, :width]


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    """A decoded frame as [H, W, 3] uint8, by the exact conversion that the command line uses."""
    height, width = frame.height, frame.width
    planes = frame.to_ndarray(format=PIX_FMT)  # [H * 3/2, W]
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    rgb = to_rgb([Picture((planes[:height], chroma[0], chroma[1]), PIX_FMT, COLOR)])[0]
    return np.ascontiguousarray((rgb * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


def _options(codec: str, quality: int) -> dict[str, str]:
    if codec == "libx264":
        options = {"crf": str(quality), "preset": "veryfast" if quality % 2 else "medium", "threads": "1"}
        return options | ({"x264-params": "asm=avx2"} if has_avx512() else {})  # else its result varies
    if codec in ("libvpx", "libvpx-vp9"):
        return {
            "crf": str(quality),
            "b": "0" if codec.endswith("9") else "2M",
            "deadline": "realtime",
            "cpu-used": "6",
            "threads": "1",
        }
    return {"qmin": str(quality), "qmax": str(quality), "flags": "+qscale", "threads": "1"}


def _codec(rng: np.random.Generator) -> tuple[str, int]:
    codec = CODECS[int(rng.integers(len(CODECS)))]
    low, high = {"libx264": (16, 34), "libvpx": (8, 40), "libvpx-vp9": (15, 45)}.get(codec, (2, 10))
    return codec, int(rng.integers(low, high))


def _noise(x: np.ndarray, degradation: Degradation, rng: np.random.Generator) -> np.ndarray | float:
    if not degradation.noise and not degradation.shot_noise:
        return 0.0
    noise = rng.standard_normal(x.shape, dtype=np.float32)
    if degradation.noise_correlation:
        noise = cv2.GaussianBlur(noise, (0, 0), degradation.noise_correlation)
        noise /= noise.std() + 1e-6
    strength = np.sqrt(degradation.noise**2 + degradation.shot_noise**2 * x / 255)
    return noise * strength


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    side = np.arange(size, dtype=np.float64) - size // 2
    x, y = np.meshgrid(side, side)
    return x, y


def _gaussian(wide: float, narrow: float | None = None, angle: float = 0.0, size: int = 17) -> np.ndarray:
    """A Gaussian blur kernel, [size, size], sum 1; `wide` and `narrow` are standard deviations along its axes in pixels."""
    x, y = _grid(size)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((u / wide) ** 2 + (v / (narrow or wide)) ** 2))
    return (kernel / kernel.sum()).astype(np.float32)


def _kernel(rng: np.random.Generator, size: int = 17) -> np.ndarray:
    """Draw an isotropic or anisotropic Gaussian, or a circular low-pass with ripples, [size, size], sum 1."""
    kind = rng.random()
    if kind < 0.15:
        x, y = _grid(size)
        cutoff = rng.uniform(0.25, 0.9) * np.pi
        radius = np.maximum(np.hypot(x, y), 1e-6)
        kernel = np.sinc(cutoff * radius / np.pi) * np.cos(np.clip(radius / (size / 2), 0, 1) * np.pi / 2)
        return (kernel / kernel.sum()).astype(np.float32)
    angle = rng.uniform(0, np.pi)
    wide = rng.uniform(0.4, 2.6)
    return _gaussian(wide, wide if kind < 0.65 else wide * rng.uniform(0.4, 1.0), angle, size)
