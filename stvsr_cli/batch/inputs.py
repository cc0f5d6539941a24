"""What a batch reads and where each result goes: folders, patterns, names that stay in the output folder."""

import glob
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stvsr_cli.batch.names import Values, target_name, telling_apart
from stvsr_cli.errors import InputError, OutputError, StvsrError, UsageError
from stvsr_cli.media.read.probe import VIDEO_SUFFIXES

ELSEWHERE = "Name another folder, or use --name-template."


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a batch, or what could not be looked into for files."""

    source: Path
    target: Path
    problem: StvsrError | None = None
    """Why it is not made; None: nothing is known that stands against it."""
    found: bool = False
    """Whether it was found in a folder, and not named."""


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
    values: Values | None = None,
    recursive: bool = False,
    suffixes: frozenset[str] = VIDEO_SUFFIXES,
    is_ours: Callable[[Path], bool] = lambda path: False,
) -> list[Item]:
    """The files to make, in order, and those that cannot be, each with its problem.

    One input folder is mirrored straight into the output folder; of several, each into a folder of its own name.
    values: what the template's fields stand for, beside those of the source. Hidden files are left out, and so are
    files in the output folder. is_ours: whether this program made a file; one that is the output of another is then no
    input, unless it is named. Raises InputError if there is nothing to do, UsageError for a template that makes no
    name.
    """
    folders = [path for path in inputs if path.is_dir()]
    items: dict[str, Item] = {}
    for path in inputs:
        below = Path(os.path.realpath(path)).name if len(folders) > 1 or len(inputs) > len(folders) else ""
        within = folder / below if path.is_dir() else folder
        for item in _in_folder(path, within, folder, recursive, suffixes) if path.is_dir() else [Item(path, folder)]:
            named = item if item.problem is not None else _named(item, template, values)
            items.setdefault(os.path.realpath(item.source), named)
    chosen = _without_outputs(list(items.values()), is_ours)
    if not chosen:
        where = ", ".join(map(str, inputs))
        raise InputError(
            f"the folder {where} holds no video.", hint="Look deeper with --recursive, or name suffixes with --ext."
        )
    return _with_collisions(chosen, template)


def _named(item: Item, template: str, values: Values | None) -> Item:
    """An item whose target is a folder, with the name in it."""
    try:
        return replace(item, target=item.target / target_name(item.source, template, values))
    except UsageError:
        raise
    except StvsrError as error:  # its rate or size goes into the name, and it cannot be read
        return replace(item, target=item.target / item.source.name, problem=error)


def _in_folder(root: Path, within: Path, own: Path, recursive: bool, suffixes: frozenset[str]) -> Iterator[Item]:
    """Videos in a folder, by name, each with the folder it goes into; links to folders are not followed."""
    out = os.path.realpath(own)
    unread: list[OSError] = []
    for here, below, names in os.walk(root, onerror=unread.append):
        below[:] = sorted(
            name
            for name in below
            if recursive
            and not name.startswith(".")
            and not name.endswith(".stvsr")
            and os.path.realpath(Path(here, name)) != out
        )
        inner = within / os.path.relpath(here, root)
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield Item(Path(here, name), inner, found=True)
    for error in unread:
        path = Path(error.filename)
        problem = InputError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.")
        yield Item(path, within / os.path.relpath(path, root), problem)


def _without_outputs(items: list[Item], is_ours: Callable[[Path], bool]) -> list[Item]:
    """The items without those that are found outputs of others; one that would replace another input has a problem."""
    at = {os.path.realpath(item.source): item for item in items if item.problem is None}
    left_out: set[str] = set()
    checked = []
    for item in items:
        place = _same(item.target, at) if item.problem is None else None
        if place is None:
            checked.append(item)
        elif at[place] is item:
            problem = OutputError(f"{item.target} is the input itself.", hint=ELSEWHERE)
            checked.append(replace(item, problem=problem))
        elif at[place].found and is_ours(at[place].source):
            left_out.add(place)
            checked.append(item)
        else:
            problem = OutputError(f"{item.target} is an input too, and inputs are never replaced.", hint=ELSEWHERE)
            checked.append(replace(item, problem=problem))
    return [item for item in checked if os.path.realpath(item.source) not in left_out]


def _same(target: Path, inputs: dict[str, Item]) -> str | None:
    """Which of the inputs a target is, if any: by its path, or as another name of the same file."""
    path = os.path.realpath(target)
    if path in inputs:
        return path
    try:
        there = os.stat(path)
    except OSError:
        return None
    return next((name for name in inputs if os.path.exists(name) and os.path.samestat(os.stat(name), there)), None)


def _with_collisions(items: list[Item], template: str) -> list[Item]:
    """The items; those that would become one file have that as their problem."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.problem is None:
            groups[os.path.realpath(item.target)].append(item)
    clashing = {
        id(item): _collision(item, group, template) for group in groups.values() if len(group) > 1 for item in group
    }  # by identity: one item may be equal to another
    return [replace(item, problem=clashing[id(item)]) if id(item) in clashing else item for item in items]


def _collision(item: Item, group: list[Item], template: str) -> UsageError:
    others = " and ".join(str(other.source) for other in group if other is not item)
    better = telling_apart([other.source for other in group], template)
    hint = f"Use --name-template '{better}'." if better else "Rename one."
    return UsageError(f"{item.source} and {others} would both become {item.target}.", hint=hint)


def make_folder(target: Path, folder: Path) -> None:
    """Make the folder an output goes into. Raises OutputError if that lies outside the output folder, by a link say."""
    root = os.path.realpath(folder)
    outside = OutputError(f"{target} would lie outside {folder}.", hint="Remove the link that leads out of it.")
    if not Path(os.path.realpath(target.parent)).is_relative_to(root):
        raise outside
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {target.parent} cannot be made: {error.strerror}.") from error
    if target.is_symlink() and not Path(os.path.realpath(target)).is_relative_to(root):
        raise outside
