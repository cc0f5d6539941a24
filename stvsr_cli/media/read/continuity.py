"""Timestamps that start over in the middle of a file, as in joined transport streams, go on where they were."""

from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import av.error
from av.stream import Disposition

from stvsr_cli.media.pyav import exact

JUMP_BACK_S = 1
"""A step back by more starts the clock over; a smaller one is a fault of a single timestamp."""
LOOK_AHEAD = 512
"""Packets that are read on to see where the video started over, when the sound does so first."""


class Continuity:
    """Follows one stream's timestamps and says what to add to them, so that they go on where they were."""

    def __init__(self, time_base: Fraction) -> None:
        self.time_base = time_base
        self.end: int | None = None
        """How far the stream has come, in continued ticks."""
        self.shifts = [0]
        """Ticks to add, before the first restart and after each."""

    def restarts(self, stamp: int) -> bool:
        """Whether the clock has started over at this timestamp, as it was read."""
        return self.end is not None and (self.end - (stamp + self.shifts[-1])) * self.time_base > JUMP_BACK_S

    def follow(self, stamp: int, duration: int) -> int:
        """The timestamp as it goes on from those before. stamp, duration: as read, in ticks, in order."""
        if self.restarts(stamp) and self.end is not None:
            self.shifts.append(self.end - stamp)
        shifted = stamp + self.shifts[-1]
        self.reach(shifted + duration)
        return shifted

    def reach(self, end: int) -> None:
        """Take note that the stream has come this far, in continued ticks."""
        self.end = end if self.end is None else max(self.end, end)


class ContinuedPackets(Iterator[av.Packet]):
    """Packets of some streams with continued timestamps; all of them are moved as the video is, to stay in sync.

    A picture that belongs to the whole file comes at its start. A file that breaks off ends quietly, since its video
    has said so.
    """

    def __init__(
        self,
        container: "av.container.InputContainer",
        streams: "Sequence[av.stream.Stream]",
        video: "av.stream.Stream | None",
        origin: Fraction,
    ) -> None:
        """streams: whose packets come. video: what sets the clock, if it may start over. origin: start in seconds."""
        every = [*streams, video] if video is not None else [*streams]
        self._raw = container.demux(every)
        self._waiting: deque[av.Packet] = deque()
        self._clocks = {stream.index: Continuity(exact(stream.time_base) or Fraction(1, 90000)) for stream in every}
        self._video = None if video is None else self._clocks[video.index]
        self._video_index = None if video is None else video.index
        self._origin = origin

    def __next__(self) -> av.Packet:
        while True:
            packet = self._waiting.popleft() if self._waiting else self._read()
            if packet is None:
                continue
            if packet.pts is None and packet.dts is None:
                if not packet.stream.disposition & Disposition.attached_pic:
                    continue
                packet.pts = packet.dts = round(self._origin / packet.time_base)
                return packet
            self._move(packet)
            return packet

    def _read(self) -> av.Packet | None:
        """The next packet of the file; None for the video's, of which only the time is noted."""
        try:
            packet = next(self._raw)
        except (av.error.FFmpegError, OSError) as error:
            raise StopIteration from error
        if packet.stream_index != self._video_index:
            return packet
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is not None and self._video is not None:
            self._video.follow(stamp, packet.duration or 0)
        return None

    def _move(self, packet: av.Packet) -> None:
        """Add to the packet's timestamps what its place in the file asks for."""
        clock, stamp = self._clocks[packet.stream_index], packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            return
        if clock.restarts(stamp):
            self._look_ahead(len(clock.shifts))
        if self._video is not None and len(self._video.shifts) > len(clock.shifts):
            moved = self._as_video(clock)
            if clock.restarts(stamp) or self._is_nearer(clock, stamp, moved):
                clock.shifts.append(moved)
        shift = clock.follow(stamp, packet.duration or 0) - stamp
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift

    def _look_ahead(self, restarts: int) -> None:
        """Read on until the video, too, has started over, within reason."""
        for _ in range(LOOK_AHEAD):
            if self._video is None or len(self._video.shifts) > restarts:
                return
            try:
                packet = self._read()
            except StopIteration:
                return
            if packet is not None:
                self._waiting.append(packet)

    def _as_video(self, clock: Continuity) -> int:
        """The video's shift after the stream's next restart, in the stream's ticks."""
        if self._video is None:
            raise ValueError("no video sets the clock")
        return round(self._video.shifts[len(clock.shifts)] * self._video.time_base / clock.time_base)

    def _is_nearer(self, clock: Continuity, stamp: int, moved: int) -> bool:
        """Whether a packet would lie nearer to where the video is, after another restart."""
        if self._video is None or self._video.end is None:
            return False
        now = self._video.end * self._video.time_base / clock.time_base
        return abs(stamp + moved - now) < abs(stamp + clock.shifts[-1] - now)
