"""Values of options as people write them."""

import re
from fractions import Fraction

from stvsr_cli.errors import UsageError

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
