"""Where weights lie, and whether they are what they should be."""

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from stvsr_cli.errors import ModelError
from stvsr_cli.runtime.parts import write_whole
from stvsr_cli.weights.hashes import Hashes

ENVIRONMENT = "STVSR_WEIGHTS"
"""Names a folder that is searched before all others."""
SUMS = "SHA256SUMS"
SHIPPED = Path(__file__).parent.parent / "shipped"
"""Weights inside an installed package."""
CHECKOUT = Path(__file__).parent.parent.parent / "weights"
"""Weights of a checkout."""
PAPERS = (".md", ".png", ".jpg", ".svg", ".txt", "")
"""Suffixes of files that are no weights, alone."""


def cache_folder() -> Path | None:
    """The platform's folder for downloaded weights; None for a user without a home."""
    if "XDG_CACHE_HOME" in os.environ and sys.platform not in ("win32", "darwin"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "stvsr" / "weights"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "stvsr" / "weights"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "stvsr" / "weights"
    return home / ".cache" / "stvsr" / "weights"


def search_path() -> list[Path]:
    """Folders that may hold a folder of weights for each model, in order."""
    named, cache = os.environ.get(ENVIRONMENT), cache_folder()
    return [*([Path(named)] if named else []), CHECKOUT, SHIPPED, *([cache] if cache else [])]


def own_folder(model: str) -> Path:
    """The folder that a model's weights are fetched into: below the one the environment names, or the cache.

    Raises ModelError if there is neither.
    """
    folder = os.environ.get(ENVIRONMENT) or cache_folder()
    if folder is None:
        raise ModelError("this user has no home folder to keep weights in.", hint=f"Name one with {ENVIRONMENT}.")
    return Path(folder) / model


def find_weights(model: str, needs: Sequence[str] = ()) -> Path:
    """Return the folder that holds a model's weights: the first that has all it needs, or else the first that has any.

    needs: patterns of files, alternatives parted by |. Raises ModelError that says what to do.
    """
    partial = None
    for folder in search_path():
        candidate = folder / model
        if not candidate.is_dir() or all(p.suffix in PAPERS for p in _files(candidate)):
            continue
        if not lacking(candidate, needs):
            return candidate
        partial = partial or candidate
    if partial is not None:
        return partial
    place = os.environ.get(ENVIRONMENT) or cache_folder() or f"the folder that {ENVIRONMENT} names"
    raise ModelError(
        f"there are no weights for the model {model} on this machine.",
        hint=f"`stvsr models show {model}` says how to get them. They go into {place}/{model}, or pass --weights.",
    )


def find_complete(model: str, needs: Sequence[str] = ()) -> Path | None:
    """Return the folder of a model's weights if it has all that the model needs, or None."""
    try:
        folder = find_weights(model, needs)
    except ModelError:
        return None
    return None if lacking(folder, needs) else folder


def lacking(folder: Path, needs: Iterable[str]) -> list[str]:
    """The patterns, of which alternatives are parted by |, that no file of a folder matches."""
    return [need for need in needs if not any(any(folder.glob(name)) for name in need.split("|"))]


def num_bytes(folder: Path) -> int:
    """Bytes of all files in a folder, without cards and pictures."""
    return sum(p.stat().st_size for p in _files(folder) if p.suffix not in PAPERS)


def weight_bytes(folder: Path) -> int:
    """Bytes of the weights in a folder, without what explains them."""
    return sum(p.stat().st_size for p in _files(folder) if p.suffix not in PAPERS)


def remove(model: str) -> tuple[int, int]:
    """Remove a model's fetched weights; return the bytes that are free now, and those that are in the hub's cache still.

    What came with the program stays. Raises ModelError if nothing was fetched.
    """
    folder = own_folder(model)
    if not folder.is_dir():
        raise ModelError(f"there are no fetched weights of the model {model}.", hint=f"They would be in {folder}.")
    shared = sum(path.stat().st_size for path in _files(folder) if path.stat().st_nlink > 1)
    freed = num_bytes(folder) - shared
    shutil.rmtree(folder)
    return freed, shared


def _files(folder: Path) -> list[Path]:
    """The files of a folder, without hidden ones and those in hidden folders."""
    found = (p for p in folder.rglob("*") if p.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def hashes() -> Hashes:
    """The sums of weights that are remembered on this machine."""
    folder = cache_folder()
    return Hashes(None if folder is None else folder.parent)


def verify(folder: Path, *, again: bool = False) -> list[Path]:
    """Check a folder of weights against its list of checksums, where it has one, and return the files checked.

    again: read every byte, also of files that have not changed since they were read. Raises ModelError for a missing
    or altered file.
    """
    checked, remembered = [], hashes()
    sum_of = remembered.again if again else remembered.of
    for name, expected in read_sums(folder).items():
        path = folder / name
        if not path.is_file():
            raise ModelError(f"{path} is missing.", hint="Install the program again, or fetch the weights again.")
        if sum_of(path) != expected:
            raise ModelError(f"{path} has been altered or damaged.", hint="Fetch the weights again.")
        checked.append(path)
    return checked


def read_sums(folder: Path) -> dict[str, str]:
    """The checksums a folder lists, by name of file. Raises ModelError if the list is no list."""
    path = folder / SUMS
    if not path.exists():
        return {}
    sums = {}
    for line in path.read_text().splitlines():
        expected, _, name = line.partition("  ")
        if len(expected) != 64 or not name:
            raise ModelError(f"{path} is not a list of checksums.", hint="Fetch the weights again.")
        sums[name] = expected
    return sums


def add_sums(folder: Path, sums: Mapping[str, str], *, below: str = "") -> None:
    """Put checksums, by name of file, into a folder's list, in the place of all that it has `below` a folder of it."""
    prefix = f"{below}/" if below else ""
    kept = {name: s for name, s in read_sums(folder).items() if not (prefix and name.startswith(prefix))}
    sums = kept | {f"{prefix}{name}": s for name, s in sums.items()}
    write_whole(folder / SUMS, "".join(f"{s}  {name}\n" for name, s in sorted(sums.items())))


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
