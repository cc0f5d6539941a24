"""Journals: what a run has finished, kept on disk beside the output until that is whole.

The journal of OUT is the folder OUT.stvsr. It holds the finished segments, cut at places that depend on nothing but
settings and content, and `manifest.json`: what the run was given, its segments with their checksums, and where to go
on after each. A segment is on disk to stay before the manifest names it, and the manifest is replaced as a whole, so
that whatever ends the program, all but the segment in work is kept.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from stvsr_cli.durable import manifest
from stvsr_cli.durable.manifest import Manifest, compare, read_manifest
from stvsr_cli.durable.segments import Segment, extradata, is_whole, joined
from stvsr_cli.errors import InputChanged, Interrupted, OutputError, StvsrError
from stvsr_cli.job.cutter import Point, Totals
from stvsr_cli.media.read.count import measure
from stvsr_cli.media.write.mux import OutputFile
from stvsr_cli.runtime.locks import Lock
from stvsr_cli.runtime.names import derived
from stvsr_cli.runtime.parts import replacing

logger = logging.getLogger(__name__)

LOCK = "lock"
OWN = ("*.segment", "*.part", "joined.*")
"""What a journal's folder may hold beside the manifest and the lock; nothing else is touched."""
MADE = "made"
"""List of pictures that were made, where they are the output: it stays until they are all there."""


def journal_folder(target: Path) -> Path:
    """Where the journal of an output lies."""
    return derived(target, ".stvsr")


def settle(target: Path) -> Totals | None:
    """Clear up after a run that ended between its last two steps: the output whole, the journal still there.

    Returns what the run came to, or None if the output is not finished, or has no journal.
    """
    folder = journal_folder(target)
    if not target.is_file() or not folder.is_dir():
        return None
    found = read_manifest(folder)
    if found is None or found.totals is None or found.inode != target.stat().st_ino:
        return None
    try:
        if measure(target).num_frames != found.totals.frames_out:
            return None
    except StvsrError as error:
        logger.debug("%s: %s", target, error)
        return None
    with _locked(folder, target):
        _remove(folder)
    return found.totals


class Journal:
    """The journal of one run: a context manager that goes with the run's success, and stays otherwise.

    settings: all that the result depends on, as text by name. resume: auto goes on with a run of the same settings;
    force starts over. is_whole: whether all of a segment is there. in_order: whether segments are made one after the
    other, so that those an earlier run made ahead of their turn are made again. Entering raises UsageError if a run of
    other settings is there, saying which, and OutputError if another process is working on the same output.
    """

    def __init__(
        self,
        target: Path,
        settings: Mapping[str, str],
        *,
        resume: str = "auto",
        is_whole: Callable[[Path, Segment], bool] = is_whole,
        in_order: bool = True,
    ) -> None:
        self.target, self.folder = target, journal_folder(target)
        self._resume, self._is_whole, self._in_order = resume, is_whole, in_order
        self._manifest = Manifest(dict(settings))
        self._writing = threading.Lock()

    def __enter__(self) -> "Journal":
        self._lock = _locked(self.folder, self.target)
        self._lock.__enter__()
        try:
            self._load()
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def _load(self) -> None:
        found = None if self._resume == "force" else read_manifest(self.folder)
        if found is not None:
            compare(found.settings, self._manifest.settings, self.folder)
            self._keep_whole(found)
            found.inode = None
            self._manifest = found
        known = {segment.name for segment, _ in (*self._manifest.segments, *self._manifest.ahead.values())}
        for path in _own_files(self.folder):
            if path.name not in known:
                path.unlink()
        if found is None:
            (self.folder / manifest.NAME).unlink(missing_ok=True)
        if self.frames_out:
            logger.info("going on after frame %d", self.frames_out)

    def _keep_whole(self, found: Manifest) -> None:
        """Leave the segments whose files are there, byte for byte, and that this run can go on after."""
        row = {**dict(enumerate(found.segments)), **({} if self._in_order else found.ahead)}
        whole: dict[int, tuple[Segment, Point]] = {}
        for number, (segment, point) in sorted(row.items()):
            if self._is_whole(self.folder, segment):
                whole[number] = (segment, point)
                continue
            found.totals = None
            logger.warning("%s is damaged; continuing from before it", self.folder / segment.name)
            if self._in_order:
                break
        found.segments, found.ahead = [], whole
        found.close_up()

    @property
    def pinned(self) -> dict[str, int]:
        """What the run before had decided by itself, by name; empty for a new run."""
        return self._manifest.pinned

    @property
    def point(self) -> Point:
        """Where the run goes on."""
        return self._manifest.segments[-1][1] if self._manifest.segments else Point()

    @property
    def frames_out(self) -> int:
        """Output frames that are finished."""
        every = (*self._manifest.segments, *self._manifest.ahead.values())
        return sum(segment.num_frames for segment, _ in every)

    @property
    def finished(self) -> frozenset[int]:
        """Numbers of the segments that are finished."""
        return frozenset((*range(len(self._manifest.segments)), *self._manifest.ahead))

    @property
    def totals(self) -> Totals | None:
        """What the run came to, when all its segments are finished."""
        return self._manifest.totals

    @property
    def part(self) -> Path:
        """Where the output is put together."""
        return self.folder / f"joined{self.target.suffix}"

    def pin(self, **values: int) -> None:
        """Write down what the run decided by itself: before its first frame, and when it changes; from any thread."""
        with self._writing:
            self._manifest.pinned = values
            self._write()

    def add(self, segment: Segment, point: Point) -> None:
        """Write down a finished segment, and where to go on after it."""
        with self._writing:
            self._manifest.segments.append((segment, point))
            self._write()

    def add_ahead(self, number: int, segment: Segment, point: Point) -> None:
        """Write down a finished segment by its number, whether or not those before it are finished."""
        with self._writing:
            self._manifest.ahead[number] = (segment, point)
            self._manifest.close_up()
            self._write()

    def next_name(self) -> Path:
        """The path of the segment that comes next."""
        return self.path_of(len(self._manifest.segments))

    def path_of(self, number: int) -> Path:
        """The path of a segment by its number, from 0."""
        return self.folder / f"{number:06d}.segment"

    def complete(self, totals: Totals) -> None:
        """Write down that all segments are finished."""
        self._manifest.totals = totals
        self._write()

    def join_into(self, out: OutputFile) -> None:
        """Copy all segments into the output. Raises OutputError if they do not fit together."""
        reached("join")
        self._manifest.inode = self.part.stat().st_ino
        self._write()
        paths = [self.folder / segment.name for segment, _ in self._manifest.segments]
        for path in paths:
            if extradata(path) != out.extradata:
                raise OutputError(
                    f"{path} was encoded with other headers than {self.target} has.", hint="--resume force starts over."
                )
        for packet in joined(paths, max((segment.delay for segment, _ in self._manifest.segments), default=0)):
            out.write_packet(packet)
        reached("joined")

    def _write(self) -> None:
        """Replace the manifest, all at once and to stay."""
        try:
            with replacing(self.folder / manifest.NAME) as part:
                part.write_text(self._manifest.as_json())
                reached("manifest")
            reached("manifest written")
        except OSError as error:
            raise OutputError(
                f"the journal {self.folder} cannot be written: {error.strerror}.",
                hint="Free space and run the command again.",
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ruined = isinstance(error, InputChanged)
        try:
            if kind is None:
                reached("renamed")
            if kind is None or ruined or not (self.finished or (self.folder / MADE).exists()):
                _remove(self.folder)
        except OSError as failure:
            logger.warning("%s cannot be removed: %s", self.folder, failure.strerror)
        finally:
            self._lock.__exit__(None, None, None)
        if kind is None or ruined or not self.finished:
            return
        if isinstance(error, Interrupted):  # which says so itself
            return
        if kind is KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {self.frames_out} finished frames are kept in {self.folder}.",
                hint="Run the same command to continue from there.",
            ) from error
        logger.warning(
            "%d finished frames are kept in %s; run the same command to continue", self.frames_out, self.folder
        )


class _locked:  # noqa: N801  # reads as a function
    """Makes a journal's folder and holds its lock, which the system takes back when the process ends in any way."""

    def __init__(self, folder: Path, target: Path) -> None:
        self._lock, self._target = Lock(folder / LOCK), target

    def __enter__(self) -> None:
        folder = self._lock.path.parent
        if folder.is_symlink():
            raise OutputError(f"the journal {folder} is a link.", hint="Remove it.")
        try:
            folder.mkdir(exist_ok=True)
            taken = self._lock.take()
        except OSError as error:
            raise OutputError(f"the journal {folder} cannot be made: {error.strerror}.") from error
        if not taken:
            raise OutputError(
                f"another process is working on {self._target}.", hint="Wait for it, or name another output."
            )

    def __exit__(self, *_: Any) -> None:
        self._lock.release()


def _remove(folder: Path) -> None:
    """Remove a journal: the manifest after the segments it names, so that what it says of the output stays true."""
    for path in _own_files(folder):
        path.unlink()
    reached("segments removed")
    (folder / MADE).unlink(missing_ok=True)
    (folder / manifest.NAME).unlink(missing_ok=True)
    (folder / LOCK).unlink(missing_ok=True)
    folder.rmdir()


def _own_files(folder: Path) -> list[Path]:
    return [path for pattern in OWN for path in folder.glob(pattern)]


def reached(moment: str) -> None:
    """Log a moment of a journal's life at the lowest level, where tests let the program end."""
    logger.debug("journal: %s", moment)
