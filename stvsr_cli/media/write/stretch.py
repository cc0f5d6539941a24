"""Sound made to last longer at its own pitch, by FFmpeg's atempo."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

import av
import av.error
import numpy as np
from av.filter import Graph

from stvsr_cli.media.write.sound import JITTER_S

TAIL_S = Fraction(1, 2)
"""Silence that drives out what the filters hold back: longer than the windows of as many as there can be."""
SLOWEST = Fraction(1, 2)
"""Least tempo of one filter; several make the rest."""


class Stretcher:
    """Takes frames of sound with their times, and gives them stretched; a gap, or another kind of sound, begins anew."""

    def __init__(self, slower: Fraction) -> None:
        """slower: by how much the sound is to last longer."""
        self._slower = slower
        self._graph: Graph | None = None
        self._kind: tuple[str, str, int] | None = None
        self._begin = Fraction(0)
        """When the sound in the graph begins, in seconds, before it is stretched."""
        self._taken = self._given = 0
        """Samples that went in since then, and that came out."""

    def put(self, frame: av.AudioFrame, time: Fraction | None) -> Iterator[tuple[av.AudioFrame, Fraction]]:
        """Take a frame that begins at a time, in seconds; None: where the last one ended.

        Yields frames that are ready, with their times in stretched seconds.
        """
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        reached = self._begin + Fraction(self._taken, frame.sample_rate)
        is_off = time is not None and abs(time - reached) > JITTER_S
        if self._graph is None or kind != self._kind or is_off:
            yield from self.finish()
            self._begin = reached if time is None else time
            self._graph, self._kind = _graph(frame, 1 / self._slower), kind
            self._taken = self._given = 0
        if not frame.samples:
            return
        frame.pts, frame.time_base = self._taken, Fraction(1, frame.sample_rate)
        self._taken += frame.samples
        self._graph.push(frame)
        yield from self._ready()

    def finish(self) -> Iterator[tuple[av.AudioFrame, Fraction]]:
        """Yield what is held back, up to the length that what was taken has when it is stretched."""
        if self._graph is None or self._kind is None:
            return
        whole = round(self._taken * self._slower)
        self._graph.push(_silence(self._kind, self._taken))  # for the filters keep their last moment to themselves
        self._graph.push(None)
        for frame, moment in self._ready():
            over = self._given - whole
            if over < frame.samples:
                yield (frame if over <= 0 else _first(frame, frame.samples - over)), moment
        self._graph = None

    def _ready(self) -> Iterator[tuple[av.AudioFrame, Fraction]]:
        while self._graph is not None:
            try:
                frame = cast(av.AudioFrame, self._graph.pull())
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            moment = self._begin * self._slower + Fraction(self._given, frame.sample_rate)
            self._given += frame.samples
            yield frame, moment


def _silence(kind: tuple[str, str, int], pts: int) -> av.AudioFrame:
    """Silence of some format, layout and rate, that begins at a sample."""
    form, layout, rate = kind
    frame = av.AudioFrame(format=form, layout=layout, samples=round(TAIL_S * rate))
    for plane in frame.planes:
        plane.update(bytes([0x80 if form.startswith("u8") else 0]) * plane.buffer_size)
    frame.sample_rate, frame.pts, frame.time_base = rate, pts, Fraction(1, rate)
    return frame


def _first(frame: av.AudioFrame, count: int) -> av.AudioFrame:
    """The first samples of a frame."""
    values = frame.to_ndarray()
    channels = 1 if frame.format.is_planar else frame.layout.nb_channels
    part: Any = np.ascontiguousarray(values[:, : count * channels])
    first = av.AudioFrame.from_ndarray(part, format=frame.format.name, layout=frame.layout.name)
    first.sample_rate, first.time_base = frame.sample_rate, frame.time_base
    return first


def _graph(frame: av.AudioFrame, tempo: Fraction) -> Graph:
    """Filters for sound like a frame's, that change its tempo."""
    graph = Graph()
    nodes = [
        graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format.name,
            layout=frame.layout.name,
            time_base=Fraction(1, frame.sample_rate),
        )
    ]
    while tempo < 1:
        step = max(tempo, SLOWEST)
        nodes.append(graph.add("atempo", f"{float(step):.9f}"))
        tempo /= step
    nodes.append(graph.add("abuffersink"))
    for left, right in zip(nodes[:-1], nodes[1:], strict=True):
        left.link_to(right)
    graph.configure()
    return graph
