"""Everything that travels beside the video: sound, subtitles, data, attachments, chapters, metadata."""

import logging
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error
from av.audio.stream import AudioStream
from av.stream import Discard, Disposition

from stvsr_cli.media.ffmpeg import need_ffmpeg
from stvsr_cli.media.pyav import exact
from stvsr_cli.media.read.clock import CUT
from stvsr_cli.media.read.part import BACK_S, BEYOND_S, seek_video
from stvsr_cli.media.read.probe import VideoInfo, location, open_input
from stvsr_cli.media.write.routes import Copied, Route, Transcoded, copied, copy_tags
from stvsr_cli.media.write.streams import ALONE, COVERS, TEXT_CODEC, Fate, plan_streams

logger = logging.getLogger(__name__)

LEAD_S = Fraction(1, 10)
"""How far before the video sound is kept: longer than the priming of any codec in use (AAC's takes 2112 samples)."""
LEADING = frozenset({"mp4", "mov", "mpegts", "matroska", "webm"})
"""Containers that can hold it."""
MATROSKA = frozenset({"matroska", "webm"})
"""Containers that need the delay from a container of their kind: PyAV passes on no other. Without it, sound begins at 0."""
VERBS = {"drop": "dropped", "convert": "converted"}


class Companions:
    """Copies the streams beside the video into an output, as far as the video has come."""

    def __init__(
        self,
        info: VideoInfo,
        output: "av.container.OutputContainer",
        *,
        start: Fraction,
        end: Fraction | None,
        slower: Fraction = Fraction(1),
        drops_sound: bool = False,
    ) -> None:
        """info: the source. output: has its video stream already, as the first. start, end: seconds of the source.

        slower: by how much time is stretched. drops_sound: whether sound is left out.
        """
        self._info, self._output = info, output
        self._start, self._length, self._slower = start, None if end is None else end - start, slower
        self._origin = info.origin + start
        self._inputs: list[av.container.InputContainer] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._sources: list[_Source] = []
        formats = (output.format.name, frozenset(output.supported_codecs))
        plans = plan_streams(info, *formats, slower=slower, drops_sound=drops_sound)
        kinds = {stream.index: stream.kind for stream in info.streams}
        for plan in plans:
            if plan.action in VERBS:
                logger.warning("%s stream %d is %s: %s", kinds[plan.index], plan.index, VERBS[plan.action], plan.why)
        if info.container in ALONE:
            return
        try:
            self._open([plan for plan in plans if plan.action in ("copy", "convert", "attach")])
        except BaseException:
            self.close()
            raise

    def _open(self, plans: list[Fate]) -> None:
        info, output = self._info, self._output
        source = open_input(info.path, remote=info.remote)
        self._inputs.append(source)
        _copy_metadata(source, output, self._origin, self._length, self._slower)
        copy_tags(source.streams[info.stream_index], output.streams[0])
        routes: dict[int, Route] = {}
        texts: list[int] = []
        for plan in plans:
            stream = source.streams[plan.index]
            if plan.action == "attach":
                self._attach(stream, info)
            elif plan.sound is not None:
                routes[plan.index] = Transcoded(cast(AudioStream, stream), output, plan.sound, self._slower)
            elif plan.action == "convert":
                texts.append(plan.index)
            elif (route := copied(stream, output, self._slower)) is not None:
                routes[plan.index] = route
        # A cue can have begun long before: subtitles of a part are looked for from the start of the file.
        apart = {index for index in routes if self._start and source.streams[index].type == "subtitle"}
        for indices in (set(routes) - apart, apart):
            if indices:
                self._take({index: routes[index] for index in sorted(indices)}, seeks=indices is not apart)
        if texts:
            self._convert_texts(info, texts)

    def _take(self, routes: dict[int, Route], *, seeks: bool) -> None:
        """Begin to read some streams, where the part begins; a seek is checked."""
        info = self._info
        begin = round(self._origin / info.time_base)
        places = [begin - round(back / info.time_base) for back in BACK_S[1:]] if seeks and self._start else []
        for place in [*(place for place in places if place > info.start_pts), None]:
            source = open_input(info.path, remote=info.remote)
            self._inputs.append(source)
            for stream in source.streams:
                if stream.index not in routes and not (place is not None and stream.index == info.stream_index):
                    stream.discard = Discard.all
            streams = [source.streams[index] for index in routes]
            if place is not None:
                seek_video(source, source.streams[info.stream_index], info, place)
            packets = _Packets(info.clock.followed(source.demux(streams)))
            if place is None or packets.begin_by(self._origin, len(streams)):
                inside = bool(self._start)
                limits = (self._origin, self._length, self._slower)
                self._sources.append(_Source(source, packets, routes, *limits, starts_inside=inside))
                return
            self._inputs.remove(source)
            source.close()

    def _convert_texts(self, info: VideoInfo, indices: list[int]) -> None:
        """Convert text subtitles with the ffmpeg binary, since PyAV has no encoder for them, and copy the result."""
        self._folder = tempfile.TemporaryDirectory(prefix="stvsr-")
        name = self._output.format.name
        path = Path(self._folder.name) / ("text.mp4" if name in ("mp4", "mov") else "text.mkv")
        where = location(info.path, remote=info.remote)
        maps = [argument for index in indices for argument in ("-map", f"0:{index}")]
        command = [need_ffmpeg("converting subtitles"), "-v", "error", "-nostdin", "-i", where, *maps]
        try:
            subprocess.run([*command, "-c:s", TEXT_CODEC[name], str(path)], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "").strip().splitlines() or [str(error)]
            logger.warning("text subtitles are dropped: %s", said[-1])
            return
        converted = open_input(path)
        self._inputs.append(converted)
        routes: dict[int, Route] = {}
        for stream, index in zip(list(converted.streams), indices, strict=True):
            route = copied(stream, self._output, self._slower)
            if route is not None:
                routes[stream.index] = route
                original = next(s for s in info.streams if s.index == index)
                if original.language:
                    route.stream.metadata["language"] = original.language
                source_stream = self._inputs[0].streams[index]
                route.stream.disposition = source_stream.disposition
        packets = _Packets(converted.demux(list(converted.streams)))
        self._sources.append(
            _Source(
                converted, packets, routes, self._start, self._length, self._slower, starts_inside=bool(self._start)
            )
        )

    def _attach(self, stream: "av.stream.Stream", info: VideoInfo) -> None:
        if isinstance(stream, av.VideoStream):  # a cover: attached where it was a stream
            with open_input(info.path, remote=info.remote) as container:
                packet = next(container.demux(container.streams[stream.index]))
                self._output.add_attachment(*COVERS[stream.codec_context.name], bytes(packet))
        elif isinstance(stream, av.stream.AttachmentStream) and stream.data:
            name, kind = stream.name or "attachment", stream.mimetype or "application/octet-stream"
            self._output.add_attachment(name, kind, stream.data)

    def copy_until(self, time_s: Fraction | None) -> None:
        """Write all packets up to a time of the output in seconds; None: all that remain."""
        limit = None if self._length is None else self._length * self._slower
        if limit is not None and (time_s is None or time_s > limit):
            time_s = limit
        for source in self._sources:
            source.copy_until(self._output, time_s)

    def finish(self) -> None:
        """Write what remains, in the encoders of converted sound too."""
        self.copy_until(None)
        for source in self._sources:
            for route in source.routes.values():
                route.flush(self._output)

    def close(self) -> None:
        """Close the inputs and remove temporary files."""
        for container in self._inputs:
            container.close()
        if self._folder is not None:
            self._folder.cleanup()


class _Packets(Iterator[av.Packet]):
    """Packets of some streams of a file, without those that come a second time; ends where the file breaks off."""

    def __init__(self, raw: Iterator[av.Packet]) -> None:
        self._raw = raw
        self._waiting: deque[av.Packet] = deque()

    def __next__(self) -> av.Packet:
        return self._waiting.popleft() if self._waiting else self._read()

    def _read(self) -> av.Packet:
        """The next packet of the file; one without a time is only kept where it is a picture of the whole file."""
        while True:
            try:
                packet = next(self._raw)
            except (av.error.FFmpegError, OSError) as error:  # the video has said so
                raise StopIteration from error
            if CUT in (packet.pts, packet.dts):
                continue
            if packet.pts is not None or packet.dts is not None or (packet.size and _is_cover(packet.stream)):
                return packet

    def begin_by(self, moment: Fraction, count: int) -> bool:
        """Whether all streams that come around a moment, in seconds, begin no later. count: number of streams."""
        first: dict[int, Fraction] = {}
        while len(first) < count:
            try:
                packet = self._read()
            except StopIteration:
                break
            self._waiting.append(packet)
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None:
                continue
            time = stamp * cast(Fraction, exact(packet.time_base))
            first.setdefault(packet.stream_index, time)
            if time > moment + BEYOND_S:
                break
        return all(time <= moment for time in first.values())


def _is_cover(stream: "av.stream.Stream") -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


class _Source:
    """A container whose packets go into the output, each by its stream's route."""

    def __init__(
        self,
        container: "av.container.InputContainer",
        packets: Iterator[av.Packet],
        routes: dict[int, Route],
        origin: Fraction,
        length: Fraction | None,
        slower: Fraction,
        *,
        starts_inside: bool,
    ) -> None:
        """starts_inside: whether the output begins later than the container. length: seconds that are taken; None: all.

        origin: second of the container that is 0 in the output. slower: by how much time is stretched.
        """
        self.routes, self._origin, self._length, self._container = routes, origin, length, container
        self._slower = slower
        self._has_delay = container.format.name.startswith("matroska") and not starts_inside
        self._packets = packets
        self._next: av.Packet | None = next(self._packets, None)

    def copy_until(self, output: "av.container.OutputContainer", time_s: Fraction | None) -> None:
        """Pass on packets up to a time of the output; those that end before 0 are left out, but for sound's lead."""
        while self._next is not None:
            packet = self._next
            base = cast(Fraction, exact(packet.time_base))
            offset = round(self._origin / base)
            if packet.pts is None and packet.dts is None:
                packet.pts = packet.dts = offset
            stamp = cast(int, packet.dts if packet.dts is not None else packet.pts)
            moment = (stamp - offset) * base
            if time_s is not None and moment * self._slower > time_s:
                return
            self._next = next(self._packets, None)
            shown = packet.pts if packet.pts is not None else stamp
            route = self.routes.get(packet.stream_index)
            over = shown + (packet.duration or 1) - offset <= 0 or self._would_shift(packet, moment, output)
            if route is None or (over and not self._leads(packet, moment, output)):
                continue
            if packet.stream.type == "subtitle":
                self._clip(packet, offset, base)
            route.send(packet, offset, output)

    def _clip(self, packet: av.Packet, offset: int, base: Fraction) -> None:
        """Let a cue begin no earlier than the output, and end no later."""
        begin = packet.pts if packet.pts is not None else packet.dts
        if begin is None or not packet.duration:
            return
        finish = begin + packet.duration
        if self._length is not None:
            finish = min(finish, offset + round(self._length / base))
        begin = max(begin, offset)
        packet.pts = packet.dts = begin
        packet.duration = max(1, finish - begin)

    def _would_shift(self, packet: av.Packet, moment: Fraction, output: "av.container.OutputContainer") -> bool:
        """Whether a packet begins before 0 and would move everything else, as the container knows no time before 0."""
        is_sound = isinstance(packet.stream, AudioStream) and isinstance(self.routes.get(packet.stream_index), Copied)
        return is_sound and moment < 0 and output.format.name in MATROSKA

    def _leads(self, packet: av.Packet, moment: Fraction, output: "av.container.OutputContainer") -> bool:
        """Whether a packet from before 0 is needed for the sound at 0: an encoder's priming, or a frame's overlap.

        Containers tell players to skip it by edit lists or delays; transport streams cannot, and begin so much earlier.
        """
        if not isinstance(packet.stream, AudioStream) or moment < -LEAD_S:
            return False
        name = output.format.name
        return name in LEADING and (name not in MATROSKA or self._has_delay)


def _copy_metadata(
    source: "av.container.InputContainer",
    output: "av.container.OutputContainer",
    origin: Fraction,
    length: Fraction | None,
    slower: Fraction,
) -> None:
    """Copy global tags, and the chapters that lie in the part taken, moved and stretched with it."""
    skip = {"encoder", "major_brand", "minor_version", "compatible_brands"}
    output.metadata.update({k: v for k, v in source.metadata.items() if k.lower() not in skip})
    chapters = []
    for chapter in source.chapters():
        base = exact(chapter["time_base"]) or Fraction(1)
        begin, finish = chapter["start"] * base - origin, chapter["end"] * base - origin
        if finish <= 0 or (length is not None and begin >= length):
            continue
        begin, finish = max(begin, Fraction(0)), finish if length is None else min(finish, length)
        moved = chapter.copy()
        moved["start"], moved["end"] = int(begin * slower / base), int(finish * slower / base)
        chapters.append(moved)
    if chapters:
        output.set_chapters(chapters)
