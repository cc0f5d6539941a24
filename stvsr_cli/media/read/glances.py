"""A video looked over in chunks, by many at once, with the same result as in one go.

Each chunk is decoded from a keyframe before it. It is the same as in one go if the frames from there on are those of the
chunk before, which has decoded them on its way: that is checked, frame by frame.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import RawIOBase

import av
import av.error

from stvsr_cli.media.read.clip import seeks
from stvsr_cli.media.read.decode import Picture, as_stored, picture_of
from stvsr_cli.media.read.moments import Differs, Moment, checksum
from stvsr_cli.media.read.probe import VideoInfo, open_input
from stvsr_cli.media.read.shots import Change, changes, find_cuts

SHARED_FRAMES = 2
"""Fewest frames that a chunk shares with the one before: a flash is told by two."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames that are looked over by one."""

    stamps: tuple[int, ...]
    """When they are shown, in ticks of the video's time base."""
    num_shared: int
    """Frames at their beginning that the chunk before has, too."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What is found of a frame."""

    duration: int
    """As the file says, in ticks."""
    check: int
    """CRC-32 of the pixels."""
    change: Change | None
    """Since the frame before, unless that is in another chunk."""


def chunks_of(info: VideoInfo, num_frames: int) -> list[Chunk] | None:
    """Cut a video into chunks of at least so many frames, by what its packets say; None if they do not say enough."""
    if info.fields is not None or info.stream_base not in (None, info.time_base):
        return None
    stamps, keyframes = list[int](), list[int]()
    try:
        with open_input(info.path, remote=info.remote) as container:
            for packet in info.clock.followed(container.demux(container.streams[info.stream_index])):
                if packet.size == 0:
                    continue
                if packet.pts is None or packet.is_corrupt or packet.is_discard:
                    return None
                stamps.append(packet.pts)
                if packet.is_keyframe:
                    keyframes.append(packet.pts)
    except (av.error.FFmpegError, OSError):
        return None
    stamps.sort()
    if (
        not stamps
        or stamps[0] < info.start_pts
        or sorted(keyframes)[:1] != stamps[:1]
        or len(set(stamps)) < len(stamps)
    ):
        return None
    return _cut(stamps, sorted(keyframes), num_frames)


def _cut(stamps: list[int], keyframes: list[int], num_frames: int) -> list[Chunk]:
    place = {stamp: number for number, stamp in enumerate(stamps)}
    places = [place[stamp] for stamp in keyframes]
    begins = [0]
    for number in places:
        if number - begins[-1] >= num_frames:
            begins.append(number)
    found = []
    for begin, end in zip(begins, [*begins[1:], len(stamps)], strict=True):
        before = max((number for number in places if number <= begin - SHARED_FRAMES), default=begin)
        found.append(Chunk(tuple(stamps[before:end]), begin - before))
    return found


def look_over(info: VideoInfo, chunk: Chunk, *, threads: int = 0, file: RawIOBase | None = None) -> list[Glance]:
    """Look over a chunk. file: what to read in place of the file at the video's path.

    Raises Differs if its frames are not those that the packets speak of.
    """
    reason = Differs("nothing can be read")
    for seek in seeks(info, chunk.stamps[0]):
        try:
            return _look(info, chunk, seek, threads, file)
        except Differs as difference:
            reason = difference
    raise reason


def _look(info: VideoInfo, chunk: Chunk, seek: int, threads: int, file: RawIOBase | None) -> list[Glance]:
    checked = list[tuple[int, int]]()

    def pictures() -> Iterator[Picture]:
        for frame in as_stored(info, seek, threads, file):
            if frame.pts is not None and frame.pts < chunk.stamps[0]:
                continue
            if frame.pts != chunk.stamps[len(checked)]:
                raise Differs(f"a frame is shown at {frame.pts}, not at {chunk.stamps[len(checked)]}")
            picture = picture_of(frame, info)
            checked.append((frame.duration or info.frame_ticks, checksum(picture)))
            yield picture
            if len(checked) == len(chunk.stamps):
                return

    found = [Glance(*checked[number], change) for number, change in enumerate(changes(pictures()))]
    if len(found) < len(chunk.stamps):
        raise Differs(f"{len(chunk.stamps) - len(found)} frames are missing")
    return found


def joined_moments(chunks: Sequence[Chunk], looks: Iterable[list[Glance]], *, mode: str) -> Iterator[Moment]:
    """Yield the moments of a video's frames by looks at its chunks, in order. mode: as of `mark_cuts`.

    Raises Differs where a chunk does not go on from the one before.
    """
    held: deque[tuple[int, Glance]] = deque()
    nominal = 0

    def glances() -> Iterator[tuple[int, Glance]]:
        before = list[Glance]()
        for chunk, look in zip(chunks, looks, strict=True):
            shared = look[: chunk.num_shared]
            if [g.check for g in shared] != [g.check for g in before[len(before) - len(shared) :]]:
                raise Differs("decoding from a keyframe gives other frames")
            yield from zip(chunk.stamps[chunk.num_shared :], look[chunk.num_shared :], strict=True)
            before = look

    def noted() -> Iterator[Change | None]:
        for stamp, glance in glances():
            held.append((stamp, glance))
            yield glance.change

    def flags() -> Iterator[bool]:
        if mode == "hold":
            yield from find_cuts(noted())
        else:
            for number, _ in enumerate(noted()):
                yield number == 0

    waiting: Moment | None = None
    for cut in flags():
        stamp, glance = held.popleft()
        if waiting is not None:
            yield Moment(waiting.pts, stamp - waiting.pts, waiting.cut, waiting.check)
        waiting, nominal = Moment(stamp, glance.duration, cut, glance.check), glance.duration
    if waiting is not None:
        yield Moment(waiting.pts, nominal, waiting.cut, waiting.check)
