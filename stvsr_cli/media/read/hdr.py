"""What a master was graded on, and how bright it gets: metadata of HDR10 that is passed on to the encoder."""

import struct
from dataclasses import dataclass
from fractions import Fraction

import av
from av.sidedata.sidedata import Type

from stvsr_cli.media.pyav import side_data

MASTERING = struct.Struct("=22i")
"""AVMasteringDisplayMetadata: red, green, blue and white as x and y, least and most light, each a quotient; then
whether the colours and whether the light are there."""
LIGHT = struct.Struct("=2I")
"""AVContentLightMetadata: most light of a pixel, and of a frame on average."""
CHROMATICITY_UNIT, LUMINANCE_UNIT = 50000, 10000
"""Units in SEI messages (ITU-T H.265, D.3.28)."""
DYNAMIC = {
    "DOVI_METADATA": "Dolby Vision",
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
}
"""Metadata that changes from scene to scene, of a picture that no longer is: it cannot be passed on."""
PARAMETERS = {
    "libx265": ("x265-params", "master-display", "max-cll"),
    "libx264": ("x264-params", "mastering-display", "cll"),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light"),
}
"""Encoders that write it: the option that holds their parameters, and the two parameters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hdr:
    """Static HDR metadata (SMPTE ST 2086, CTA-861.3)."""

    points: tuple[Fraction, ...] | None = None
    """x and y of red, green, blue and white; None if not known."""
    least: Fraction = Fraction(0)
    """Least light of the master's display in cd/m2."""
    most: Fraction = Fraction(0)
    """Most light of the master's display in cd/m2."""
    light: tuple[int, int] | None = None
    """Most light of a pixel, and of a frame on average, in cd/m2; None if not known."""

    def parameters(self, codec: str) -> dict[str, str]:
        """Parameters by which an encoder of `PARAMETERS` writes it."""
        _, display, content = PARAMETERS[codec]
        found = {}
        if self.points is not None:
            found[display] = self._display(in_units=codec != "libsvtav1")
        if self.light is not None:
            found[content] = "{},{}".format(*self.light)
        return found

    def _display(self, *, in_units: bool) -> str:
        def number(value: Fraction, unit: int) -> str:
            return str(round(value * unit)) if in_units else f"{float(value):.5f}"

        values = [number(value, CHROMATICITY_UNIT) for value in self.points or ()]
        red, green, blue, white = (f"({values[i]},{values[i + 1]})" for i in range(0, 8, 2))
        light = f"({number(self.most, LUMINANCE_UNIT)},{number(self.least, LUMINANCE_UNIT)})"
        return f"G{green}B{blue}R{red}WP{white}L{light}"


def read_hdr(frame: av.VideoFrame) -> Hdr | None:
    """Return the static metadata that comes with a frame; None without any."""
    points, least, most, light = None, Fraction(0), Fraction(0), None
    for data in side_data(frame):
        if data.type == Type.MASTERING_DISPLAY_METADATA and data.buffer_size >= MASTERING.size:
            *numbers, has_points, has_light = MASTERING.unpack(bytes(data)[: MASTERING.size])
            quotients = [Fraction(n, d) if d else Fraction(0) for n, d in zip(numbers[::2], numbers[1::2], strict=True)]
            if has_points and has_light:
                points, least, most = tuple(quotients[:8]), quotients[8], quotients[9]
        elif data.type == Type.CONTENT_LIGHT_LEVEL and data.buffer_size >= LIGHT.size:
            light = LIGHT.unpack(bytes(data)[: LIGHT.size])
    return None if points is None and light is None else Hdr(points=points, least=least, most=most, light=light)


def dynamic_kinds(frame: av.VideoFrame) -> list[str]:
    """Names of the metadata with a frame that cannot be passed on."""
    return sorted({DYNAMIC[data.type.name] for data in side_data(frame) if data.type.name in DYNAMIC})
