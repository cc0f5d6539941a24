"""Values of options as people write them."""

import re
from fractions import Fraction

from stvsr_cli.errors import UsageError

NUMBER = re.compile(r"^(?:\d+(?:\.\d+)?|\d+/\d*[1-9]\d*)$", re.ASCII)
NTSC = (24, 30, 48, 60, 72, 96, 120, 144, 240)
"""Rates that are also used 1000/1001 times as fast, which people write with two or three digits, as 23.98."""
NEAR_NTSC = Fraction(4, 1000)
"""By how much what they write may differ."""
FINEST = 10**6
"""Largest denominator of a rate."""
FINEST_MULTIPLE = 1000
"""Largest denominator of a multiple of the input's rate."""
SIZE = re.compile(r"^(\d{1,5})[xX](\d{1,5})$")
CLOCK = re.compile(r"^(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d+)?)$")


def parse_time(text: str | None, option: str) -> Fraction | None:
    """Seconds of a time: SECONDS, MM:SS or HH:MM:SS, each with decimals. Raises UsageError."""
    if text is None:
        return None
    match = CLOCK.match(text.strip())
    if match is None:
        raise UsageError(f"{option} {text!r} is not a time.", hint="Write seconds, MM:SS or HH:MM:SS.")
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + Fraction(seconds)


def parse_scale(text: str | None, option: str = "--scale") -> Fraction | None:
    """A factor or a rate: 4, 1.5 or 3/2. Raises UsageError."""
    if text is None:
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"{option} {text!r} is not a number.", hint="Write 4, 1.5 or 3/2.") from error


def parse_number(text: str, option: str) -> Fraction:
    """A factor that is not negative: 2, 2.5 or 5/2. Raises UsageError."""
    if not NUMBER.match(text.strip()):
        raise UsageError(f"{option} {text!r} is not a number.", hint="Write 2, 2.5 or 5/2.")
    value = Fraction(text.strip())
    if value.denominator > FINEST_MULTIPLE:
        raise UsageError(f"{option} {text!r} is too fine.", hint="Write 2, 2.5 or 5/2.")
    return value


def parse_rate(text: str, option: str = "--fps") -> Fraction:
    """Frames a second: 60, 59.94 or 60000/1001, the last two of which are one. Raises UsageError."""
    if not NUMBER.match(text.strip()):
        raise UsageError(f"{option} {text!r} is not a frame rate.", hint="Write 60, 59.94 or 60000/1001.")
    value = Fraction(text.strip())
    if "." in text:
        exact = next((r for n in NTSC if abs((r := Fraction(n * 1000, 1001)) - value) < NEAR_NTSC), value)
        value = value if value.denominator == 1 else exact
    if value.denominator > FINEST or value > FINEST:
        raise UsageError(f"{option} {text!r} is too fine or too fast.", hint="Write 60, 59.94 or 60000/1001.")
    return value


def parse_pace(fps: str | None, fps_factor: str | None, slow_motion: Fraction) -> tuple[Fraction, Fraction | None]:
    """Output frames for each input frame, and the output's rate, where that is what is asked for. Raises UsageError.

    fps: a rate, or a multiple such as 2x of the input's rate.
    """
    if fps is not None and fps.strip().endswith(("x", "X")):
        return parse_number(fps.strip()[:-1], "--fps") * slow_motion, None
    factor = slow_motion if slow_motion > 1 else Fraction(2)
    if fps_factor is not None:
        factor = max(parse_number(fps_factor, "--fps-factor"), slow_motion if slow_motion > 1 else Fraction(0))
    return factor, None if fps is None else parse_rate(fps)


def parse_fit(text: str | None, width: int | None, height: int | None) -> tuple[int | None, int | None]:
    """Width and height, of WxH where that is given. Raises UsageError."""
    if text is None:
        return width, height
    if width is not None or height is not None:
        raise UsageError("--fit cannot be combined with --width or --height.", hint="Give one of them.")
    match = SIZE.match(text.strip())
    if match is None or "0" in (match[1].lstrip("0") or "0", match[2].lstrip("0") or "0"):
        raise UsageError(f"--fit {text!r} is not a size.", hint="Write 3840x2160.")
    return int(match[1]), int(match[2])


def parse_count(text: str, option: str, words: dict[str, int | None]) -> int | None:
    """A whole number, or a word that stands for one. Raises UsageError."""
    if text in words:
        return words[text]
    if not text.isdigit():
        raise UsageError(f"{option} {text!r} is not known.", hint=f"Use {', '.join(words)} or a whole number.")
    return int(text)


def parse_options(pairs: list[str]) -> tuple[tuple[str, str], ...]:
    """KEY=VALUE pairs. Raises UsageError."""
    result = []
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise UsageError(f"--encoder-option {pair!r} is not KEY=VALUE.")
        result.append((key, value))
    return tuple(result)
