"""Pictures in the terminal, where it can show them: kitty's way, iTerm2's, or sixels."""

import base64
import os
import select
import sys
import time
from collections.abc import Mapping
from typing import TextIO

import numpy as np

CHUNK = 4096
"""Characters that kitty takes at once."""
NUM_COLORS = 255
"""Of a picture in sixels; terminals have at least 256 colour registers."""
ASK_DEVICE = "\x1b[c"
"""Primary device attributes; a terminal with sixels has 4 among its answers (DEC VT340)."""
PATIENCE_S = 0.3


def way_to_show(environment: Mapping[str, str], stream: TextIO) -> str | None:
    """How a terminal shows pictures: kitty, iterm2 or sixel; None if it does not, or there is none."""
    if not stream.isatty() or environment.get("TERM") in (None, "dumb"):
        return None
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if environment.get("TMUX") or term.startswith(("tmux", "screen")):
        return None  # these swallow pictures
    if "KITTY_WINDOW_ID" in environment or "kitty" in term or "ghostty" in term or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm", "mintty") or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    if term.startswith(("foot", "mlterm", "yaft")) or _answers_sixel():
        return "sixel"
    return None


def _answers_sixel() -> bool:
    """Ask the terminal itself."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        return False
    if not sys.stdin.isatty():
        return False
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    answer = b""
    try:
        tty.setcbreak(number)
        os.write(sys.stdout.fileno(), ASK_DEVICE.encode())
        end = time.monotonic() + PATIENCE_S
        while not answer.endswith(b"c") and select.select([number], [], [], max(0.0, end - time.monotonic()))[0]:
            answer += os.read(number, 64)
    except OSError:
        return False
    finally:
        termios.tcsetattr(number, termios.TCSANOW, before)
    return b"4" in answer.removesuffix(b"c").rpartition(b"?")[2].split(b";")


def pixels_wide(stream: TextIO, *, default: int = 900) -> int:
    """How wide a terminal is in pixels; a default where it does not say."""
    try:
        import fcntl
        import struct
        import termios

        size = fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
        return struct.unpack("HHHH", size)[2] or default
    except (ImportError, OSError, ValueError):
        return default


def kitty(png: bytes) -> str:
    """Return what makes kitty show a PNG (its terminal graphics protocol, direct transmission)."""
    text = base64.standard_b64encode(png).decode()
    parts = [text[i : i + CHUNK] for i in range(0, len(text), CHUNK)]
    lines = []
    for number, part in enumerate(parts):
        head = "a=T,f=100," if number == 0 else ""
        lines.append(f"\x1b_G{head}m={int(number < len(parts) - 1)};{part}\x1b\\")
    return "".join(lines) + "\n"


def iterm2(png: bytes) -> str:
    """Return what makes iTerm2 show a PNG (its inline images protocol)."""
    text = base64.standard_b64encode(png).decode()
    return f"\x1b]1337;File=inline=1;size={len(png)};width=100%;preserveAspectRatio=1:{text}\x07\n"


def sixel(picture: np.ndarray) -> str:
    """Return a picture [H, W, 3] uint8 as sixels, in the colours that suit it best."""
    height, width = picture.shape[:2]
    palette, index = reduced(picture)
    parts = [f'\x1bP0;1;0q"1;1;{width};{height}']
    for number, color in enumerate(palette):
        red, green, blue = (round(100 * value / 255) for value in color)
        parts.append(f"#{number};2;{red};{green};{blue}")
    for top in range(0, height, 6):
        band = index[top : top + 6]
        bits = 1 << np.arange(band.shape[0])[:, None]
        rows = [f"#{number}{_run_lengths(((band == number) * bits).sum(0))}" for number in np.unique(band)]
        parts.append("$".join(rows) + "-")
    return "".join(parts) + "\x1b\\\n"


def reduced(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reduce a picture [H, W, 3] uint8 to at most `NUM_COLORS`: the palette [N, 3], and each pixel's number [H, W].

    Median cut (Heckbert, 1982) over colours of 5 bits a channel: the box with most spread is split until there are
    enough.
    """
    codes = (picture >> 3).astype(np.int64) @ np.array([1 << 10, 1 << 5, 1])
    used, place, counts = np.unique(codes.ravel(), return_inverse=True, return_counts=True)
    colors = np.stack([np.bincount(place, picture[..., i].ravel()) / counts for i in range(3)], -1)
    boxes = [np.arange(len(used))]
    while len(boxes) < NUM_COLORS:
        spread = [counts[box].sum() ** 0.5 * np.ptp(colors[box], 0).max() for box in boxes]
        widest = int(np.argmax(spread))
        if not spread[widest]:
            break
        box = boxes.pop(widest)
        box = box[np.argsort(colors[box, np.ptp(colors[box], 0).argmax()], kind="stable")]
        half = np.searchsorted(counts[box].cumsum(), counts[box].sum() / 2)
        middle = int(min(max(half, 1), len(box) - 1))
        boxes += [box[:middle], box[middle:]]
    palette, number = np.empty((len(boxes), 3)), np.empty(len(used), np.int64)
    for i, box in enumerate(boxes):
        palette[i], number[box] = np.average(colors[box], 0, counts[box]), i
    return palette, number[place].reshape(picture.shape[:2])


def _run_lengths(columns: np.ndarray) -> str:
    """Sixel characters of one colour, repeats written as their number."""
    ends = np.flatnonzero(np.diff(columns)) + 1
    starts = np.concatenate([[0], ends])
    lengths = np.diff(np.concatenate([starts, [len(columns)]]))
    words = []
    for value, length in zip(columns[starts], lengths, strict=True):
        letter = chr(63 + int(value))
        words.append(letter * int(length) if length < 4 else f"!{length}{letter}")
    return "".join(words)
