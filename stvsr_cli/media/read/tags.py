"""Colour as it is tagged: matrix, range, primaries, transfer function, and where chroma lies."""

from dataclasses import dataclass

from stvsr_cli.media.read.siting import DEFAULT

UNSPECIFIED = 2
"""FFmpeg's number for an unspecified matrix, primaries or transfer function (ISO/IEC 23091-2)."""
MATRIX_RGB, MATRIX_BT709, MATRIX_BT601 = 0, 1, 6
RANGE_LIMITED, RANGE_FULL = 1, 2
STANDARD_PX = (1280, 576)
"""Width from which, and height above which, players take a video that does not say for BT.709."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColorTags:
    """Colour description by the numbers of ISO/IEC 23091-2, which FFmpeg uses; 2 is unspecified."""

    matrix: int = UNSPECIFIED
    range: int = 0
    """0 unspecified, 1 limited, 2 full."""
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    siting: str = DEFAULT
    """Where chroma samples of 4:2:0 and 4:2:2 lie: one of `siting.LOCATIONS`."""

    def resolved_matrix(self, width_px: int, height_px: int) -> int:
        """The matrix, or what players assume without one: BT.709 for a large video, BT.601 for a small one."""
        if self.matrix != UNSPECIFIED:
            return self.matrix
        return MATRIX_BT709 if width_px >= STANDARD_PX[0] or height_px > STANDARD_PX[1] else MATRIX_BT601

    @property
    def is_full_range(self) -> bool:
        """Whether code values span all bits; unspecified means limited."""
        return self.range == RANGE_FULL
