"""A video cut into stretches that can be made apart, in any order, each the same to the bit as in one run."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from stvsr_cli.job.cutter import Cutter, Point, Totals
from stvsr_cli.job.timeline import Slot, SlotKind


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
    factor: int
    """Output frames of an input frame."""
    totals: Totals | None = None
    """What the whole stream came to, at its end."""

    def of(self, cuts: Iterable[bool]) -> Iterator[Stretch]:
        """Yield the stretches of a stream. cuts: of each frame, whether a shot begins with it."""
        waiting: deque[Stretch] = deque()
        begin, count = Point(), 0
        shot = num_shots = index = number = 0
        for index, cut in enumerate(cuts):
            if cut or index == 0:
                shot, num_shots = index, num_shots + 1
                waiting = deque(replace(stretch, seen=min(stretch.seen, index)) for stretch in waiting)
            if index and self.cutter.ends_before(Slot(SlotKind.SOURCE, index, 0, 0, 0), shot, count):
                context = self.cutter.context(index, shot)
                after = Point(frame=index, context=context, shot=shot, num_shots=num_shots - 1)
                seen = index if index == shot else self.cutter.seen(index, shot)
                waiting.append(Stretch(number=number, begin=begin, stop=index, seen=seen, after=after))
                begin, count, number = after, 0, number + 1
            while waiting and waiting[0].seen <= index:
                yield waiting.popleft()
            count += self.factor
        length = index + 1 if num_shots else 0
        self.totals = Totals(frames_in=length, frames_out=length * self.factor, num_shots=num_shots)
        if length:
            after = Point(frame=length, context=length, shot=length, num_shots=num_shots)
            waiting.append(Stretch(number=number, begin=begin, stop=length, seen=length, after=after))
        for stretch in waiting:
            yield replace(stretch, seen=min(stretch.seen, length))
