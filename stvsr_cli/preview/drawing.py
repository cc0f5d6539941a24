"""Pictures as arrays, [H, W, 3] uint8: text, frames, and one laid on another."""

from functools import cache
from pathlib import Path

import numpy as np

LETTERS = Path(__file__).with_name("letters.npz")
"""Letters of DejaVu Sans, 17 pixels, as one strip of coverage: strip [H, W], their widths and code points."""
UNKNOWN = "?"
Color = tuple[int, int, int]


@cache
def _letters() -> dict[str, np.ndarray]:
    """Coverage of each letter, [H, w] in [0, 1]."""
    with np.load(LETTERS, allow_pickle=False) as held:
        ends = np.cumsum(held["widths"].astype(int))
        strip = held["strip"].astype(np.float32) / 255
        return {
            chr(code): strip[:, end - width : end]
            for code, end, width in zip(held["letters"], ends, held["widths"], strict=True)
        }


def text_height() -> int:
    """Pixels that a line of text takes."""
    return next(iter(_letters().values())).shape[0]


def text_width(text: str) -> int:
    """Pixels that a text is wide."""
    letters = _letters()
    return sum(letters.get(letter, letters[UNKNOWN]).shape[1] for letter in text)


def shortened(text: str, width: int) -> str:
    """A text that is at most so many pixels wide, its end left out if need be."""
    if text_width(text) <= width:
        return text
    while text and text_width(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def write(canvas: np.ndarray, text: str, left: int, top: int, color: Color) -> None:
    """Write a text onto a picture, as far as it lies on it."""
    letters = _letters()
    if not text:
        return
    cover = np.concatenate([letters.get(letter, letters[UNKNOWN]) for letter in text], 1)
    place = canvas[top : top + cover.shape[0], left : left + cover.shape[1]]
    cover = cover[: place.shape[0], : place.shape[1], None]
    place[:] = (place * (1 - cover) + np.array(color, np.float32) * cover + 0.5).astype(np.uint8)


def lay(canvas: np.ndarray, picture: np.ndarray, left: int, top: int) -> None:
    """Lay a picture onto another, as far as it lies on it."""
    place = canvas[top : top + picture.shape[0], left : left + picture.shape[1]]
    place[:] = picture[: place.shape[0], : place.shape[1]]


def outline(canvas: np.ndarray, left: int, top: int, width: int, height: int, color: Color, px: int = 2) -> None:
    """Draw a rectangle's rim."""
    right, bottom = left + width, top + height
    for rows, columns in (
        (slice(top, top + px), slice(left, right)),
        (slice(bottom - px, bottom), slice(left, right)),
        (slice(top, bottom), slice(left, left + px)),
        (slice(top, bottom), slice(right - px, right)),
    ):
        canvas[rows, columns] = color
