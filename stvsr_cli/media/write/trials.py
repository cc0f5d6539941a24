"""Whether an output's container takes a stream: tried on its first packets, in memory, before the work begins."""

import io
import logging

import av
import av.error
from av.audio.stream import AudioStream

from stvsr_cli.media.read.probe import VideoInfo, open_input

logger = logging.getLogger(__name__)

NUM_PACKETS = 3
"""Packets of a stream that are tried."""
LOOKED_AT = 2000
"""Packets of a file in which those are looked for."""
REFUSED = (av.error.FFmpegError, ValueError, TypeError, NotImplementedError, OSError, OverflowError)
"""What a refusal looks like."""


def refusals(info: VideoInfo, indices: list[int], container_format: str) -> dict[int, str]:
    """Of some streams of a file, those that a container refuses when they are copied, and why."""
    if not indices:
        return {}
    with open_input(info.path, remote=info.remote) as source:
        streams = [source.streams[index] for index in indices]
        first: dict[int, list[av.Packet]] = {index: [] for index in indices}
        try:
            for number, packet in enumerate(source.demux(streams)):
                some = first[packet.stream.index]
                if len(some) < NUM_PACKETS and packet.size and packet.dts is not None:
                    some.append(packet)
                if number > LOOKED_AT or all(len(found) == NUM_PACKETS for found in first.values()):
                    break
        except (av.error.FFmpegError, OSError) as error:
            logger.debug("%s ends early: %s", info.path, error)
        reasons = {stream.index: _refusal(stream, first[stream.index], container_format) for stream in streams}
    return {index: reason for index, reason in reasons.items() if reason is not None}


def _refusal(source: "av.stream.Stream", packets: list[av.Packet], container_format: str) -> str | None:
    try:
        if isinstance(source, AudioStream):
            source.codec_context.open()  # fails where the headers are damaged, which no player could play
        with av.open(io.BytesIO(), "w", format=container_format) as output:
            stream = output.add_stream_from_template(source)
            output.start_encoding()
            last: int | None = None
            for packet in packets:
                if packet.dts is None or (last is not None and packet.dts <= last):
                    continue
                last = packet.dts
                packet.pts = packet.dts
                packet.stream = stream
                output.mux(packet)
    except REFUSED as error:
        return getattr(error, "strerror", None) or str(error)
    return None
