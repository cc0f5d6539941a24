"""Whether an encoder opens with what is asked of it: tried before hours of work, and said in plain words."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path

import av
import av.error
import av.logging

from stvsr_cli.errors import OutputError, UsageError
from stvsr_cli.media.write.settings import CARD_FORMATS, ENCODERS, INSTEAD, Options, quality_options

logger = logging.getLogger(__name__)

FAST = {"libx264": "veryfast", "libx265": "veryfast", "libsvtav1": "10"}
"""Presets that keep up with a graphics card on a machine of many cores."""
TRIAL_PX = (640, 360)
"""Size at which programs are tried: only their options are in question, and large pictures take memory."""
NVIDIA = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("C:/Windows/System32/nvcuda.dll"))
"""What is there where a driver of NVIDIA's is: Linux, WSL, Windows."""
NO_DRIVER = ("Cannot load", "cuda_check_ret", "CUDA_ERROR", "no CUDA-capable device")
OLD_DRIVER = ("does not support the required nvenc API version", "minimum required Nvidia driver")
NO_ENCODER = (
    "No capable devices found",
    "unsupported device",
    "No NVENC capable devices",
    "OpenEncodeSessionEx failed",
)


def assert_opens(codec: str, options: dict[str, str], pix_fmt: str, size: tuple[int, int], rate: Fraction) -> None:
    """Open an encoder as it will be opened, before hours of work. pix_fmt: as the encoder has it.

    Raises UsageError for an option that it does not use, OutputError with what to do instead if it does not open.
    """
    is_card = codec in INSTEAD
    width, height = size if is_card else (min(side, least) for side, least in zip(size, TRIAL_PX, strict=True))
    width, height = (side + side % 2 for side in (width, height))  # as all outputs are
    _assert_opens(codec, tuple(options.items()), pix_fmt, width, height, rate)


@lru_cache(maxsize=64)
def _assert_opens(codec: str, options: Options, pix_fmt: str, width: int, height: int, rate: Fraction) -> None:
    with _overheard() as said:
        try:
            left = open_encoder(codec, dict(options), pix_fmt, width, height, rate)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            lines = [text.strip() for _, _, text in said] or [getattr(error, "strerror", None) or str(error)]
            raise _failure(codec, lines) from error
    if left:
        names = ", ".join(f"--crf {left[name]}" if name == "crf" else f"{name}={left[name]}" for name in left)
        raise UsageError(f"{codec} does not use {names}.", hint=f"Leave it out, or see `ffmpeg -h encoder={codec}`.")


def open_encoder(
    codec: str, options: dict[str, str], pix_fmt: str, width: int, height: int, rate: Fraction
) -> dict[str, str]:
    """Open an encoder and close it again. Returns the options that it left unused. Raises what PyAV raises."""
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = width, height, pix_fmt  # type: ignore[attr-defined]
    context.time_base, context.framerate = 1 / rate, rate  # type: ignore[attr-defined]
    context.options = options
    context.open()
    return dict(context.options)


@contextmanager
def _overheard() -> Iterator[list[tuple[int, str, str]]]:
    """Collect what FFmpeg says in this thread, in place of standard error."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as said:
            yield said
    finally:
        av.logging.set_level(before)


def _failure(codec: str, lines: list[str]) -> OutputError:
    """What to say of an encoder that does not open. lines: what FFmpeg said."""
    text = " ".join(lines)
    if codec not in INSTEAD:
        return OutputError(
            f"{codec} does not take these options: {_first(lines)}.", hint="Check --preset and --encoder-option."
        )
    program = INSTEAD[codec]
    hint = f"Use --codec {program} --preset {FAST[program]}."
    if any(words in text for words in OLD_DRIVER):
        hint = f"Update the NVIDIA driver, or use --codec {program} --preset {FAST[program]}."
        return OutputError(f"{codec} needs a newer NVIDIA driver.", hint=hint)
    if any(words in text for words in NO_DRIVER):
        return OutputError(f"{codec} found no NVIDIA driver or card.", hint=hint)
    if any(words in text for words in NO_ENCODER):
        which = "AV1 encoder" if codec == "av1_nvenc" else "video encoder"
        return OutputError(f"this card has no {which} that is free, or none at all (such as H100).", hint=hint)
    return OutputError(f"{codec} cannot be opened: {_first(lines)}.", hint=hint)


def _first(lines: list[str]) -> str:
    return next((line.rstrip(".") for line in lines if line), "it does not say why")


@cache
def has_card(device: str) -> bool:
    """Whether a run on a device, by its name, has an NVIDIA card whose encoder may be asked for. Imports nothing."""
    return device.startswith(("auto", "cuda")) and any(place.exists() for place in NVIDIA)


def hardware_choice(container_codec: str, size: tuple[int, int], pix_fmt: str, rate: Fraction) -> str | None:
    """The card's encoder of the same format as a program's, if it opens for such pictures; else None.

    Pictures of 10 bits, and those larger than H.264 cards take, go to the card's HEVC encoder.
    """
    twins = [card for card, program in INSTEAD.items() if program == container_codec]
    if container_codec == "libx264":
        twins.append("hevc_nvenc")
    for card in twins:
        if pix_fmt.endswith("10le") and not ENCODERS[card].is_deep:
            continue
        try:
            assert_opens(card, quality_options(card, None), CARD_FORMATS.get(pix_fmt, pix_fmt), size, rate)
        except (OutputError, UsageError) as error:
            logger.debug("%s: %s", card, error)
            continue
        return card
    return None
