"""Pictures in files: a folder or a numbered pattern of PNG or JPEG as a video, and single ones."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import av.error
import numpy as np

from stvsr_cli.errors import InputError, OutputError
from stvsr_cli.media.pipes import rotation_turns
from stvsr_cli.media.read.bars import MOST_LOOKS, find_bars, leaving_out
from stvsr_cli.media.read.decode import Frame, Picture, picture_of
from stvsr_cli.media.read.probe import VideoInfo, check_local, describe
from stvsr_cli.media.read.sampler import spread
from stvsr_cli.media.write.mux import OutputSpec, check_target
from stvsr_cli.runtime import watchdog
from stvsr_cli.runtime.parts import remove_orphans, replacing

logger = logging.getLogger(__name__)

READERS = {".png": "png_pipe", ".jpg": "jpeg_pipe", ".jpeg": "jpeg_pipe"}
"""FFmpeg's readers by suffix; these take no name for a pattern."""
NUMBER = re.compile(r"%(0\d+)?d")
DEFAULT_RATE = Fraction(25)
JPEG_QUALITY = 2
"""Quantiser scale, from 1 (best) to 31."""


def is_image(path: Path) -> bool:
    """Whether a path has the suffix of a picture."""
    return path.suffix.lower() in READERS


def is_pattern(path: Path) -> bool:
    """Whether a path is a numbered pattern of pictures, such as frames/%05d.png."""
    return is_image(path) and NUMBER.search(path.name) is not None


def list_images(path: Path) -> list[Path]:
    """The pictures of a folder or a pattern in the order of their numbers; empty if there are none.

    Raises InputError if a folder holds PNG and JPEG.
    """
    if is_pattern(path):
        before, after = (re.escape(part) for part in NUMBER.sub("\0", path.name, count=1).split("\0"))
        matching = re.compile(f"{before}(\\d+){after}")
        found = {int(m[1]): p for p in _files(path.parent) if (m := matching.fullmatch(p.name))}
        numbers = sorted(found)
        if numbers and numbers[-1] - numbers[0] + 1 != len(numbers):
            logger.warning("%s: some numbers are missing; the pictures are taken in order without them", path)
        return [found[number] for number in numbers]
    images = sorted((p for p in _files(path) if is_image(p) and not p.name.startswith(".")), key=_natural)
    if len({READERS[p.suffix.lower()] for p in images}) > 1:
        raise InputError(f"the folder {path} holds PNG and JPEG.", hint="Name a pattern, such as %05d.png.")
    return images


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (p for p in folder.iterdir() if p.is_file())


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """A key by which 2 comes before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.stem)], path.name


class ImageSource:
    """Pictures as a video of constant rate."""

    def __init__(self, paths: Sequence[Path], name: Path, rate: Fraction | None = None, crop_bars: str = "off") -> None:
        """crop_bars: as of `media.read.bars.with_bars`."""
        if not paths:
            raise InputError(f"{name}: no such picture was found.", hint="Check the folder or the pattern.")
        self._paths = paths
        rate = rate or DEFAULT_RATE
        info = _described(paths[0])
        self.info: VideoInfo = replace(
            info, path=name, container="image2", time_base=1 / rate, average_rate=rate, start_pts=0, origin=Fraction(0),
            duration=len(paths), num_frames=len(paths),
        )  # fmt: skip
        if crop_bars != "off":
            self.info = leaving_out(self.info, find_bars(self.some(MOST_LOOKS), crop_bars), crop_bars)

    def some(self, most: int) -> Iterator[Picture]:
        """Up to so many pictures from all over the sequence."""
        for place in spread(most, len(self._paths)):
            with _Opened(self._paths[place]) as opened:
                yield picture_of(opened.frame, self.info)

    def frames(self, start: Fraction | None = None, end: Fraction | None = None) -> Iterator[Frame]:
        """Yield the pictures shown in [start, end), in seconds; those of another size are brought to the first one's.

        Raises InputError if one cannot be read, or there is none.
        """
        rate = self.info.average_rate
        first = round((start or Fraction(0)) * rate)
        chosen = self._paths[first : None if end is None else round(end * rate)]
        if not chosen:
            raise InputError(f"{self.info.path} has no frame at or after --start.", hint="Use an earlier --start.")
        for index, path in enumerate(chosen):
            with _Opened(path) as opened:
                yield Frame(index, first + index, 1, picture_of(opened.frame, self.info))


def _described(path: Path) -> VideoInfo:
    with _Opened(path) as opened:
        return describe(path, opened.container, opened.container.streams.video[0], opened.frame)


class _Opened:
    """An open picture. Raises InputError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        check_local(path)
        try:
            self.container = av.open(
                str(path), "r", format=READERS[path.suffix.lower()], container_options={"protocol_whitelist": "file"}
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._broken(path) from error
        try:
            self.frame: av.VideoFrame = next(self.container.decode(video=0))
        except (av.error.FFmpegError, OSError, StopIteration, IndexError) as error:
            self.container.close()
            raise self._broken(path) from error

    @staticmethod
    def _broken(path: Path) -> InputError:
        return InputError(f"{path} cannot be read as a picture.", hint="Check that it opens in a viewer.")

    def __enter__(self) -> "_Opened":
        return self

    def __exit__(self, *args: object) -> None:
        self.container.close()


def image_pix_fmt(target: Path, bit_depth: int) -> str:
    """The format in which `ImageOutput` takes frames: RGB, deep only for PNG."""
    return "gbrp10le" if bit_depth > 8 and target.suffix.lower() == ".png" else "gbrp"


def numbered(target: Path, number: int) -> Path:
    """The picture of a number by a pattern such as frames/%05d.png; the picture itself where there is no pattern."""
    match = NUMBER.search(target.name)
    if match is None:
        return target
    return target.with_name(target.name[: match.start()] + match[0] % number + target.name[match.end() :])


@dataclass(slots=True)
class ImageOutput:
    """Writes each frame as a picture, under a temporary name first. What is written stays when a later one fails.

    target: a pattern such as frames/%05d.png, counted from 1, or one file for one frame.
    """

    target: Path
    source: VideoInfo
    spec: OutputSpec
    overwrite: bool = False
    made: Path | None = None
    """File that lists the pictures made so far, by this run and by one that it goes on with: these may be replaced."""
    _count: int = 0
    _known: set[str] = field(default_factory=set)

    def __enter__(self) -> "ImageOutput":
        if self.made is not None and self.made.exists():
            self._known = set(self.made.read_text().splitlines())
        self._check(numbered(self.target, self._count + 1))
        remove_orphans(self.target)
        return self

    def skip(self, count: int) -> None:
        """Go on after so many pictures."""
        self._count = count

    @property
    def latest(self) -> Path:
        """The picture written last."""
        return numbered(self.target, self._count)

    def _check(self, path: Path) -> None:
        check_target(path, self.source.path, overwrite=self.overwrite or path.name in self._known)

    def write(self, picture: Picture, pts: int, duration: int) -> None:
        """Write the next frame. Raises OutputError."""
        self._count += 1
        path = numbered(self.target, self._count)
        self._check(path)
        turns = rotation_turns(self.source, picture.pix_fmt)
        data = encoded(np.rot90(_rgb(picture), turns), path.suffix)
        try:
            with watchdog.busy("write"), replacing(path, stay=False) as part:
                part.write_bytes(data)
                self._list(path.name)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}.", hint="Check the disk.") from error

    def _list(self, name: str) -> None:
        if self.made is not None and name not in self._known:
            with self.made.open("a") as handle:
                handle.write(f"{name}\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._count > 1:
            logger.warning("%s: the first %d pictures are finished and kept", self.target, self._count - 1)


def _rgb(picture: Picture) -> np.ndarray:
    """[H, W, 3], uint8 or uint16 over all its bits. picture: gbrp or gbrp10le."""
    green, blue, red = picture.planes
    rgb = np.stack([red, green, blue], -1)
    if picture.bit_depth > 8:
        return ((rgb.astype(np.uint32) * 65535 + 511) // 1023).astype(np.uint16)
    return rgb


def encoded(rgb: np.ndarray, suffix: str) -> bytes:
    """An RGB picture [H, W, 3], uint8 or uint16, as the bytes of a PNG or JPEG file."""
    deep = rgb.dtype == np.uint16
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb48le" if deep else "rgb24")
    if suffix.lower() == ".png":
        name, pix_fmt = "png", "rgb48be" if deep else "rgb24"
        frame = frame.reformat(format=pix_fmt, threads=1)
    else:
        name, pix_fmt = "mjpeg", "yuvj444p"
        frame = frame.reformat(
            format=pix_fmt, dst_colorspace=5, dst_color_range=2, threads=1
        )  # BT.601 over all bits, as JFIF has
    context = cast(av.VideoCodecContext, av.CodecContext.create(name, "w"))
    context.width, context.height, context.pix_fmt = frame.width, frame.height, pix_fmt
    context.time_base = Fraction(1, 25)
    if name == "mjpeg":
        context.options = {"qmin": "1", "qmax": str(JPEG_QUALITY), "color_range": "pc"}
    frame.pts, frame.time_base = 0, context.time_base
    packets = [*context.encode(frame), *context.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
