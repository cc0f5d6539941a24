"""What becomes of the streams beside the video: copied, converted, or dropped with a reason."""

from dataclasses import dataclass
from fractions import Fraction
from typing import cast

from av.audio.stream import AudioStream

from stvsr_cli.errors import OutputError
from stvsr_cli.media.ffmpeg import find_ffmpeg, why_missing
from stvsr_cli.media.read.probe import UNKNOWN, StreamInfo, VideoInfo, open_input
from stvsr_cli.media.write.sound import Sound, choose_sound
from stvsr_cli.media.write.trials import refusals

TEXT_SUBTITLES = frozenset({"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"})
TEXT_CODEC = {"mp4": "mov_text", "mov": "mov_text", "matroska": "srt", "webm": "webvtt"}
"""Codec that text subtitles become, by container."""

TRANSPORT_STREAM = frozenset(
    "aac aac_latm ac3 dca dts dvb_subtitle dvb_teletext dvbsub eac3 libopus mp1 mp1float mp2 mp2float "
    "mp3 mp3float opus s302m truehd".split()
)
"""Codecs beside the video that a transport stream holds; FFmpeg does not list them (ETSI EN 300 468, ISO/IEC 13818-1)."""
ALONE = frozenset({"yuv4mpegpipe", "image2"})
"""Containers that hold pictures and nothing else; they may be no file that can be opened again."""
AVI_SOUND = frozenset("ac3 mp1 mp1float mp2 mp2float mp3 mp3float wmav1 wmav2".split())
"""Codecs of sound in AVI, beside plain samples."""
PICTURES_ONLY = frozenset({"gif"})
"""Containers that hold nothing beside the video."""
TIMECODE = "tmcd"
"""Data track that MOV and MP4 make themselves where the video has a time code."""
DATA_CONTAINERS = frozenset({"mp4", "mov", "mpegts"})
"""Containers that hold data beside the video."""
COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}
"""Codecs of pictures that belong to a whole file: the name and type that they have as attachments."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one stream."""

    index: int
    action: str
    """copy, convert, attach, remake or drop."""
    why: str = ""
    """The reason, unless it is copied as it is."""
    sound: Sound | None = None
    """How sound is converted."""


def plan_streams(
    info: VideoInfo,
    container_format: str,
    supported: frozenset[str],
    *,
    slower: Fraction = Fraction(1),
    drops_sound: bool = False,
) -> list[Fate]:
    """Say for each stream beside the video whether the output can hold it; what is to be copied is tried.

    container_format: FFmpeg's name of the output format; supported: the codecs it can hold. slower: by how much time is
    stretched: sound is then encoded anew, or left out with `drops_sound`, and data, whose times are inside it, is left out.
    """
    if info.container in ALONE:
        return []
    if container_format == "mpegts":
        supported |= TRANSPORT_STREAM
    plans = [_plan(stream, container_format, supported, info.container) for stream in info.streams]
    if slower != 1:
        pairs = zip(info.streams, plans, strict=True)
        plans = [_stretched(stream.kind, plan, drops_sound=drops_sound) for stream, plan in pairs]
    refused = refusals(info, [plan.index for plan in plans if plan.action == "copy"], container_format)
    known = {stream.index: stream for stream in info.streams}
    plans = [
        _otherwise(known[plan.index], container_format, refused[plan.index]) if plan.index in refused else plan
        for plan in plans
    ]
    sounds = [plan.index for plan in plans if plan.action == "convert" and known[plan.index].kind == "audio"]
    if not sounds:
        return plans
    with open_input(info.path, remote=info.remote) as source:
        chosen = {
            index: _conversion(cast(AudioStream, source.streams[index]), container_format, slower) for index in sounds
        }
    return [chosen.get(plan.index, plan) for plan in plans]


def _stretched(kind: str, plan: Fate, *, drops_sound: bool) -> Fate:
    """What becomes of a stream where time is stretched."""
    if plan.action not in ("copy", "convert") or kind not in ("audio", "data"):
        return plan
    if kind == "data" or drops_sound:
        return Fate(plan.index, "drop", "time is stretched")
    return Fate(plan.index, "convert")


def _conversion(stream: AudioStream, container: str, slower: Fraction) -> Fate:
    """How a stream of sound is converted, or that it cannot be."""
    context = stream.codec_context
    try:
        sound = choose_sound(stream, container)
    except OutputError as error:
        return Fate(stream.index, "drop", error.message)
    rate = "" if sound.rate == context.sample_rate else f" of {sound.rate} Hz"
    layout = "" if sound.layout == context.layout.name else f" in {sound.layout}"
    stretch = "" if slower == 1 else f", {float(slower):.4g} times as long"
    return Fate(stream.index, "convert", f"{context.name} becomes {sound.codec}{rate}{layout}{stretch}", sound)


def _otherwise(stream: StreamInfo, container: str, reason: str) -> Fate:
    """What becomes of a stream that the container refused to have copied."""
    if stream.kind == "audio":
        return Fate(stream.index, "convert")
    if stream.kind == "subtitle" and stream.codec in TEXT_SUBTITLES and container in TEXT_CODEC:
        return _text(stream, container)
    return Fate(stream.index, "drop", f"{container} does not take this {stream.tag or stream.codec} ({reason})")


def _text(stream: StreamInfo, container: str) -> Fate:
    """What becomes of text subtitles that are to be converted, which takes the FFmpeg binary."""
    if find_ffmpeg() is None:
        return Fate(stream.index, "drop", f"converting {stream.codec} needs the FFmpeg binary: {why_missing()}")
    return Fate(stream.index, "convert", f"{stream.codec} becomes {TEXT_CODEC[container]}")


def _plan(stream: StreamInfo, container: str, supported: frozenset[str], source: str) -> Fate:
    codec, index = stream.codec, stream.index
    if container in PICTURES_ONLY:
        return Fate(index, "drop", f"{container} holds nothing but pictures")
    if stream.kind == "attachment":
        holds = container == "matroska"
        return Fate(index, "attach") if holds else Fate(index, "drop", f"{container} holds no attachments")
    if stream.kind == "data":
        return _plan_data(stream, container)
    if codec == UNKNOWN:
        return Fate(index, "drop", "nothing in it can be read")
    if stream.cover:
        return _plan_cover(stream, container)
    if stream.kind == "audio":
        if codec in supported and _is_read(codec, container, source):
            return Fate(index, "copy")
        return Fate(index, "convert")
    if stream.kind == "subtitle" and codec in TEXT_SUBTITLES and codec not in supported:
        if container in TEXT_CODEC:
            return _text(stream, container)
        return Fate(index, "drop", f"{container} holds no text subtitles")
    if codec in supported and stream.kind in ("subtitle", "video"):
        return Fate(index, "copy")
    return Fate(index, "drop", f"{container} cannot hold {codec}")


def _is_read(codec: str, container: str, source: str) -> bool:
    """Whether players read some sound in a container that can hold it. source: container that it is copied from."""
    is_plain = codec.startswith("pcm_")
    if container == "avi":  # where FFmpeg loses the times of others, and of AC-3 that comes from another AVI
        return is_plain or (codec in AVI_SOUND and not (codec == "ac3" and source == "avi"))
    return container != "mp4" or not is_plain


def _plan_data(stream: StreamInfo, container: str) -> Fate:
    if stream.tag == TIMECODE:
        return Fate(stream.index, "remake", "the container makes it from the tag")
    if container in DATA_CONTAINERS:
        return Fate(stream.index, "copy")
    return Fate(stream.index, "drop", f"{container} holds no data ({stream.tag or stream.codec})")


def _plan_cover(stream: StreamInfo, container: str) -> Fate:
    if stream.codec in COVERS and container in ("mp4", "matroska"):
        return Fate(stream.index, "copy" if container == "mp4" else "attach")
    return Fate(stream.index, "drop", f"{container} holds no cover picture in {stream.codec}")
