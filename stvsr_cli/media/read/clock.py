"""One clock for a whole file: where its stamps start over, jump or overlap, and when every packet really comes.

Recordings that were joined, or that lost their signal, have stamps that jump in the middle. Only containers made for
broadcast and recording can have that: of those all packets are read once, without decoding, before the work begins.
The video's stamps say where the clock jumped; all streams are moved by the same amount there, so that what belongs
together stays together. What comes twice is cut, what is missing stays a gap.
"""

import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import av.error

from stvsr_cli.media.pyav import exact
from stvsr_cli.media.read.opening import open_input
from stvsr_cli.runtime import watchdog

logger = logging.getLogger(__name__)

RESTARTING = frozenset("mpegts mpeg ogg flv live_flv kux wtv ty pva nsv".split())
"""Containers in the middle of which the clock can start over."""
BACK_S = Fraction(1)
"""A step back by more starts the clock over; by less, something is there twice."""
SLACK_S = Fraction(1, 5)
"""An overlap by no more comes of how streams are put together, and nothing is there twice: all go on after it."""
AHEAD_S = Fraction(10)
"""A step ahead by more, of everything at once, is a jump of the clock; a shorter one is a gap."""
CUT = -(1 << 62)
"""Stamp of a packet that comes a second time: what it decodes to is not shown."""
AT_ONCE = 10000
"""Packets that are read between two signs of life."""
DEFAULT_BASE = Fraction(1, 90000)
MOST_STEPS = 64
"""Different steps between frames that are counted, to know the usual one."""


@dataclass(frozen=True, slots=True)
class Break:
    """From some place in a file on, how one stream's stamps are to be read."""

    position: int
    """Byte of the file at which the first packet begins."""
    shift: int
    """Ticks to add."""
    floor: int | None = None
    """Moved stamps below this come a second time; None: none does."""


@dataclass(frozen=True, slots=True)
class Clock:
    """When the packets of a file come, as one time that runs on."""

    breaks: dict[int, tuple[Break, ...]] = field(default_factory=dict)
    """By stream: its breaks in order; streams without any are not named."""
    wild: dict[int, frozenset[int]] = field(default_factory=dict)
    """By stream: places of packets whose stamps are wrong, alone among their neighbours."""
    keyframes: tuple[tuple[int, int], ...] = ()
    """Moved stamp and place of the video's keyframes, in order of time."""
    num_frames: int | None = None
    """Frames of the video, if they were counted."""
    end: int | None = None
    """Moved stamp at which the last frame of the video ends, in ticks of its stream, if it was looked for."""

    def followed(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        """Yield packets with their stamps moved; those that come a second time have `CUT` as their stamps."""
        last: dict[int, int] = {}
        for packet in packets:
            index = packet.stream_index
            if (index in self.breaks or index in self.wild) and (packet.pts is not None or packet.dts is not None):
                if packet.pos is not None and packet.pos >= 0:
                    last[index] = packet.pos
                self._move(packet, last.get(index, 0))
            yield packet

    def _move(self, packet: av.Packet, position: int) -> None:
        index = packet.stream_index
        if position in self.wild.get(index, ()):
            packet.pts = packet.dts = None
            return
        found = self.breaks.get(index, ())
        at = bisect_right(found, position, key=lambda b: b.position) - 1
        if at < 0:
            return
        shift, floor = found[at].shift, found[at].floor
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift
        shown = packet.pts if packet.pts is not None else packet.dts
        if floor is not None and shown is not None and shown < floor:
            packet.pts = packet.dts = CUT

    def keyframe_before(self, stamp: int) -> int | None:
        """Place of the last keyframe at or before a moved stamp of the video; None where none is known."""
        at = bisect_right(self.keyframes, stamp, key=lambda k: k[0]) - 1
        return self.keyframes[at][1] if at >= 0 else None


STEADY = Clock()
"""Of containers whose stamps are what they say."""


@dataclass(slots=True)
class _Run:
    """A stretch of a stream in which the clock does not jump."""

    position: int
    first: int
    """Least stamp of presentation, as read."""
    low: int
    """Stamp of decoding at which it begins and, in `high`, to which it gets."""
    high: int
    end: int
    """Stamp at which the last of it ends."""
    floors: list[tuple[int, int]] = field(default_factory=list)
    """Places at which it steps back a little, and how far it had come."""


@dataclass(slots=True)
class _Packet:
    position: int
    time: int
    shown: int
    duration: int
    is_key: bool


class _Track:
    """The runs of one stream, as its packets come by; looks one packet ahead."""

    def __init__(self, base: Fraction, *, is_video: bool) -> None:
        self.base, self._is_video = base, is_video
        self.runs: list[_Run] = []
        self.wild: set[int] = set()
        self.steps: Counter[int] = Counter()
        self.last_position = 0
        self._last: _Packet | None = None
        self._waiting: _Packet | None = None

    @property
    def step(self) -> int:
        """The usual distance of packets, in ticks."""
        return self.steps.most_common(1)[0][0] if self.steps else 0

    def add(self, packet: _Packet | None) -> None:
        """Take the next packet; None at the end."""
        waiting, self._waiting = self._waiting, packet
        if waiting is not None:
            self._judge(waiting, packet)

    def _judge(self, packet: _Packet, following: _Packet | None) -> None:
        if self._last is None:
            self._begin(packet)
            return
        step = packet.time - self._last.time
        again = self._is_video and packet.is_key and step == 0
        if step < 0 or again or step * self.base > AHEAD_S:
            if following is not None and self._is_wild(packet, following):
                self.wild.add(packet.position)
                return
            least = self.step if self._is_video else packet.duration
            overlap = (self.runs[-1].end - packet.shown) * self.base
            is_join = packet.is_key and (again or -2 * step >= least)
            if step * self.base < -BACK_S or step > 0 or (is_join and overlap <= SLACK_S):
                self._begin(packet)
                return
            if is_join:
                self.runs[-1].floors.append((packet.position, self.runs[-1].end))
        elif len(self.steps) < MOST_STEPS or step in self.steps:
            self.steps[step] += 1
        self._note(packet)

    def _is_wild(self, packet: _Packet, following: _Packet) -> bool:
        """Whether what follows goes on from before this packet, and not from it."""
        if self._last is None:
            return False
        onward = (following.time - self._last.time) * self.base
        return 0 <= onward < BACK_S and not 0 <= (following.time - packet.time) * self.base < BACK_S

    def _begin(self, packet: _Packet) -> None:
        self.runs.append(_Run(packet.position, packet.shown, packet.time, packet.time, packet.shown))
        self._note(packet)

    def _note(self, packet: _Packet) -> None:
        run = self.runs[-1]
        run.first, run.high = min(run.first, packet.shown), max(run.high, packet.time)
        length = (self.step or packet.duration) if self._is_video else packet.duration
        run.end = max(run.end, packet.shown + length)
        self.last_position = max(self.last_position, packet.position)
        self._last = packet


def read_clock(path: Path, container: str, video: int) -> Clock:
    """The clock of a local file. container: FFmpeg's name of its format; video: index of the stream that sets it.

    All packets of a container of `RESTARTING` are read. What cannot be read ends it early.
    """
    if not set(container.split(",")) & RESTARTING:
        return STEADY
    try:
        state = path.stat()
    except OSError:
        return STEADY
    return _scanned(path, video, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=8)
def _scanned(path: Path, video: int, size: int, modified_ns: int) -> Clock:
    """The clock of a file, read anew when that has changed."""
    tracks: dict[int, _Track] = {}
    keys: list[tuple[int, int]] = []
    count = 0
    with open_input(path) as container:
        try:
            for number, packet in enumerate(container.demux()):
                if number % AT_ONCE == 0:
                    with watchdog.busy("read"):  # a long file is no stall
                        logger.debug("%s: %d packets", path, number)
                time = packet.dts if packet.dts is not None else packet.pts
                if time is None:
                    continue
                index = packet.stream_index
                if index not in tracks:
                    base = exact(packet.stream.time_base) or DEFAULT_BASE
                    tracks[index] = _Track(base, is_video=index == video)
                shown = packet.pts if packet.pts is not None else time
                position = packet.pos if packet.pos is not None and packet.pos >= 0 else -1
                tracks[index].add(_Packet(position, time, shown, packet.duration or 0, bool(packet.is_keyframe)))
                if index == video:
                    count += 1
                    if packet.is_keyframe and position >= 0:
                        keys.append((shown, position))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            logger.debug("%s: looking for jumps of the clock ends early: %s", path, error)
    for track in tracks.values():
        track.add(None)
    return _clock_of(tracks, video, keys, count)


def _clock_of(tracks: dict[int, _Track], video: int, keys: list[tuple[int, int]], count: int) -> Clock:
    """Put the runs of all streams on one clock."""
    if video not in tracks or not tracks[video].runs:
        return STEADY
    main = tracks[video]
    runs = _real_jumps(main, [track for index, track in tracks.items() if index != video])
    shifts, end = [0], runs[0].end
    for run in runs[1:]:
        shifts.append(end - run.first)
        end = max(end, run.end + shifts[-1])
    breaks = {index: found for index, track in tracks.items() if (found := _breaks(track, main, shifts))}
    moved = []
    for shown, position in keys:
        at = bisect_right(breaks[video], position, key=lambda b: b.position) - 1 if video in breaks else -1
        moved.append((shown + (breaks[video][at].shift if at >= 0 else 0), position))
    wild = {index: frozenset(track.wild - {-1}) for index, track in tracks.items() if track.wild - {-1}}
    if len(runs) > 1:
        logger.info("the clock of the file jumps %d times; all streams go on together", len(runs) - 1)
    return Clock(breaks=breaks, wild=wild, keyframes=tuple(sorted(moved)), num_frames=count, end=end)


def _real_jumps(main: _Track, others: list[_Track]) -> list[_Run]:
    """The video's runs, joined where another stream goes on through what looks like a jump ahead."""
    joined = main.runs[:1]
    for run in main.runs[1:]:
        before = joined[-1]
        gap = (before.high * main.base + 1, run.low * main.base - 1)
        goes_on = run.low > before.high and any(
            other.low * track.base <= gap[0] and other.high * track.base >= gap[1] for track in others for other in track.runs
        )  # fmt: skip
        if goes_on:
            before.high, before.end = max(before.high, run.high), max(before.end, run.end)
            before.first = min(before.first, run.first)
            before.floors += run.floors
        else:
            joined.append(run)
    main.runs = joined
    return joined


def _breaks(track: _Track, main: _Track, shifts: list[int]) -> tuple[Break, ...]:
    """The breaks of one stream, by the video's runs and their shifts, in ticks of the video."""
    runs, base = main.runs, main.base
    found: list[Break] = []
    end: int | None = None
    met: set[int] = set()
    for number, run in enumerate(track.runs):
        at = number if track is main else _epoch(run, track.base, runs, base, main.last_position)
        shift = round(shifts[at] * base / track.base)
        floor = None if end is None or run.first + shift >= end else end
        found.append(Break(max(run.position, 0), shift, floor))
        found += [Break(position, shift, reached + shift) for position, reached in run.floors if position >= 0]
        end = run.end + shift if end is None else max(end, run.end + shift)
        met.add(at)
    for at in range(1, len(runs)):  # where this stream's own stamps show nothing
        if at not in met:
            found.append(Break(runs[at].position, round(shifts[at] * base / track.base)))
    found.sort(key=lambda b: b.position)
    return tuple(found) if any(b.shift or b.floor is not None for b in found) else ()


def _epoch(run: _Run, run_base: Fraction, runs: list[_Run], base: Fraction, last: int) -> int:
    """Number of the video's run that another stream's run belongs to: what lies side by side comes at one time.

    last: place of the video's last packet.
    """

    def distance(number: int) -> Fraction:
        other = runs[number]
        finish = runs[number + 1].position if number + 1 < len(runs) else last
        length, time = max(1, finish - other.position), (other.high - other.low) * base
        place = Fraction(run.position - other.position, length)
        outside = max(-place, place - 1, Fraction(0))
        here = other.low * base + min(max(place, Fraction(0)), Fraction(1)) * time
        return abs(run.low * run_base - here) + outside * time

    return min(range(len(runs)), key=distance)
