"""Interlaced video: found by its flags and by its pictures, and made whole frame by frame."""

import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import cast

import av
import av.error
from av.filter import Graph

from stvsr_cli.media.read.decoder import open_decoder
from stvsr_cli.media.read.probe import Fields, VideoInfo, open_input

logger = logging.getLogger(__name__)

MODES = ("auto", "off", "on")
PROGRESSIVE_CODECS = frozenset("apng av1 bmp gif jpeg2000 png vp8 vp9 vvc webp".split())
"""Codecs whose pictures are whole."""
TALLEST_PX = 1200
"""Lines above which no video is interlaced."""
MOST_FRAMES, ENOUGH_FRAMES = 300, 100
"""Frames that are looked at, and of those that tell something, when that is enough."""
FEWEST_FRAMES = 8
"""Frames that must tell something before pictures are believed."""
COMBED, WHOLE = 0.6, 0.05
"""Shares of combed frames above which a video is interlaced, and below which it is not, whatever its flags say."""
PULLDOWN = 5
"""Frames after which 3:2 pulldown repeats itself."""
COMBED_MARGIN = 1.3
"""How much rougher a frame must be than its fields to be combed; FFmpeg's 1.04 takes thin lines of text for combs."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What the first frames of a video show."""

    flagged: int
    """Frames that are marked as interlaced."""
    total: int
    verdicts: tuple[str, ...]
    """Of each frame alone, by FFmpeg's idet: tff, bff, progressive or undetermined."""
    durations: tuple[int, ...]
    """Ticks by which frames follow each other."""
    repeats: tuple[str, ...] = ()
    """The field of each frame that was in the frame before, by idet: top, bottom or neither."""

    @property
    def counts(self) -> Counter[str]:
        """Number of frames by verdict."""
        return Counter(self.verdicts)

    @property
    def combed(self) -> float | None:
        """Share of frames that are combed, among those that tell; None if too few do."""
        counts = self.counts
        known = counts["tff"] + counts["bff"] + counts["progressive"]
        return None if known < FEWEST_FRAMES else 1 - counts["progressive"] / known

    @property
    def parity(self) -> str | None:
        """The field that comes first, by the pictures; None if they do not tell."""
        top, bottom = self.counts["tff"], self.counts["bff"]
        if max(top, bottom) < FEWEST_FRAMES or max(top, bottom) < 4 * min(top, bottom):
            return None
        return "tff" if top > bottom else "bff"

    @property
    def is_telecine(self) -> bool:
        """Whether every five frames hold one field of each kind a second time, as 3:2 pulldown makes them."""
        if len(self.repeats) < 3 * PULLDOWN:
            return False
        steady = 0
        for residue in range(PULLDOWN):
            kind, count = Counter(self.repeats[residue::PULLDOWN]).most_common(1)[0]
            if kind != "neither" and count >= 0.6 * len(self.repeats[residue::PULLDOWN]):
                steady += 1
        return steady == 2 and {"top", "bottom"} <= set(self.repeats)

    @property
    def is_soft_telecine(self) -> bool:
        """Whether frames last three and two fields in turn, as flags that repeat a field make them."""
        kinds = Counter(self.durations)
        if len(kinds) < 2 or len(self.durations) < FEWEST_FRAMES:
            return False
        (a, _), (b, _) = kinds.most_common(2)
        pairs = list(zip(self.durations[:-1], self.durations[1:], strict=True))
        in_turn = sum({x, y} == {a, b} for x, y in pairs) / len(pairs)
        return in_turn > 0.8 and abs(max(a, b) / min(a, b) - 1.5) < 0.05


def with_fields(info: VideoInfo, mode: str = "auto") -> VideoInfo:
    """Return the description with `fields` set if the video is to be deinterlaced, and say so.

    mode: auto looks at flags and pictures, on deinterlaces whatever comes, off never does. Raises ValueError.
    """
    if mode not in MODES:
        raise ValueError(f"{mode = } must be one of {', '.join(MODES)}")
    never = info.codec in PROGRESSIVE_CODECS or info.height > TALLEST_PX
    if mode == "off" or (mode == "auto" and never):
        return info
    scan = look(info)
    fields = decide(scan, force=mode == "on")
    _tell(info, scan, fields)
    return replace(info, fields=fields)


def decide(scan: Scan, *, force: bool = False) -> Fields | None:
    """What a scan says is to be done; None: nothing."""
    flagged = 2 * scan.flagged > scan.total
    combed = scan.combed
    if force:
        return Fields(parity=scan.parity or ("auto" if flagged else "tff"), only_flagged=False)
    if flagged:
        if combed is not None and combed < WHOLE:
            return None
        return Fields(parity=scan.parity or "auto", only_flagged=True)
    if scan.is_telecine or (combed is not None and combed > COMBED and scan.parity):
        return Fields(parity=scan.parity or "tff", only_flagged=False)
    return Fields(parity="auto", only_flagged=True) if scan.flagged else None


def _tell(info: VideoInfo, scan: Scan, fields: Fields | None) -> None:
    """Say in one line what is done and why."""
    order = {"tff": ", top field first", "bff": ", bottom field first"}.get(fields.parity if fields else "", "")
    combed = "" if scan.combed is None else f"; {scan.combed:.0%} of the first frames are combed"
    by = f"{scan.flagged} of {scan.total} frames are marked"
    if scan.is_telecine or scan.is_soft_telecine:
        kind = "3:2 pulldown in its pictures" if scan.is_telecine else "3:2 pulldown by flags"
        done = f"; it is deinterlaced{order}" if fields else ""
        logger.warning("%s is film at 24 frames a second with %s, which is kept%s", info.path, kind, done)
    elif fields is not None:
        logger.warning("%s is interlaced (%s%s): deinterlaced%s", info.path, by, combed, order)
    elif 2 * scan.flagged > scan.total:
        logger.warning(
            "%s is marked as interlaced, but its frames are progressive; they are left as they are", info.path
        )


def look(info: VideoInfo) -> Scan:
    """Read the first frames of a video: their flags, and what FFmpeg's idet finds in them."""
    flagged, stamps, verdicts, repeats = 0, list[int | None](), list[str](), list[str]()
    graph = _Graph("idet", f"intl_thres={COMBED_MARGIN}")

    def note(frames: Iterable[av.VideoFrame]) -> None:
        for frame in frames:
            verdicts.append(str(frame.metadata.get("lavfi.idet.single.current_frame", "undetermined")))
            repeats.append(str(frame.metadata.get("lavfi.idet.repeated.current_frame", "neither")))

    with open_input(info.path, remote=info.remote) as container:
        stream = cast(av.VideoStream, container.streams[info.stream_index])
        open_decoder(stream, has_alpha=False, max_pixels=info.max_pixels)
        stream.codec_context.thread_type = "AUTO"
        for frame in _readable(container.demux(stream)):
            flagged += frame.interlaced_frame
            stamps.append(frame.pts)
            note(graph.through(frame))
            if len(stamps) >= MOST_FRAMES or len(verdicts) - verdicts.count("undetermined") >= ENOUGH_FRAMES:
                break
    note(graph.rest())
    known = [stamp for stamp in stamps if stamp is not None]
    steps = tuple(after - before for before, after in zip(known[:-1], known[1:], strict=True))
    return Scan(flagged, len(stamps), tuple(verdicts), steps, tuple(repeats))


def _readable(packets: Iterable[av.Packet]) -> Iterator[av.VideoFrame]:
    """Frames that decode, until the file breaks off."""
    try:
        for packet in packets:
            try:
                yield from packet.decode()  # type: ignore[misc]
            except av.error.InvalidDataError:
                continue
    except (av.error.FFmpegError, OSError) as error:
        logger.debug("looking for fields ends early: %s", error)


def deinterlaced(frames: Iterable[av.VideoFrame], fields: Fields) -> Iterator[av.VideoFrame]:
    """Yield as many frames as come, each whole, at the times they had. Lags one frame."""
    kind = "interlaced" if fields.only_flagged else "all"
    graph = _Graph("bwdif", f"mode=send_frame:parity={fields.parity}:deint={kind}")
    times: deque[tuple[int | None, int]] = deque()

    def timed(made: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        for frame in made:
            frame.pts, frame.duration = times.popleft()  # type: ignore[assignment]
            yield frame

    for frame in frames:
        if graph.differs(frame):
            yield from timed(graph.rest())
        times.append((frame.pts, frame.duration))
        yield from timed(graph.through(frame))
    yield from timed(graph.rest())


class _Graph:
    """One filter, set up anew whenever frames change their size or format."""

    def __init__(self, name: str, arguments: str) -> None:
        self._name, self._arguments = name, arguments
        self._graph: Graph | None = None
        self._shape: tuple[int, int, str] | None = None
        self._count = 0

    def differs(self, frame: av.VideoFrame) -> bool:
        """Whether the frame is of another size or format than those before."""
        return self._shape is not None and self._shape != (frame.width, frame.height, frame.format.name)

    def through(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Frames that are ready after this one. What an earlier size has left is given out first."""
        if self.differs(frame):
            yield from self.rest()
        if self._graph is None:
            self._graph = self._configured(frame)
        pts, time_base = frame.pts, frame.time_base
        frame.pts, frame.time_base = self._count, Fraction(1, 25)  # even times, which no filter minds
        self._count += 1
        self._graph.vpush(frame)
        frame.pts, frame.time_base = pts, time_base
        yield from self._pulled(self._graph)

    def rest(self) -> Iterator[av.VideoFrame]:
        """Frames held back; the filter begins anew after them."""
        graph, self._graph, self._shape = self._graph, None, None
        if graph is not None:
            graph.vpush(None)
            yield from self._pulled(graph)

    def _pulled(self, graph: Graph) -> Iterator[av.VideoFrame]:
        while True:
            try:
                yield graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return

    def _configured(self, frame: av.VideoFrame) -> Graph:
        self._shape = (frame.width, frame.height, frame.format.name)
        graph = Graph()
        graph.threads = 1  # its work is small beside the model's, whose threads are bounded
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25), name="in"
        )
        graph.link_nodes(source, graph.add(self._name, self._arguments), graph.add("buffersink")).configure()
        return graph
