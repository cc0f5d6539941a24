"""Everything that travels beside the video: sound, subtitles, data, attachments, chapters, metadata."""

import logging
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error
from av.audio.stream import AudioStream
from av.stream import Disposition

from stvsr_cli.media.pyav import exact
from stvsr_cli.media.read.continuity import ContinuedPackets
from stvsr_cli.media.read.probe import VideoInfo, location, open_input
from stvsr_cli.media.write.streams import AUDIO_CODEC, COVERS, DEFAULT_AUDIO_CODEC, TEXT_CODEC, Plan, plan_streams

logger = logging.getLogger(__name__)

LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""Channel layouts by number of channels, for sound that does not name its own."""
BIT_RATE_PER_CHANNEL = 96000
DEFAULT_FRAME_SIZE = 1024
ALONE = frozenset({"yuv4mpegpipe", "image2"})
"""Containers that hold pictures and nothing else; they may be no file that can be opened again."""
DAMAGE = (av.error.InvalidDataError, av.error.ArgumentError, ValueError)
"""What a damaged packet makes of itself: no data, or data that does not fit what came before. A full disk is another."""
LEAD_S = Fraction(1, 10)
"""How far before the video sound is kept: longer than the priming of any codec in use (AAC's takes 2112 samples)."""
LEADING = frozenset({"mp4", "mov", "mpegts", "matroska", "webm"})
"""Containers that can hold it."""
MATROSKA = frozenset({"matroska", "webm"})
"""Containers that need the delay from a container of their kind: PyAV passes on no other. Without it, sound begins at 0."""
STALE_TAGS = frozenset({"encoder", "duration", "bps", "number_of_frames", "number_of_bytes", "vendor_id"})
"""Tags that describe the old stream's bytes and would be wrong of the new one."""


class Companions:
    """Copies the streams beside the video into an output, as far as the video has come."""

    def __init__(
        self, info: VideoInfo, output: "av.container.OutputContainer", *, start: Fraction, end: Fraction | None
    ) -> None:
        """info: the source. output: has its video stream already, as the first. start, end: seconds of the source."""
        self._output = output
        self._start, self._end = start, end
        self._inputs: list[av.container.InputContainer] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._sources: list[_Source] = []
        if info.container in ALONE:
            return
        formats = frozenset(output.supported_codecs)
        plans = plan_streams(info, output.format.name, formats)
        for plan in plans:
            if plan.action in ("drop", "convert"):
                kind = next(s.kind for s in info.streams if s.index == plan.index)
                verb = "dropped" if plan.action == "drop" else "converted"
                logger.warning("%s stream %d is %s: %s", kind, plan.index, verb, plan.why)
        origin = info.origin + start
        try:
            self._open(info, [p for p in plans if p.action != "drop"], origin)
        except BaseException:
            self.close()
            raise

    def _open(self, info: VideoInfo, plans: list[Plan], origin: Fraction) -> None:
        source = open_input(info.path, remote=info.remote)
        self._inputs.append(source)
        _copy_metadata(source, self._output, origin, self._end and self._end - self._start)
        _copy_tags(source.streams[info.stream_index], self._output.streams[0])
        routes: dict[int, _Route] = {}
        texts: list[int] = []
        for plan in plans:
            stream = source.streams[plan.index]
            if plan.action == "attach":
                self._attach(stream, info)
            elif plan.action == "convert" and stream.type == "subtitle":
                texts.append(plan.index)
            elif plan.action == "convert":
                routes[plan.index] = _Transcoded(cast(AudioStream, stream), self._output)
            else:
                route = _copied(stream, self._output)
                if route is not None:
                    routes[plan.index] = route
        if routes:
            streams = [source.streams[i] for i in routes]
            if origin > info.origin:
                source.seek(int(origin * av.time_base), backward=True)
            # The index of an MP4 gives times that cannot start over; not to read its video again saves half the work.
            video = None if info.container.startswith("mov") else source.streams[info.stream_index]
            self._sources.append(_Source(source, streams, routes, origin, video))
        if texts:
            self._convert_texts(info, texts)

    def _convert_texts(self, info: VideoInfo, indices: list[int]) -> None:
        """Convert text subtitles with the ffmpeg binary, since PyAV has no encoder for them, and copy the result."""
        import imageio_ffmpeg  # the binary is needed for this one case only

        self._folder = tempfile.TemporaryDirectory(prefix="stvsr-")
        name = self._output.format.name
        path = Path(self._folder.name) / ("text.mp4" if name in ("mp4", "mov") else "text.mkv")
        where = location(info.path, remote=info.remote)
        maps = [argument for index in indices for argument in ("-map", f"0:{index}")]
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-i", where, *maps]
        done = subprocess.run(
            [*command, "-c:s", TEXT_CODEC[name], str(path)], capture_output=True, text=True, check=False
        )
        if done.returncode or not path.exists():
            logger.warning("text subtitles are dropped: %s", done.stderr.strip().splitlines()[-1:] or "ffmpeg failed")
            return
        converted = open_input(path)
        self._inputs.append(converted)
        routes: dict[int, _Route] = {}
        for stream, index in zip(list(converted.streams), indices, strict=True):
            route = _copied(stream, self._output)
            if route is not None:
                routes[stream.index] = route
                original = next(s for s in info.streams if s.index == index)
                if original.language:
                    route.stream.metadata["language"] = original.language
                source_stream = self._inputs[0].streams[index]
                route.stream.disposition = source_stream.disposition
        self._sources.append(_Source(converted, list(converted.streams), routes, self._start))

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
        limit = self._end - self._start if self._end is not None else None
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


class _Source:
    """A container whose packets go into the output, each by its stream's route."""

    def __init__(
        self,
        container: "av.container.InputContainer",
        streams: "list[av.stream.Stream]",
        routes: "dict[int, _Route]",
        origin: Fraction,
        video: "av.stream.Stream | None" = None,
    ) -> None:
        self.routes, self._origin, self._container = routes, origin, container
        self._packets = ContinuedPackets(container, streams, video, origin)
        self._next: av.Packet | None = next(self._packets, None)

    def copy_until(self, output: "av.container.OutputContainer", time_s: Fraction | None) -> None:
        """Pass on packets up to a time of the output; those that end before 0 are left out, but for sound's lead."""
        while self._next is not None:
            packet = self._next
            offset = round(self._origin / packet.time_base)
            stamp = cast(int, packet.dts if packet.dts is not None else packet.pts)
            moment = (stamp - offset) * packet.time_base
            if time_s is not None and moment > time_s:
                return
            self._next = next(self._packets, None)
            shown = packet.pts if packet.pts is not None else stamp
            route = self.routes.get(packet.stream_index)
            if route is None or (
                shown + (packet.duration or 1) - offset <= 0 and not self._leads(packet, moment, output)
            ):
                continue
            route.send(packet, offset, output)

    def _leads(self, packet: av.Packet, moment: Fraction, output: "av.container.OutputContainer") -> bool:
        """Whether a packet from before 0 is needed for the sound at 0: an encoder's priming, or a frame's overlap.

        Containers tell players to skip it by edit lists or delays; transport streams cannot, and begin so much earlier.
        """
        if not isinstance(packet.stream, AudioStream) or moment < -LEAD_S:
            return False
        name = output.format.name
        return name in LEADING and (name not in MATROSKA or self._container.format.name.startswith("matroska"))


class _Route:
    """Where the packets of a stream go: copied as they are."""

    def __init__(self, stream: "av.stream.Stream") -> None:
        self.stream = stream
        self._last: int | None = None
        self._is_damaged = False

    def send(self, packet: av.Packet, offset: int, output: "av.container.OutputContainer") -> None:
        """Write a packet, `offset` ticks earlier."""
        base = exact(self.stream.time_base) or exact(packet.time_base) or Fraction(1)
        shown = packet.pts if packet.pts is not None else packet.dts
        read = packet.dts if packet.dts is not None else packet.pts
        if shown is None or read is None:
            return
        # Rounded here and not by the container, which takes no two packets of one time.
        pts, dts = (round((stamp - offset) * packet.time_base / base) for stamp in (shown, read))
        if self._last is not None and dts <= self._last:
            dts = self._last + 1
        self._last = dts
        duration = round((packet.duration or 0) * packet.time_base / base)
        packet.time_base, packet.dts, packet.pts, packet.duration = base, dts, max(pts, dts), duration
        packet.stream = self.stream
        try:
            output.mux(packet)
        except DAMAGE as error:
            self._leave_out(error)

    def _leave_out(self, error: Exception) -> None:
        """Say, the first time, that something of this stream is damaged and left out."""
        if not self._is_damaged:
            logger.warning("%s: damaged parts are left out (%s)", self.stream.type, error)
        self._is_damaged = True

    def flush(self, output: "av.container.OutputContainer") -> None:
        """Nothing is held back."""


class _Transcoded(_Route):
    """Sound that the output cannot hold, encoded anew."""

    def __init__(self, source: AudioStream, output: "av.container.OutputContainer") -> None:
        codec = AUDIO_CODEC.get(output.format.name, DEFAULT_AUDIO_CODEC)
        self._rate = 48000 if codec == "libopus" else source.codec_context.sample_rate
        audio = cast(AudioStream, output.add_stream(codec, rate=self._rate))
        count = source.codec_context.layout.nb_channels
        audio.codec_context.layout = LAYOUTS.get(count, source.codec_context.layout.name)
        audio.codec_context.bit_rate = BIT_RATE_PER_CHANNEL * max(1, count)
        super().__init__(audio)
        self._audio = audio
        _copy_tags(source, audio)
        self._resampler: av.AudioResampler | None = None

    def send(self, packet: av.Packet, offset: int, output: "av.container.OutputContainer") -> None:
        context = self._audio.codec_context
        if self._resampler is None:
            if not context.is_open:
                context.open()
            size = context.frame_size or DEFAULT_FRAME_SIZE
            self._resampler = av.AudioResampler(context.format, context.layout, self._rate, size)
        try:
            frames = cast(list[av.AudioFrame], packet.decode())
        except av.error.FFmpegError as error:
            self._leave_out(error)
            return
        for frame in frames:
            if frame.pts is not None and frame.time_base is not None:
                frame.pts -= round(offset * packet.time_base / frame.time_base)
                if frame.pts * frame.time_base + Fraction(frame.samples, frame.sample_rate) <= 0:
                    continue
            try:
                for piece in self._resampler.resample(frame):
                    output.mux(self._audio.encode(piece))
            except DAMAGE as error:
                self._leave_out(error)

    def flush(self, output: "av.container.OutputContainer") -> None:
        if self._resampler is not None:
            for piece in self._resampler.resample(None):
                output.mux(self._audio.encode(piece))
            output.mux(self._audio.encode(None))


def _copied(source: "av.stream.Stream", output: "av.container.OutputContainer") -> _Route | None:
    try:
        if isinstance(source, AudioStream):
            source.codec_context.open()  # fails where the headers are damaged, which no player could play
        stream = output.add_stream_from_template(source)
    except (av.error.FFmpegError, ValueError, TypeError, NotImplementedError) as error:
        logger.warning("%s stream %d is dropped: %s", source.type, source.index, error)
        return None
    _copy_tags(source, stream)
    return _Route(stream)


def _copy_tags(source: "av.stream.Stream", target: "av.stream.Stream") -> None:
    target.metadata.update({k: v for k, v in source.metadata.items() if k.split("-")[0].lower() not in STALE_TAGS})
    if "name" in source.metadata and "title" not in source.metadata:  # what MP4 calls it
        target.metadata["title"] = target.metadata.pop("name")
    target.disposition = Disposition(source.disposition)


def _copy_metadata(
    source: "av.container.InputContainer",
    output: "av.container.OutputContainer",
    origin: Fraction,
    length: Fraction | None,
) -> None:
    """Copy global tags, and the chapters that lie in the part taken, moved with it."""
    skip = {"encoder", "major_brand", "minor_version", "compatible_brands", "creation_time"}
    output.metadata.update({k: v for k, v in source.metadata.items() if k.lower() not in skip})
    chapters = []
    for chapter in source.chapters():
        base = exact(chapter["time_base"]) or Fraction(1)
        begin, finish = chapter["start"] * base - origin, chapter["end"] * base - origin
        if finish <= 0 or (length is not None and begin >= length):
            continue
        begin, finish = max(begin, Fraction(0)), finish if length is None else min(finish, length)
        moved = chapter.copy()
        moved["start"], moved["end"] = int(begin / base), int(finish / base)
        chapters.append(moved)
    if chapters:
        output.set_chapters(chapters)
