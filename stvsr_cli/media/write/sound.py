"""Sound that an output does not take, encoded anew: in a rate and layout that the encoder can do, in step throughout."""

import errno
import logging
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
import av.error
import numpy as np
from av.audio.stream import AudioStream

from stvsr_cli.errors import OutputError

logger = logging.getLogger(__name__)

LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""Channel layouts by number of channels, for sound that does not name its own."""
FEWER = ("7.1", "5.1", "stereo", "mono")
"""Layouts that are tried in turn where an encoder or the resampler cannot do the sound's own."""
CODECS = {"webm": ("libopus",), "avi": ("libmp3lame", "ac3")}
"""Encoders by container, in the order in which they are tried; AAC elsewhere."""
DEFAULT_CODECS = ("aac",)
BIT_RATE_PER_CHANNEL = 96000
DEFAULT_FRAME_SIZE = 1024
LONGEST_GAP_S = 7200
"""Longer silence in the middle of sound is a damaged time."""
JITTER_S = Fraction(1, 50)
"""By how much stamps may differ from the samples counted before sound is cut or silence put in."""


@dataclass(frozen=True, slots=True)
class Sound:
    """How a stream is encoded."""

    codec: str
    rate: int
    layout: str


def choose_sound(source: AudioStream, container: str) -> Sound:
    """How the sound of a stream can be encoded for a container. Raises OutputError if it cannot.

    container: FFmpeg's name of the output format. Each choice is tried on a moment of silence.
    """
    context = source.codec_context
    count = context.layout.nb_channels
    layouts = dict.fromkeys(
        [
            context.layout.name,
            *([LAYOUTS[count]] if count in LAYOUTS else []),
            *(f for f in FEWER if _count(f) <= count),
        ]
    )
    for layout in layouts:
        for codec in CODECS.get(container, DEFAULT_CODECS):
            offered = av.codec.Codec(codec, "w").audio_rates or [context.sample_rate]
            rate = min((r for r in offered if r >= context.sample_rate), default=max(offered))
            choice = Sound(codec, rate, layout)
            if _is_possible(choice, context):
                return choice
    raise OutputError(f"{context.name} of {context.sample_rate} Hz in {context.layout.name} cannot be converted.")


def _count(layout: str) -> int:
    return av.AudioLayout(layout).nb_channels


def _is_possible(choice: Sound, source: av.AudioCodecContext) -> bool:
    try:
        context = cast(av.AudioCodecContext, av.CodecContext.create(choice.codec, "w"))
        context.sample_rate, context.layout = choice.rate, choice.layout
        context.format = (av.codec.Codec(choice.codec, "w").audio_formats or [av.AudioFormat("fltp")])[0]
        context.bit_rate = BIT_RATE_PER_CHANNEL * _count(choice.layout)
        context.open()
        silence = np.zeros((1, source.layout.nb_channels * DEFAULT_FRAME_SIZE), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="flt", layout=source.layout)
        frame.sample_rate = source.sample_rate
        av.AudioResampler("flt", choice.layout, choice.rate).resample(frame)
    except (av.error.FFmpegError, ValueError, TypeError, OverflowError) as error:
        logger.debug("%s: %s", choice, error)
        return False
    return True


class Encoder:
    """Takes decoded frames with their times, and encodes them from time 0 on, in step whatever changes on the way."""

    def __init__(self, stream: AudioStream, choice: Sound) -> None:
        """stream: a new one of the output, of the choice's codec and rate."""
        self._stream, self._choice = stream, choice
        context = stream.codec_context
        context.layout = choice.layout
        context.bit_rate = BIT_RATE_PER_CHANNEL * _count(choice.layout)
        self._resampler: av.AudioResampler | None = None
        self._packer: av.AudioResampler | None = None
        self._kind: tuple[str, str, int] | None = None
        self._held = np.zeros((_count(choice.layout), 0), np.float32)
        self._done = 0
        """Samples that were encoded; those held, [C, N], come after them. PyAV handles packed samples best."""
        self._early = 0
        """Samples to leave out of what comes next."""

    def put(self, frame: av.AudioFrame, time: Fraction | None) -> list[av.Packet]:
        """Take a frame that begins at a time, in seconds of the output; None: where the last one ended.

        Raises InvalidDataError for one that leaves a gap as only damage does.
        """
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        packets: list[av.Packet] = []
        if kind != self._kind:
            if self._resampler is not None:
                self._add(self._resampler.resample(None))
            self._resampler = av.AudioResampler("flt", self._choice.layout, self._choice.rate)
            self._kind = kind
        if time is not None:
            packets = self._silence_before(round(time * self._choice.rate))
            self._align(round(time * self._choice.rate), frame)
        if frame.samples:
            frame.pts = None
            self._add(cast(av.AudioResampler, self._resampler).resample(frame))
        return packets + self._encode(whole=False)

    def _silence_before(self, begin: int) -> list[av.Packet]:
        """Encode the whole seconds of silence before a frame that comes late; what remains is put by `_align`."""
        packets: list[av.Packet] = []
        rate = self._choice.rate
        if begin - self._done - self._held.shape[1] > LONGEST_GAP_S * rate:
            raise av.error.InvalidDataError(errno.EILSEQ, f"a gap of more than {LONGEST_GAP_S // 60} minutes")
        while begin - self._done - self._held.shape[1] > 2 * rate:
            self._held = np.concatenate([self._held, np.zeros((self._held.shape[0], rate), np.float32)], 1)
            packets += self._encode(whole=False)
        return packets

    def _align(self, begin: int, frame: av.AudioFrame) -> None:
        """Put silence before a frame that comes late, and mark what comes early to be left out."""
        off = begin - self._done - self._held.shape[1]
        if abs(off) <= JITTER_S * self._choice.rate and (self._done or self._held.shape[1]):
            return
        if off > 0:
            silence = np.zeros((self._held.shape[0], off), np.float32)
            self._held = np.concatenate([self._held, silence], 1)
        self._early = max(0, -off)

    def _add(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            samples = frame.to_ndarray().reshape(-1, self._held.shape[0]).T
            left = min(self._early, samples.shape[1])
            self._early -= left
            self._held = np.concatenate([self._held, samples[:, left:]], 1)

    def finish(self) -> list[av.Packet]:
        """Encode all that is held."""
        if self._resampler is not None:
            self._add(self._resampler.resample(None))
        if not self._done and not self._held.shape[1]:
            return []
        return [*self._encode(whole=True), *self._stream.encode(None)]

    def _encode(self, *, whole: bool) -> list[av.Packet]:
        context = self._stream.codec_context
        if not context.is_open:
            context.open()
        size = context.frame_size or DEFAULT_FRAME_SIZE
        packets: list[av.Packet] = []
        while self._held.shape[1] >= size or (whole and self._held.shape[1]):
            part, self._held = self._held[:, :size], self._held[:, size:]
            data = np.ascontiguousarray(part.T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(data, format="flt", layout=self._choice.layout)
            frame.sample_rate, frame.time_base = self._choice.rate, Fraction(1, self._choice.rate)
            frame.pts = self._done
            if frame.format.name != context.format.name:
                self._packer = self._packer or av.AudioResampler(context.format, context.layout, self._choice.rate)
                frame = self._packer.resample(frame)[0]
            packets += self._stream.encode(frame)
            self._done += part.shape[1]
        return packets
