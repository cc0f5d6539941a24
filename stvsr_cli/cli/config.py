"""`stvsr.toml`: defaults of commands, a project's or the user's."""

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from stvsr_cli.errors import UsageError

NAME = "stvsr.toml"
Tree = dict[str, Any]
"""Values by name of parameter, below the names of commands."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A default that a file sets."""

    command: tuple[str, ...]
    name: str
    value: Any
    file: Path


def user_file() -> Path | None:
    """The user's own file; None for a user without a home."""
    if "XDG_CONFIG_HOME" in os.environ and sys.platform != "win32":
        return Path(os.environ["XDG_CONFIG_HOME"]) / "stvsr" / NAME
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", home / "AppData" / "Roaming")) / "stvsr" / NAME
    return home / ".config" / "stvsr" / NAME


def project_file(folder: Path | None = None) -> Path | None:
    """The nearest file in a folder or those above it, or None."""
    try:
        here = (folder or Path.cwd()).absolute()
        return next((path for above in (here, *here.parents) if (path := above / NAME).is_file()), None)
    except OSError:  # this folder has gone, or one above it may not be looked into
        return None


def files(named: Path | None) -> list[Path]:
    """The files that count, the stronger last. Raises UsageError if the one named is not there."""
    if named is not None:
        if not named.is_file():
            raise UsageError(f"--config {named}: there is no such file.")
        return [named]
    project = project_file()
    found = [path for path in (user_file(), project) if path is not None]
    return [path for path in dict.fromkeys(found) if path.is_file()]


def read(path: Path, known: Mapping[tuple[str, ...], set[str]]) -> list[Setting]:
    """The defaults that a file sets; known: options by command. Raises UsageError for what no command knows."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"{path}: {error}.", hint="It must be TOML: [upscale], then a line such as crf = 20."
        ) from error
    return _settings(path, tree, (), known)


def _settings(
    path: Path, tree: Tree, command: tuple[str, ...], known: Mapping[tuple[str, ...], set[str]]
) -> list[Setting]:
    found: list[Setting] = []
    for key, value in tree.items():
        name = key.replace("-", "_")
        if isinstance(value, dict):
            inner = (*command, key)
            if not any(other[: len(inner)] == inner for other in known):
                commands = ["stvsr " + " ".join(other) for other in known]
                raise UsageError(
                    f"{path}: there is no command {' '.join(inner)}.", hint=f"Known: {', '.join(commands)}."
                )
            found += _settings(path, value, inner, known)
        elif name in known.get(command, ()):
            found.append(Setting(command, name, value, path))
        else:
            near = get_close_matches(name, known.get(command, ()), 1)
            where = f"in [{'.'.join(command)}]" if command else "outside of a command's table"
            hint = f"Did you mean {near[0].replace('_', '-')}?" if near else "See `stvsr COMMAND --help`."
            raise UsageError(f"{path}: {key} {where} is not known.", hint=hint if command else "Begin with [upscale].")
    return found


def as_tree(settings: list[Setting], lenders: Mapping[str, tuple[str, frozenset[str]]]) -> Tree:
    """Settings as a tree of defaults; later ones win.

    lenders: of commands, another whose settings they share, and the names that they share.
    """
    tree: Tree = {
        borrower: {s.name: s.value for s in settings if s.command == (lender,) and s.name in shared}
        for borrower, (lender, shared) in lenders.items()
    }
    for setting in settings:
        place = tree
        for part in setting.command:
            place = place.setdefault(part, {})
        place[setting.name] = setting.value
    return tree
