"""Some frames of a video, for a look at it before the work; nothing is said of what comes with them."""

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from itertools import islice
from typing import TypeVar, cast

import av
import av.error

from stvsr_cli.errors import InputError
from stvsr_cli.media.read.decoder import open_decoder
from stvsr_cli.media.read.part import seek_video
from stvsr_cli.media.read.picture import Picture, picture_of
from stvsr_cli.media.read.probe import VideoInfo, open_input

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

SEEKS_A_FRAME = 8
"""Seeks for each new frame that they come to, above which a video has too few places to seek to."""


def spread(number: int, count: int) -> list[int]:
    """Up to `number` of `count` places, all over them from the first ones on (van der Corput's order)."""
    fractions = [int(f"{i:012b}"[::-1], 2) / 2**12 for i in range(min(number, count))]
    return list(dict.fromkeys(min(count - 1, int(fraction * count)) for fraction in fractions))


def looked_at(info: VideoInfo, look: Callable[["Sampler"], Found], otherwise: Found) -> Found:
    """Return what a look at frames of a video finds; `otherwise`, where they cannot be decoded."""
    try:
        with open_input(info.path, remote=info.remote) as container:
            return look(Sampler(info, container))
    except (av.error.FFmpegError, OSError, InputError) as error:
        logger.debug("%s: it is looked at no further: %s", info.path, error)
        return otherwise


class Sampler:
    """An open video, of which some frames are wanted."""

    def __init__(self, info: VideoInfo, container: "av.container.InputContainer") -> None:
        self._info, self._container = info, container
        self._stream = cast(av.VideoStream, container.streams[info.stream_index])
        self._context = open_decoder(self._stream, has_alpha=info.has_alpha, max_pixels=info.max_pixels)
        self._context.thread_count = 1  # a picture here and there is no work for several

    def frames_from(self, place: int) -> Iterator[av.VideoFrame]:
        """Frames from a keyframe at or before a place on, in ticks of the video; what cannot be decoded is left out."""
        seek_video(self._container, self._stream, self._info, place)
        self._context.flush_buffers()
        for packet in self._container.demux(self._stream):
            with suppress(av.error.InvalidDataError):
                yield from (frame for frame in self._context.decode(packet) if not frame.is_corrupt)

    def stretches(self, number: int, length: int) -> Iterator[Iterator[Picture]]:
        """Yield frames that follow each other, from places all over the video; of a short one the first ones."""
        info, places = self._info, [(2 * i + 1) / (2 * number) for i in range(number)]
        if (info.num_frames or 0) <= number * length or not info.duration:
            places = [0.0]
        for place in places:
            frames = self.frames_from(info.start_pts + round(place * (info.duration or 0)))
            yield (picture_of(frame, info) for frame in islice(frames, length))

    def here_and_there(self, most: int, count: int, duration: int) -> Generator[Picture, None, bool]:
        """Yield up to `most` of `count` frames from all over the video; returns whether enough could be come to."""
        info, seen = self._info, set[int | None]()
        for number, place in enumerate(spread(most, count)):
            frame = next(self.frames_from(info.start_pts + place * duration // count), None)
            if frame is not None and frame.pts not in seen:
                seen.add(frame.pts)
                yield picture_of(frame, info)
            elif number > SEEKS_A_FRAME * len(seen):
                return False
        return True

    def in_order(self) -> Iterator[Picture]:
        """Yield the frames from the first one on."""
        return (picture_of(frame, self._info) for frame in self.frames_from(self._info.start_pts))
