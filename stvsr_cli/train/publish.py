"""Publishing what a stage has trained: a folder that `stvsr upscale --weights` takes, with its checksums."""

import shutil
from collections.abc import Callable
from pathlib import Path

from stvsr_cli.weights.hashes import sha256
from stvsr_cli.weights.places import add_sums


def publish(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder, add SHA256SUMS, and put it in the place of an earlier one."""
    part, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("part", "old"))
    for left in (part, old):
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir(parents=True)
    write(part)
    files = [path for path in sorted(part.rglob("*")) if path.is_file()]
    add_sums(part, {path.relative_to(part).as_posix(): sha256(path) for path in files})
    if folder.exists():
        folder.replace(old)
    part.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
