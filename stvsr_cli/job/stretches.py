"""A video cut into stretches that can be made apart, in any order, each the same to the bit as in one run."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from stvsr_cli.job.cutter import Cutter, Point, Totals
from stvsr_cli.job.timeline import Timeline
from stvsr_cli.media.read.moments import Moment


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """The input frames of one segment. Frames are counted from 0."""

    number: int
    """Of the segment."""
    begin: Point
    stop: int
    """One past the last frame whose output is in the segment."""
    seen: int
    """One past the last frame that the model must see for that."""
    after: Point
    """Where the next one begins."""

    @property
    def num_seen(self) -> int:
        """Frames that the model sees: what the stretch costs."""
        return self.seen - self.begin.context


@dataclass(slots=True)
class Stretches:
    """Cuts a stream of frames into stretches as it comes; each is given as soon as the frames it needs are known."""

    cutter: Cutter
    timeline: Timeline
    totals: Totals | None = None
    """What the whole stream came to, at its end."""

    def of(self, moments: Iterable[Moment]) -> Iterator[Stretch]:
        """Yield the stretches of a stream. moments: of all its frames."""
        waiting: deque[Stretch] = deque()
        begin, count = Point(), 0
        shot = num_shots = index = number = total = 0
        for index, moment in enumerate(moments):
            slots = self.timeline.slots(index, moment.pts, moment.duration)
            if moment.cut or index == 0:
                shot, num_shots = index, num_shots + 1
                waiting = deque(replace(stretch, seen=min(stretch.seen, index)) for stretch in waiting)
            if slots and count and self.cutter.ends_before(slots[0], shot, count):
                context = self.cutter.context(index, shot)
                after = Point(frame=index, context=context, shot=shot, num_shots=num_shots - 1)
                seen = index if index == shot else self.cutter.seen(index, shot)
                waiting.append(Stretch(number=number, begin=begin, stop=index, seen=seen, after=after))
                begin, count, number = after, 0, number + 1
            while waiting and waiting[0].seen <= index:
                yield waiting.popleft()
            count, total = count + len(slots), total + len(slots)
        length = index + 1 if num_shots else 0
        self.totals = Totals(frames_in=length, frames_out=total, num_shots=num_shots)
        if length:
            after = Point(frame=length, context=length, shot=length, num_shots=num_shots)
            waiting.append(Stretch(number=number, begin=begin, stop=length, seen=length, after=after))
        for stretch in waiting:
            yield replace(stretch, seen=min(stretch.seen, length))
