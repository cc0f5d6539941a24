"""What becomes of the streams beside the video: copied, converted, or dropped with a reason."""

from dataclasses import dataclass

from stvsr_cli.media.read.probe import UNKNOWN, StreamInfo, VideoInfo

TEXT_SUBTITLES = frozenset({"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"})
TEXT_CODEC = {"mp4": "mov_text", "mov": "mov_text", "matroska": "srt", "webm": "webvtt"}
"""Codec that text subtitles become, by container."""
AUDIO_CODEC = {"webm": "libopus"}
"""Codec that sound becomes where the container cannot hold its own; AAC elsewhere."""
DEFAULT_AUDIO_CODEC = "aac"

TRANSPORT_STREAM = frozenset(
    "aac aac_latm ac3 dts dvb_subtitle dvb_teletext eac3 hdmv_pgs_subtitle mp1 mp2 mp3 opus s302m truehd".split()
)
"""Codecs beside the video that a transport stream holds; FFmpeg does not list them (ETSI EN 300 468, ISO/IEC 13818-1)."""
COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}
"""Codecs of pictures that belong to a whole file: the name and type that they have as attachments."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of one stream."""

    index: int
    action: str
    """copy, convert, attach or drop."""
    why: str = ""
    """The reason, unless it is copied as it is."""


def plan_streams(info: VideoInfo, container_format: str, supported: frozenset[str]) -> list[Plan]:
    """Say for each stream beside the video whether the output can hold it.

    container_format: FFmpeg's name of the output format; supported: the codecs it can hold.
    """
    if container_format == "mpegts":
        supported |= TRANSPORT_STREAM
    return [_plan(stream, container_format, supported) for stream in info.streams]


def _plan(stream: StreamInfo, container: str, supported: frozenset[str]) -> Plan:
    codec, index = stream.codec, stream.index
    if stream.kind == "attachment":
        holds = container == "matroska"
        return Plan(index, "attach") if holds else Plan(index, "drop", f"{container} holds no attachments")
    if codec == UNKNOWN:
        return Plan(index, "drop", "nothing in it can be read")
    if stream.cover:
        return _plan_cover(stream, container)
    if stream.kind == "audio":
        if codec in supported and not (container == "mp4" and codec.startswith("pcm_")):  # few players read that
            return Plan(index, "copy")
        return Plan(index, "convert", f"{codec} becomes {AUDIO_CODEC.get(container, DEFAULT_AUDIO_CODEC)}")
    if stream.kind == "subtitle" and codec in TEXT_SUBTITLES and codec not in supported:
        if container in TEXT_CODEC:
            return Plan(index, "convert", f"{codec} becomes {TEXT_CODEC[container]}")
        return Plan(index, "drop", f"{container} holds no text subtitles")
    if codec in supported and stream.kind in ("subtitle", "video"):
        return Plan(index, "copy")
    if stream.kind == "data" and container in ("mp4", "mov"):
        return Plan(index, "copy")
    return Plan(index, "drop", f"{container} cannot hold {codec}")


def _plan_cover(stream: StreamInfo, container: str) -> Plan:
    if stream.codec in COVERS and container in ("mp4", "matroska"):
        return Plan(stream.index, "copy" if container == "mp4" else "attach")
    return Plan(stream.index, "drop", f"{container} holds no cover picture in {stream.codec}")
