"""How a video is encoded, as people ask for it."""

from dataclasses import dataclass

DEFAULT_CRF = {"libx264": 17, "libx265": 19, "libsvtav1": 24, "libvpx-vp9": 22, "libaom-av1": 22}
"""Visually close to lossless for each encoder, at a size people keep."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    codec: str = "libx264"
    """FFmpeg's name of the encoder."""
    crf: int | None = None
    """Constant rate factor; None takes the encoder's entry in `DEFAULT_CRF`."""
    preset: str | None = None
    """Speed preset of the encoder; None is its default."""
    pix_fmt: str | None = None
    """Pixel format, one of `PLANAR`; None keeps the input's where the encoder takes it."""
    options: tuple[tuple[str, str], ...] = ()
    """Further options of the encoder, passed as they are."""
    threads: int = 0
    """Threads of the encoder; 0 lets it choose."""
