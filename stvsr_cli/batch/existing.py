"""Outputs that are there already: whether they are complete, and whether this program made them."""

import json
import logging
from fractions import Fraction
from pathlib import Path

from stvsr_cli.durable.manifest import file_identity
from stvsr_cli.errors import StvsrError
from stvsr_cli.job.job import Job
from stvsr_cli.job.rates import multiple_of
from stvsr_cli.job.size import find_size
from stvsr_cli.media.images import ImageSource, is_image
from stvsr_cli.media.read.bars import with_removed_bars
from stvsr_cli.media.read.count import measure
from stvsr_cli.media.read.probe import probe
from stvsr_cli.media.record import read_record

logger = logging.getLogger(__name__)

NAME = ".stvsr-made.jsonl"
"""Of the file in an output folder that lists what was made there and carries no record itself."""


class Made:
    """What this program made in an output folder: known by the record that a file carries, or by a list.

    The list has a line a file: its path in the folder, and what it is known by, so that another file of that name is
    not taken for it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / NAME

    def add(self, target: Path) -> None:
        """Remember a finished file. Never raises: it is made all the same."""
        if not is_image(target) and read_record(target) is not None:
            return
        try:
            with self._path.open("a") as handle:
                handle.write(json.dumps({"file": self._name(target), **file_identity(target)}) + "\n")
        except OSError as error:
            logger.warning("%s cannot be written: %s; %s is not known again", self._path, error.strerror, target)

    def has(self, target: Path) -> bool:
        """Whether a file that exists is one of them."""
        if not is_image(target) and read_record(target) is not None:
            return True
        known = {"file": self._name(target)}
        try:
            return known | file_identity(target) in self._listed()
        except OSError:
            return False

    def _name(self, target: Path) -> str:
        return target.relative_to(self._folder).as_posix() if target.is_relative_to(self._folder) else str(target)

    def _listed(self) -> list[object]:
        if not self._path.is_file():
            return []
        lines = []
        for line in self._path.read_text().splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:  # one that was cut off
                continue
        return lines


def is_complete(job: Job) -> bool:
    """Whether a job's output is there in full: its size, frames and duration are those the input asks for.

    The frames are counted in the file, since the header of one that was cut off still promises them all.
    Raises InputError if the input cannot be read, UsageError if the job cannot be done.
    """
    if is_image(job.input):
        return _is_complete_image(job)
    info = probe(job.input, video_stream=job.video_stream, allow_url=job.allow_url)
    try:
        probe(job.output)
        found = measure(job.output)
    except StvsrError as error:
        logger.debug("%s: %s", job.output, error)
        return False
    size = find_size(with_removed_bars(info, job.crop_bars), job)
    if (found.width, found.height) != (size.width, size.height):
        return False
    frame_s = 1 / info.average_rate
    length = info.duration_s
    if length is not None:
        length = max(Fraction(0), min(job.end or length, length) - (job.start or 0)) * job.slow_motion
        if abs(found.duration_s - length) > 2 * frame_s:
            return False
    if info.num_frames is None or job.start is not None or job.end is not None:
        return length is not None and found.num_frames > 0
    multiple = multiple_of(job, info)
    wanted = info.num_frames * multiple
    return abs(found.num_frames - wanted) <= max(2 * multiple, Fraction(wanted // 20), Fraction(1))


def _is_complete_image(job: Job) -> bool:
    source = ImageSource([job.input], job.input, crop_bars=job.crop_bars).info
    try:
        found = ImageSource([job.output], job.output).info
    except StvsrError as error:
        logger.debug("%s: %s", job.output, error)
        return False
    return (found.width, found.height) == ((size := find_size(source, job)).width, size.height)
