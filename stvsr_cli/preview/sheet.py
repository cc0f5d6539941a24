"""The preview as one picture: a row for each moment, a column for each choice, all at 100 %."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch.nn import functional

from stvsr_cli.preview.drawing import Color, lay, outline, shortened, text_height, write

GROUND: Color = (22, 24, 29)
TEXT: Color = (236, 239, 243)
FAINT: Color = (150, 160, 172)
MARK: Color = (255, 160, 50)
MARGIN, GAP = 28, 12
WIDEST = 2000
"""Pixels that a sheet is wide at most."""
LARGEST_CROP, SMALLEST_CROP = 480, 240
OVERVIEW = 400
"""Width of the whole picture at the left."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of the output, in its pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Row:
    """A moment."""

    label: str
    source: np.ndarray
    """The input's frame, [h, w, 3] uint8."""
    outputs: Sequence[np.ndarray]
    """The frame of each choice, [H, W, 3] uint8."""


def enlarged(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture at a size, bicubic; smoothed before it is reduced."""
    x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
    x = functional.interpolate(x, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return (x[0].permute(1, 2, 0).clamp(0, 255) + 0.5).byte().numpy()


def crop_size(num_columns: int, width: int, height: int) -> tuple[int, int]:
    """Width and height of the crops of a sheet with so many columns, of frames of a size."""
    room = (WIDEST - 2 * MARGIN - OVERVIEW - GAP) // num_columns - GAP
    wide = min(max(SMALLEST_CROP, min(LARGEST_CROP, room)), width)
    return wide, min(wide * 3 // 4, height)


def busiest(picture: np.ndarray, width: int, height: int, crop: tuple[int, int]) -> Crop:
    """Where there is most to see: the crop, of an output of a size, with most detail in the input's frame."""
    x = torch.from_numpy(picture.copy()).float().mean(2)[None, None]
    detail = functional.pad(x.diff(dim=2).abs(), (0, 0, 0, 1)) + functional.pad(x.diff(dim=3).abs(), (0, 1))
    detail = detail.sqrt()  # one hard edge is not more than much fine detail
    tall, wide = (max(1, round(side * whole / out)) for side, whole, out in (
        (crop[1], picture.shape[0], height), (crop[0], picture.shape[1], width)))  # fmt: skip
    sums = functional.avg_pool2d(detail, (min(tall, picture.shape[0]), min(wide, picture.shape[1])), stride=4)
    rows, columns = sums.shape[2:]
    y, x_ = divmod(int(sums.flatten().argmax()), columns)
    left = round(4 * x_ * width / picture.shape[1]) if columns > 1 else (width - crop[0]) // 2
    top = round(4 * y * height / picture.shape[0]) if rows > 1 else (height - crop[1]) // 2
    return Crop(min(left, width - crop[0]), min(top, height - crop[1]), *crop)


def cut(picture: np.ndarray, crop: Crop) -> np.ndarray:
    """The crop of a picture."""
    return picture[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]


def sheet(title: str, columns: Sequence[Sequence[str]], rows: Sequence[Row], footer: Sequence[str]) -> np.ndarray:
    """Draw the sheet, [H, W, 3] uint8.

    columns: for the input and for each choice, lines that say what it is. All outputs have one size.
    """
    height, width = rows[0].outputs[0].shape[:2]
    wide, tall = crop_size(len(columns), width, height)
    overview_tall = round(OVERVIEW * height / width)
    line, row_tall = text_height() + 2, max(tall, min(overview_tall, 2 * tall)) + GAP
    head = MARGIN + 2 * line + max(map(len, columns)) * line + GAP
    canvas = np.empty(
        (head + len(rows) * row_tall + GAP + len(footer) * line + MARGIN, MARGIN + OVERVIEW + GAP + len(columns) * (wide + GAP) - GAP + MARGIN, 3),
        np.uint8,
    )  # fmt: skip
    canvas[:] = GROUND
    write(canvas, shortened(title, canvas.shape[1] - 2 * MARGIN), MARGIN, MARGIN, TEXT)
    lefts = [MARGIN + OVERVIEW + GAP + i * (wide + GAP) for i in range(len(columns))]
    for left, lines in zip(lefts, columns, strict=True):
        for number, text in enumerate(lines):
            write(canvas, shortened(text, wide), left, MARGIN + (2 + number) * line, FAINT if number else TEXT)
    for number, row in enumerate(rows):
        _draw_row(canvas, row, head + number * row_tall, lefts, (wide, tall), row_tall - GAP)
    for number, text in enumerate(footer):
        top = head + len(rows) * row_tall + GAP + number * line
        write(canvas, shortened(text, canvas.shape[1] - 2 * MARGIN), MARGIN, top, FAINT)
    return canvas


def _draw_row(canvas: np.ndarray, row: Row, top: int, lefts: Sequence[int], size: tuple[int, int], room: int) -> None:
    height, width = row.outputs[0].shape[:2]
    crop = busiest(row.source, width, height, size)
    scale = min(OVERVIEW / width, room / height)
    whole = enlarged(row.source, max(1, round(width * scale)), max(1, round(height * scale)))
    lay(canvas, whole, MARGIN, top)
    box = [round(side * scale) for side in (crop.left, crop.top, crop.width, crop.height)]
    outline(canvas, MARGIN + box[0], top + box[1], box[2], box[3], MARK)
    label_top = min(top + whole.shape[0] + 4, top + room - text_height())
    if whole.shape[0] + text_height() + 4 > room:  # no room beneath: on the picture
        canvas[label_top : label_top + text_height(), MARGIN : MARGIN + 90] //= 3
    write(canvas, row.label, MARGIN + 6, label_top, TEXT)
    pictures = [enlarged(row.source, width, height), *row.outputs]
    for left, picture in zip(lefts, pictures, strict=True):
        lay(canvas, cut(picture, crop), left, top)


class Cutter:
    """Cuts the same part, the busiest of a source frame, out of frames of any size, as one of several columns."""

    def __init__(self, source: np.ndarray, num_columns: int) -> None:
        self._source, self._num_columns = source, num_columns
        self._crops: dict[tuple[int, int], Crop] = {}

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """What is to be seen of an output frame [H, W, 3], both sides even."""
        height, width = picture.shape[:2]
        if (width, height) not in self._crops:
            wide, tall = crop_size(self._num_columns, width, height)
            self._crops[width, height] = busiest(self._source, width, height, (wide - wide % 2, tall - tall % 2))
        return cut(picture, self._crops[width, height])


def strip(columns: Sequence[Sequence[np.ndarray]], labels: Sequence[str]) -> list[np.ndarray]:
    """Films side by side, one picture for each frame of the longest; of a film with fewer frames, each is held."""
    tall, wide = columns[0][0].shape[:2]
    count = max(map(len, columns))
    line = text_height() + 6 + text_height() % 2
    pictures = []
    for number in range(count):
        canvas = np.empty((tall + line, len(labels) * wide + (len(labels) - 1) * 4, 3), np.uint8)
        canvas[:] = GROUND
        for place, frames in enumerate(columns):
            left = place * (wide + 4)
            lay(canvas, frames[number * len(frames) // count], left, line)
            write(canvas, shortened(labels[place], wide - 12), left + 6, 3, TEXT)
        pictures.append(canvas)
    return pictures


def in_time(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def clock(time: Fraction) -> str:
    """A moment as minutes, seconds and hundredths."""
    return f"{int(time // 60)}:{float(time % 60):05.2f}"
