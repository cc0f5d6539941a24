"""Where the packets of a stream go: copied as they are, or encoded anew."""

import logging
from fractions import Fraction
from typing import cast

import av
import av.error
from av.audio.stream import AudioStream
from av.stream import Disposition

from stvsr_cli.media.pyav import exact
from stvsr_cli.media.write.sound import Encoder, Sound
from stvsr_cli.media.write.stretch import Stretcher
from stvsr_cli.media.write.trials import REFUSED

logger = logging.getLogger(__name__)

DAMAGE = (av.error.InvalidDataError, av.error.ArgumentError, ValueError)
"""What a damaged packet makes of itself: no data, or data that does not fit what came before. A full disk is another."""
STALE_TAGS = frozenset({"encoder", "duration", "bps", "number_of_frames", "number_of_bytes", "vendor_id"})
"""Tags that describe the old stream's bytes and would be wrong of the new one."""
AT_ONCE = frozenset({"subtitle", "data"})
"""Kinds of streams of which several packets may have one time."""
ONE_AT_A_TIME = frozenset({"mp4", "mov"})
"""Containers that hold no two packets of one time even so."""


class Route:
    """Where the packets of a stream go."""

    stream: "av.stream.Stream"
    """The output's."""
    _is_damaged = False

    def send(self, packet: av.Packet, offset: int, output: "av.container.OutputContainer") -> None:
        """Write a packet, `offset` ticks earlier."""
        raise NotImplementedError

    def flush(self, output: "av.container.OutputContainer") -> None:
        """Write what is held back."""

    def _leave_out(self, error: Exception) -> None:
        """Say, the first time, that something of this stream is damaged and left out."""
        if not self._is_damaged:
            logger.warning("%s: damaged parts are left out (%s)", self.stream.type, error)
        self._is_damaged = True


class Copied(Route):
    """Packets that are copied as they are."""

    def __init__(self, stream: "av.stream.Stream", slower: Fraction = Fraction(1)) -> None:
        """slower: by how much their times are stretched."""
        self.stream = stream
        self._slower = slower
        self._last: int | None = None

    def send(self, packet: av.Packet, offset: int, output: "av.container.OutputContainer") -> None:
        read_base = cast(Fraction, exact(packet.time_base))
        base = exact(self.stream.time_base) or read_base
        read_base *= self._slower
        shown = packet.pts if packet.pts is not None else packet.dts
        read = packet.dts if packet.dts is not None else packet.pts
        if shown is None or read is None:
            return
        # Rounded here and not by the container, which takes no two packets of one time.
        pts, dts = (round((stamp - offset) * read_base / base) for stamp in (shown, read))
        apart = self.stream.type not in AT_ONCE or output.format.name in ONE_AT_A_TIME
        if self._last is not None:
            dts = max(dts, self._last + apart)
        self._last = dts
        duration = round((packet.duration or 0) * read_base / base)
        packet.time_base, packet.dts, packet.pts, packet.duration = base, dts, max(pts, dts), duration
        packet.stream = self.stream
        try:
            output.mux(packet)
        except DAMAGE as error:
            self._leave_out(error)


class Transcoded(Route):
    """Sound that the output does not take, or that is stretched, encoded anew."""

    def __init__(
        self,
        source: AudioStream,
        output: "av.container.OutputContainer",
        sound: Sound,
        slower: Fraction = Fraction(1),
    ) -> None:
        audio = cast(AudioStream, output.add_stream(sound.codec, rate=sound.rate))
        self.stream = audio
        self._encoder = Encoder(audio, sound)
        self._stretcher = None if slower == 1 else Stretcher(slower)
        copy_tags(source, audio)

    def send(self, packet: av.Packet, offset: int, output: "av.container.OutputContainer") -> None:
        try:
            frames = cast(list[av.AudioFrame], packet.decode())
        except av.error.FFmpegError as error:
            self._leave_out(error)
            return
        start = offset * cast(Fraction, exact(packet.time_base))
        for frame in frames:
            base = exact(frame.time_base)
            time = None if frame.pts is None or base is None else frame.pts * base - start
            try:
                for ready, moment in [(frame, time)] if self._stretcher is None else self._stretcher.put(frame, time):
                    output.mux(self._encoder.put(ready, moment))
            except DAMAGE as error:
                self._leave_out(error)

    def flush(self, output: "av.container.OutputContainer") -> None:
        for frame, moment in [] if self._stretcher is None else self._stretcher.finish():
            output.mux(self._encoder.put(frame, moment))
        output.mux(self._encoder.finish())


def copied(
    source: "av.stream.Stream", output: "av.container.OutputContainer", slower: Fraction = Fraction(1)
) -> Copied | None:
    """A route that copies a stream, its times stretched; None, with a line, if the output refuses it."""
    try:
        if isinstance(source, AudioStream):
            source.codec_context.open()  # fails where the headers are damaged, which no player could play
        stream = output.add_stream_from_template(source)
    except REFUSED as error:
        logger.warning("%s stream %d is dropped: %s", source.type, source.index, error)
        return None
    copy_tags(source, stream)
    return Copied(stream, slower)


def copy_tags(source: "av.stream.Stream", target: "av.stream.Stream") -> None:
    """Give a stream the tags and the disposition of another."""
    target.metadata.update({k: v for k, v in source.metadata.items() if k.split("-")[0].lower() not in STALE_TAGS})
    if "name" in source.metadata and "title" not in source.metadata:  # what MP4 calls it
        target.metadata["title"] = target.metadata.pop("name")
    target.disposition = Disposition(source.disposition)
