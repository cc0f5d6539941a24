"""What a job leaves open about its video, chosen by the container: the encoder, its preset, a constant rate."""

import logging
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av

from stvsr_cli.errors import InputError
from stvsr_cli.media.read.count import measure
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.write.encode import PALETTE, choose_pix_fmt, encoder_format, encoder_options, find_encoder
from stvsr_cli.media.write.encoders import assert_opens, hardware_choice
from stvsr_cli.media.write.settings import AUTO, DEFAULT_CODEC, INSTEAD, EncoderConfig

logger = logging.getLogger(__name__)

CODECS = {".webm": "libvpx-vp9", ".gif": PALETTE}
"""Encoders by suffix, where the default one does not fit."""
NAMED = {
    "h264": "libx264", "avc": "libx264", "hevc": "libx265", "h265": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9",
    "vp8": "libvpx",
}  # fmt: skip
"""Encoders of formats that people name instead."""
PRESETS = "ultrafast superfast veryfast faster fast medium slow slower veryslow placebo".split()
"""Presets by the names that x264 gave them."""
EFFORT = {
    "libvpx-vp9": ("cpu-used", (8, 7, 6, 5, 4, 2, 1, 1, 0, 0)),
    "libvpx": ("cpu-used", (8, 7, 6, 5, 4, 2, 1, 1, 0, 0)),
    "libaom-av1": ("cpu-used", (8, 8, 7, 6, 5, 4, 3, 2, 1, 0)),
    **dict.fromkeys(INSTEAD, ("preset", (1, 1, 1, 2, 3, 4, 5, 6, 7, 7))),
    "libsvtav1": ("preset", (12, 11, 10, 9, 8, 6, 5, 4, 3, 2)),
}
"""Encoders that count their presets: the option, and its value for each of `PRESETS`."""
REAL_TIME = 5
"""Values of `cpu-used` above this are for libvpx's real-time mode only."""
CONSTANT_RATE = frozenset({".avi"})
"""Suffixes of containers that count frames instead of keeping times."""
USUAL = (
    *map(Fraction, (5, 10, 12, 15, 20)), Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001),
    Fraction(30), Fraction(50), Fraction(60000, 1001), Fraction(60),
)  # fmt: skip
"""Frame rates in use."""
FASTEST_GIF = Fraction(50)
"""Frames per second of GIF, whose times are hundredths; players slow down what is faster."""


def fitted(config: EncoderConfig, target: Path) -> EncoderConfig:
    """The configuration with what it leaves open, for an output of some suffix. Raises OutputError.

    An encoder that was named by its format becomes the one of that format; a preset is put as that encoder has it.
    """
    suffix = target.suffix.lower()
    name = CODECS.get(suffix, DEFAULT_CODEC) if config.codec == AUTO else NAMED.get(config.codec, config.codec)
    codec = find_encoder(name).name
    options = dict(config.options)
    preset = config.preset
    if codec in EFFORT and (preset in PRESETS or (preset is None and codec.startswith("libvpx"))):
        key, values = EFFORT[codec]
        value = values[PRESETS.index(preset or "medium")]
        options.setdefault(key, f"p{value}" if codec in INSTEAD else str(value))
        if codec.startswith("libvpx"):
            options.setdefault("deadline", "realtime" if value > REAL_TIME else "good")
            options.setdefault("row-mt", "1")
        preset = None
    elif preset is not None and not _has_presets(codec):
        _tell_of_preset(codec, preset)
        preset = None
    if suffix in CONSTANT_RATE and codec in ("libx264", "libx265"):
        options.setdefault("bf", "0")  # players of AVI show frames in the order in which they are stored
    return replace(config, codec=codec, preset=preset, options=tuple(options.items()))


def on_card(
    config: EncoderConfig, target: Path, info: VideoInfo, size: tuple[int, int], rate: Fraction
) -> EncoderConfig:
    """The configuration with a graphics card's encoder, where it is left open and the card has one; says so.

    size: width and height of the output; rate: its frames a second. What was asked of a program by name stays with it.
    """
    if config.codec != AUTO or config.options:
        return config
    program = fitted(config, target).codec
    chosen = hardware_choice(program, size, choose_pix_fmt(replace(config, codec=program), info), rate)
    if chosen is None:
        return config
    logger.info("encoding on the graphics card by %s; --codec %s does without", chosen, program)
    return replace(config, codec=chosen)


def assert_encodes(config: EncoderConfig, target: Path, info: VideoInfo, size: tuple[int, int], rate: Fraction) -> None:
    """Open the encoder as it will be opened for an output. size: width and height; rate: frames a second.

    Raises OutputError or UsageError for what it does not take.
    """
    config = fitted(config, target)
    pix_fmt = encoder_format(config.codec, choose_pix_fmt(config, info))
    assert_opens(config.codec, encoder_options(config, info.hdr), pix_fmt, size, rate)


@lru_cache
def _has_presets(codec: str) -> bool:
    context = av.CodecContext.create(codec, "w")
    return any(option.name == "preset" for option in context.supported_options.private)


@lru_cache
def _tell_of_preset(codec: str, preset: str) -> None:
    logger.warning("%s has no presets: %s is left out", codec, preset)


def _usual_rate(info: VideoInfo) -> Fraction:
    """A video's rate; where its container names a multiple that few frames keep to, the next one up that is in use."""
    if info.average_rate <= USUAL[-1] or not info.path.is_file():
        return info.average_rate
    try:
        found = measure(info.path)
    except InputError:
        return info.average_rate
    real = found.num_frames / found.duration_s if found.duration_s else info.average_rate
    return info.average_rate if 2 * real > info.average_rate else next(rate for rate in USUAL if rate >= real)


def steady_rate(info: VideoInfo, target: Path, factor: Fraction) -> Fraction | None:
    """The constant rate at which input frames are to be taken for an output; None: as they come.

    factor: output frames for each of the input's.
    """
    suffix = target.suffix.lower()
    if suffix in CONSTANT_RATE:
        return _usual_rate(info)
    if suffix == ".gif" and info.average_rate * factor > FASTEST_GIF:
        return FASTEST_GIF / factor
    return None
