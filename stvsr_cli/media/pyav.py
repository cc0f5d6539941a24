"""What differs between the releases of PyAV that are supported, 18 and 19: nothing else asks for its version."""

from fractions import Fraction
from io import RawIOBase
from typing import TYPE_CHECKING, Any

import av
from av.sidedata.sidedata import SideData

if TYPE_CHECKING:
    from av.container import InputContainer

LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
"""How a container with tags that are no UTF-8 is opened; from 19 on PyAV replaces what it cannot read by itself."""


def open_lenient(location: str | RawIOBase, container_options: dict[str, str]) -> "InputContainer":
    """Open a container whose tags may be broken text, at a path or as a file. Raises what `av.open` raises."""
    return av.open(location, "r", container_options=container_options, **LENIENT)


def exact(value: Any) -> Fraction | None:
    """A rational number of PyAV's as a Fraction; None where it is not set.

    18 gives a Fraction or None; 19 an AVRational, which is false where it is not set, and whose arithmetic with its
    own kind is rounded to 32 bits.
    """
    return Fraction(value.numerator, value.denominator) if value else None


def side_data(frame: av.VideoFrame) -> list[SideData]:
    """What comes with a frame. The container of it yields its items in 18, and their kinds, as a mapping does, in 19."""
    found: Any = frame.side_data
    items = list(found)
    return items if not items or isinstance(items[0], SideData) else list(found[:])
