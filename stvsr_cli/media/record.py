"""The record of how a file was made: written into its metadata, so that the file can be told from all others.

Matroska, WebM and NUT keep it as a tag of its own, `STVSR`; MP4, MOV and AVI as the last line of the comment. A
transport stream, YUV4MPEG2 and pictures hold no such thing.
"""

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stvsr_cli.errors import InputError
from stvsr_cli.media.read.probe import open_input

TAG = "STVSR"
OWN_TAG = frozenset({"matroska", "webm", "nut"})
"""Formats that hold tags of any name."""
COMMENT = "comment"
IN_COMMENT = frozenset({"mp4", "mov", "avi"})
"""Formats that hold a comment."""
MARK = "stvsr "
"""What a comment's line that is a record begins with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """How a file was made."""

    version: str
    """Of this program."""
    model: str
    weights: str
    """What the weights are known by: the start of a SHA-256; empty for a model without any."""
    device: str
    """cpu or cuda."""
    precision: str
    """float32, bfloat16 or float16."""
    options: dict[str, str] = field(default_factory=dict)
    """What was asked for, by field of the job, where it is not the default."""

    def as_json(self) -> str:
        """The record as one line."""
        return json.dumps(asdict(self))


def parse_record(text: str) -> Record | None:
    """The record in a text as `Record.as_json` writes it, or None if it is another text."""
    try:
        found = json.loads(text)
        options = {str(name): str(value) for name, value in found.pop("options").items()}
        return Record(**{name: str(value) for name, value in found.items()}, options=options)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def sign(metadata: MutableMapping[str, str], container: str, record: Record | None) -> None:
    """Put a record into a file's metadata, in the place of one that came with the input; None: only take that out.

    container: FFmpeg's name of the format.
    """
    for name in [name for name in metadata if name.upper() == TAG]:
        del metadata[name]
    said = next((name for name in metadata if name.lower() == COMMENT), None)
    lines = [line for line in metadata.pop(said, "").splitlines() if not line.startswith(MARK)] if said else []
    if record is not None and container in IN_COMMENT:
        lines.append(MARK + record.as_json())
    if lines:
        metadata[COMMENT] = "\n".join(lines)
    if record is not None and container in OWN_TAG:
        metadata[TAG] = record.as_json()


def record_in(metadata: Mapping[str, str]) -> Record | None:
    """The record in a file's metadata, or None."""
    known = {name.upper(): value for name, value in metadata.items()}
    if TAG in known:
        return parse_record(known[TAG])
    lines = [line for line in known.get(COMMENT.upper(), "").splitlines() if line.startswith(MARK)]
    return parse_record(lines[-1].removeprefix(MARK)) if lines else None


def read_record(path: Path) -> Record | None:
    """The record that a file carries, or None if it carries none or is no media file."""
    try:
        with open_input(path) as container:
            return record_in(container.metadata)
    except InputError:
        return None
