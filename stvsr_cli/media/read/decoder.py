"""Which decoder opens a video stream, and how: bounded in size, and with the transparency that lies beside VP8 and VP9."""

from typing import cast

import av
import av.error

BESIDE = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that read transparency beside the pictures, which FFmpeg's own of these codecs leave out."""
SMALL_PX = 1 << 16
"""Pixels that a decoder may always take: it works in whole blocks."""


def lies_beside(stream: av.VideoStream) -> bool:
    """Whether a stream has transparency beside its pictures, and there is a decoder that reads it."""
    name = BESIDE.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) != "1":
        return False
    try:
        av.codec.Codec(name, "r")
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def open_decoder(stream: av.VideoStream, *, has_alpha: bool, max_pixels: int | None) -> av.VideoCodecContext:
    """The decoder of a stream, not yet begun; it refuses sizes far beyond the limit before it takes memory for them.

    has_alpha: as `lies_beside` says. max_pixels: of a frame; None: any number.
    """
    context = stream.codec_context
    if has_alpha:
        context = cast(av.VideoCodecContext, av.CodecContext.create(BESIDE[context.name], "r"))
        context.extradata = stream.codec_context.extradata
    if max_pixels is not None:
        context.options = {"max_pixels": str(max(4 * max_pixels, SMALL_PX))}
    return context
