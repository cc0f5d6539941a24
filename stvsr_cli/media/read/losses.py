"""What comes with the frames of a video and is not kept, or changes on the way: each is said once."""

import logging
from fractions import Fraction

import av
from av.sidedata.sidedata import Type

from stvsr_cli.media.pyav import side_data
from stvsr_cli.media.read.hdr import dynamic_kinds
from stvsr_cli.media.read.picture import is_transparent, tags_of
from stvsr_cli.media.read.probe import VideoInfo

logger = logging.getLogger(__name__)

LOST = {
    Type.SPHERICAL: "the mapping onto a sphere (360 degrees video)",
    Type.STEREO3D: "the arrangement of two views (3D)",
    Type.AFD: "the active format",
    Type.PANSCAN: "the part that is to be shown",
    Type.ICC_PROFILE: "the ICC profile",
}
"""Metadata of frames that no encoder is given."""


class Watcher:
    """Looks at the frames of one video as they come by."""

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._told: set[str] = set()
        self._aspect: Fraction | None = None

    def see(self, frame: av.VideoFrame, aspect: Fraction | None) -> None:
        """Say what is new about this frame. aspect: of its pixels, as the decoder has it now."""
        info = self._info
        self._aspect = self._aspect or aspect
        if aspect != self._aspect:
            self._tell("aspect", f"its pixel aspect changes to {aspect} on its way; {self._aspect} is kept")
        if is_transparent(frame):
            self._tell("alpha", "what is transparent is laid over black")
        for kind in dynamic_kinds(frame):
            self._tell(kind, f"the {kind} metadata is dropped; it describes another picture")
        for data in side_data(frame):
            if data.type in LOST:
                self._tell(data.type.name, f"{LOST[data.type]} is dropped")
        if (frame.width, frame.height) != info.raw_size:
            self._tell("size", f"it changes to {frame.width}x{frame.height} on its way; all is scaled to "
                       f"{info.raw_size[0]}x{info.raw_size[1]}")  # fmt: skip
        if frame.format.name.startswith(("yuv", "gray")):
            tags = tags_of(frame, info)
            if tags.is_full_range != info.color.is_full_range:
                self._tell("range", f"its range changes to {'full' if tags.is_full_range else 'limited'} on its way; "
                           "all is brought to the range that it begins with")  # fmt: skip
            if tags.matrix != info.color.matrix:
                self._tell("matrix", "its colour matrix changes on its way; all is brought to the one it begins with")

    def _tell(self, what: str, line: str) -> None:
        if what not in self._told:
            self._told.add(what)
            logger.warning("%s: %s", self._info.path, line)
