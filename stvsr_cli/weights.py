"""Where weights lie, and whether they are what they should be."""

import hashlib
import os
import sys
from pathlib import Path

from stvsr_cli.errors import ModelError

ENVIRONMENT = "STVSR_WEIGHTS"
"""Names a folder that is searched before all others."""
SUMS = "SHA256SUMS"
SHIPPED = Path(__file__).parent / "shipped"
"""Weights inside an installed package."""
CHECKOUT = Path(__file__).parent.parent / "weights"
"""Weights of a checkout."""


def cache_folder() -> Path:
    """The platform's folder for downloaded weights."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "stvsr" / "weights"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "stvsr" / "weights"
    return Path(os.environ.get("XDG_CACHE_HOME", home / ".cache")) / "stvsr" / "weights"


def search_path() -> list[Path]:
    """Folders that may hold a folder of weights for each model, in order."""
    named = os.environ.get(ENVIRONMENT)
    return [*([Path(named)] if named else []), CHECKOUT, SHIPPED, cache_folder()]


def find_weights(model: str) -> Path:
    """Return the folder that holds a model's weights.

    Raises ModelError that says where they were looked for.
    """
    for folder in search_path():
        candidate = folder / model
        if candidate.is_dir() and any(p.suffix not in (".md", ".png", ".jpg", ".txt", "") for p in _files(candidate)):
            return candidate
    raise ModelError(
        f"there are no weights for the model {model} on this machine.",
        hint=f"Put them into {cache_folder() / model}, or name them with --weights; its card says which files.",
    )


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def verify(folder: Path) -> list[Path]:
    """Check a folder of weights against its list of checksums, where it has one, and return the files checked.

    Raises ModelError for a missing or altered file.
    """
    sums = folder / SUMS
    if not sums.exists():
        return []
    checked = []
    for line in sums.read_text().splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file():
            raise ModelError(f"{path} is missing.", hint="Install the program again, or fetch the weights again.")
        if _sha256(path) != expected:
            raise ModelError(f"{path} has been altered or damaged.", hint="Fetch the weights again.")
        checked.append(path)
    return checked


def write_sums(folder: Path) -> None:
    """Write the list of checksums of the weights in a folder."""
    names = [p for p in _files(folder) if p.suffix in (".safetensors", ".json")]
    lines = [f"{_sha256(p)}  {p.relative_to(folder).as_posix()}" for p in names]
    (folder / SUMS).write_text("\n".join(lines) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
