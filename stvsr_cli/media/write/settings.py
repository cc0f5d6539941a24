"""How a video is encoded: as people ask for it, and what is to be known of the encoders that are known here."""

from dataclasses import dataclass

from stvsr_cli.errors import UsageError

Options = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoder:
    """What is to be known of an encoder."""

    quality: str = "crf"
    """The option that takes a quality, lower is better."""
    default: int
    """Visually close to lossless, at a size people keep."""
    most: int
    """The worst quality that it takes."""
    least: int = 0
    """The best quality that it takes."""
    beside: Options = ()
    """What must be given with a quality: the rate control that heeds it."""
    preset: str | None = None
    """The preset unless the user says otherwise; None: the encoder's own."""
    is_deep: bool = True
    """Whether it can be expected to take 10 bits where its formats say so."""


NVENC: Options = (("rc", "vbr"), ("b", "0"), ("tune", "hq"), ("spatial-aq", "1"))
"""Variable rate with no target but the quality: with one, or by default, NVENC would keep to 2 Mbit/s."""
ENCODERS = {
    "libx264": Encoder(default=17, most=51),
    "libx265": Encoder(default=19, most=51),
    "libsvtav1": Encoder(default=24, most=63, preset="8"),
    "libvpx-vp9": Encoder(default=22, most=63, beside=(("b", "0"),)),
    "libvpx": Encoder(default=10, most=63, least=4, beside=(("b", "50M"),)),
    "libaom-av1": Encoder(default=22, most=63, beside=(("b", "0"),)),
    # only cards from 2025 on write 10 bits of H.264
    "h264_nvenc": Encoder(quality="cq", default=19, most=51, least=1, beside=NVENC, preset="p5", is_deep=False),
    "hevc_nvenc": Encoder(quality="cq", default=21, most=51, least=1, beside=NVENC, preset="p5"),
    "av1_nvenc": Encoder(quality="cq", default=25, most=51, least=1, beside=NVENC, preset="p5"),
}
INSTEAD = {"h264_nvenc": "libx264", "hevc_nvenc": "libx265", "av1_nvenc": "libsvtav1"}
"""Encoders of graphics cards, and the program that writes the same format."""
CARD_FORMATS = {"yuv420p10le": "p010le"}
"""Formats with the same samples laid out otherwise, which cards take."""
AUTO = "auto"
DEFAULT_CODEC = "libx264"
"""What auto is, where the container says nothing else."""
DEFAULT_CRF = {name: encoder.default for name, encoder in ENCODERS.items()}
"""Visually close to lossless for each encoder, at a size people keep."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    codec: str = AUTO
    """FFmpeg's name of the encoder; auto: what players of the output's container read."""
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


def quality_options(codec: str, crf: int | None) -> dict[str, str]:
    """The options by which an encoder keeps to a quality; None: its default; empty for one that has no such scale.

    Raises UsageError if it does not take this one.
    """
    known = ENCODERS.get(codec)
    if known is None:
        return {} if crf is None else {"crf": str(crf)}
    if crf is not None and not known.least <= crf <= known.most:
        raise UsageError(f"--crf {crf} must lie in [{known.least}, {known.most}] for {codec}.")
    return {known.quality: str(known.default if crf is None else crf), **dict(known.beside)}
