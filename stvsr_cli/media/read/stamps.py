"""When decoded frames are shown: by their own stamps or, where there are none, by when they come out of the decoder."""

import av

from stvsr_cli.media.read.clock import CUT
from stvsr_cli.media.read.probe import COUNTED, VideoInfo


class Stamps:
    """Follows the packets and frames of one video, in ticks of its stream, and says when each frame is shown."""

    def __init__(self, info: VideoInfo, *, from_start: bool) -> None:
        """from_start: whether the file is read from its start."""
        self._by_order = info.container in COUNTED
        self._begin = round(info.start_pts * info.time_base / (info.stream_base or info.time_base))
        self._first_in: int | None = None
        self._delay = None if from_start else info.delay
        self._faults = [0, 0]
        self._last: list[int | None] = [None, None]
        self._out: int | None = None
        self._step = 1
        self._scale = (info.stream_base or info.time_base) / info.time_base

    def note(self, packet: av.Packet) -> None:
        """Take note of a packet before it is decoded."""
        if self._first_in is None and packet.dts is not None:
            self._first_in = packet.dts
            self._by_order |= packet.pts is None

    def of(self, frame: av.VideoFrame) -> int | None:
        """When a frame is shown, in ticks of the video's time base; None where nothing tells."""
        stamp = self._in_order(frame) if self._by_order else self._better(frame)
        return stamp if stamp is None or stamp == CUT or self._scale == 1 else round(stamp * self._scale)

    def length(self, frame: av.VideoFrame) -> int:
        """How long a frame says that it is shown, in ticks of the video's time base; 0 where it does not."""
        return round(frame.duration * self._scale) if self._scale != 1 else frame.duration

    def _in_order(self, frame: av.VideoFrame) -> int | None:
        """The time of decoding of the packet that brought it out, less what the decoder holds back."""
        if frame.dts is not None and self._first_in is not None:
            self._delay = frame.dts - self._first_in if self._delay is None else self._delay
            stamp = max(frame.dts - self._delay, self._begin)
        elif self._out is not None:  # what the decoder had held back comes without any time, at the end
            stamp = self._out + self._step
        else:
            return frame.pts
        if self._out is not None:
            self._step = max(1, stamp - self._out)
        self._out = stamp
        return stamp

    def _better(self, frame: av.VideoFrame) -> int | None:
        """The stamp of presentation or of decoding, whichever ran backwards less often, as FFmpeg chooses."""
        for at, stamp in enumerate((frame.pts, frame.dts)):
            last = self._last[at]
            if stamp is None or stamp == CUT:
                continue
            if last is not None and stamp <= last:
                self._faults[at] += 1
            self._last[at] = stamp
        if frame.pts is not None and (self._faults[0] <= self._faults[1] or frame.dts is None):
            return frame.pts
        return frame.dts
