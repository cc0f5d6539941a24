"""Where something lies in a frame."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """Where something lies in a frame, in pixels; it may reach beyond."""

    left: int
    top: int
    width: int
    height: int

    def within(self, height: int, width: int) -> "Box":
        """What of it lies in a frame."""
        left, top = max(0, self.left), max(0, self.top)
        right, bottom = min(width, self.left + self.width), min(height, self.top + self.height)
        return Box(left, top, right - left, bottom - top)
