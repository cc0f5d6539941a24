"""Pictures to packets of a video that is put together elsewhere."""

import io
from pathlib import Path
from types import TracebackType

import av
import av.error

from stvsr_cli.errors import OutputError
from stvsr_cli.media.read.decode import Picture
from stvsr_cli.media.read.probe import VideoInfo
from stvsr_cli.media.write.choice import fitted
from stvsr_cli.media.write.encode import Feeder, Packet
from stvsr_cli.media.write.mux import OutputSpec, add_video, container_format
from stvsr_cli.media.write.settings import EncoderConfig


class PacketEncoder:
    """An encoder set up as an output's own container would, whose packets that takes from elsewhere.

    target: the output. Times are ticks of the output's time base, counted as in the source. Raises OutputError if the
    encoder does not take the settings, and where it fails.
    """

    def __init__(self, target: Path, source: VideoInfo, spec: OutputSpec, encoder: EncoderConfig) -> None:
        self._encoder = encoder = fitted(encoder, target)
        self._durations: dict[int, int] = {}
        self._origin: int | None = None
        # never written to: it sets the encoder up
        self._container = av.open(io.BytesIO(), "w", format=container_format(target))
        try:
            self._stream = add_video(self._container, source, spec, encoder)
            self._feeder = Feeder(encoder.codec, self._stream.pix_fmt or "", spec.time_base)
            self._stream.codec_context.open()
        except (av.error.FFmpegError, ValueError, OSError) as error:
            self._container.close()
            raise self._failure(error) from error

    @property
    def extradata(self) -> bytes:
        """The headers that its packets need."""
        return self._stream.codec_context.extradata or b""

    def encode(self, picture: Picture, pts: int, duration: int) -> list[Packet]:
        """Take the next picture; return the packets that are ready, in order of decoding."""
        if self._origin is None:
            self._origin = pts
        self._durations[pts] = duration
        return self._packets(self._feeder.frame(picture, pts - self._origin, duration))

    def flush(self) -> list[Packet]:
        """Return the packets that waited for more pictures."""
        return self._packets(None)

    def _packets(self, frame: av.VideoFrame | None) -> list[Packet]:
        try:
            return [self._packet(coded) for coded in self._stream.encode(frame)]
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise self._failure(error) from error

    def _packet(self, coded: av.Packet) -> Packet:
        if coded.pts is None:
            raise OutputError(
                f"{self._encoder.codec} does not give its frames timestamps.", hint="Use another --codec."
            )
        origin = self._origin or 0
        pts, dts = coded.pts + origin, (coded.pts if coded.dts is None else coded.dts) + origin
        return Packet(pts, dts, self._durations.pop(pts, coded.duration or 0), coded.is_keyframe, bytes(coded))

    def _failure(self, error: BaseException) -> OutputError:
        reason = getattr(error, "strerror", None) or str(error)
        return OutputError(
            f"encoding by {self._encoder.codec} failed: {reason}.", hint="Check --codec and its options."
        )

    def close(self) -> None:
        """Give the encoder back."""
        self._container.close()

    def __enter__(self) -> "PacketEncoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
