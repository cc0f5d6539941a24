"""Where chroma samples lie between the pixels, written around PyAV, which does not expose it."""

LOCATIONS = ("left", "center", "topleft", "top", "bottomleft", "bottom")
"""FFmpeg's names in the order of ITU-T H.264, table E-1, chroma_sample_loc_type."""
DEFAULT = "left"
"""What H.264 and MPEG-2 assume of 4:2:0 video that does not say."""


def siting_options(codec: str, siting: str) -> dict[str, str]:
    """Encoder options that write a chroma location into the stream; none for the default and other encoders."""
    if siting == DEFAULT or siting not in LOCATIONS:
        return {}
    number = LOCATIONS.index(siting)
    return {
        "libx264": {"x264-params": f"chromaloc={number}"},
        "libx265": {"x265-params": f"chromaloc={number}"},
    }.get(codec, {})
