"""What a batch reads and where each result goes: folders, patterns, names that stay in the output folder."""

import glob
import os
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stvsr_cli.errors import InputError, OutputError, UsageError
from stvsr_cli.media.images import is_image
from stvsr_cli.media.read.probe import VIDEO_SUFFIXES
from stvsr_cli.media.write.mux import FORMATS

FALLBACK_SUFFIX = ".mkv"
"""Container of outputs whose input's container is not written here."""
FIELDS = ("stem", "suffix", "scale", "fps_factor", "model")
"""What a name template may contain in braces."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a batch."""

    source: Path
    target: Path


def is_pattern(text: str) -> bool:
    """Whether a text stands for the paths that match it, and not for a path that exists."""
    return glob.has_magic(text) and not os.path.lexists(text)


def expand(text: str) -> list[Path]:
    """The paths an argument stands for: itself if there is such a thing, else what it matches as a pattern, sorted.

    Raises InputError if it matches nothing.
    """
    if not is_pattern(text):
        return [Path(text)]
    found = sorted(glob.glob(text, recursive=True))
    if not found:
        raise InputError(f"nothing matches {text}.", hint="Check the pattern.")
    return [Path(name) for name in found]


def find_items(
    inputs: Sequence[Path],
    folder: Path,
    *,
    template: str = "{stem}{suffix}",
    values: dict[str, str] | None = None,
    recursive: bool = False,
    suffixes: frozenset[str] = VIDEO_SUFFIXES,
) -> list[Item]:
    """The files to make, in order.

    One input folder is mirrored straight into the output folder; of several, each into a folder of its own name.
    values: what the template's fields stand for, beside stem and suffix. Hidden files are left out, and so are files
    in the output folder and outputs of other files. Raises InputError if there is nothing to do, UsageError if two
    files would get one name.
    """
    folders = [path for path in inputs if path.is_dir()]
    items: dict[Path, Item] = {}
    for path in inputs:
        below = path.resolve().name if len(folders) > 1 or len(inputs) > len(folders) else ""
        within = Path(below) if path.is_dir() else Path()
        for source in _videos(path, folder, recursive, suffixes) if path.is_dir() else [path]:
            inner = source.relative_to(path).parent if path.is_dir() else Path()
            target = folder / within / inner / target_name(source, template, values or {})
            items.setdefault(source.resolve(), Item(source, target))
    made = {item.target.resolve() for source, item in items.items() if item.target.resolve() != source}
    chosen = [item for source, item in items.items() if source not in made]
    if not chosen:
        where = ", ".join(map(str, inputs))
        raise InputError(
            f"the folder {where} holds no video.", hint="Look deeper with --recursive, or name suffixes with --ext."
        )
    _check_distinct(chosen)
    return chosen


def _videos(root: Path, folder: Path, recursive: bool, suffixes: frozenset[str]) -> Iterator[Path]:
    """Videos in a folder, by name; links to folders are not followed."""
    own = folder.resolve()
    for here, below, names in os.walk(root):
        below[:] = sorted(
            name
            for name in below
            if recursive and not name.startswith(".") and not name.endswith(".stvsr") and Path(here, name).resolve() != own
        )  # fmt: skip
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield Path(here, name)


def _check_distinct(items: Sequence[Item]) -> None:
    seen: dict[Path, Path] = {}
    for item in items:
        if item.target in seen:
            raise UsageError(
                f"{seen[item.target]} and {item.source} would both become {item.target}.",
                hint="Rename one, or use {suffix} in --name-template.",
            )
        seen[item.target] = item.source


def target_name(source: Path, template: str, values: dict[str, str]) -> str:
    """The output's name by a template such as "{stem}_x4{suffix}"; one name without folders. Raises UsageError."""
    kept = source.suffix.lower() in FORMATS or is_image(source)
    suffix = source.suffix.lower() if kept else FALLBACK_SUFFIX
    known = {**values, "stem": source.stem, "suffix": suffix}
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"--name-template {template!r}: {error}.") from error
    name = ""
    for text, field, spec, conversion in parts:
        name += text
        if field is None:
            continue
        if field not in known or spec or conversion:
            raise UsageError(
                f"--name-template {template!r} has the unknown field {{{field}}}.", hint=f"Use {', '.join(FIELDS)}."
            )
        name += known[field]
    if name in ("", ".", "..") or "/" in name or "\\" in template or "\0" in name or name.startswith("."):
        raise UsageError(
            f"--name-template {template!r} makes {name!r}, which is no file name.",
            hint="Folders are mirrored by themselves; a name begins with no dot.",
        )
    return name


def make_folder(target: Path, folder: Path) -> None:
    """Make the folder an output goes into. Raises OutputError if that lies outside the output folder, by a link say."""
    root = folder.resolve()
    outside = OutputError(f"{target} would lie outside {folder}.", hint="Remove the link that leads out of it.")
    if not target.parent.resolve().is_relative_to(root):
        raise outside
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {target.parent} cannot be made: {error.strerror}.") from error
    if target.is_symlink() and not target.resolve().is_relative_to(root):
        raise outside
