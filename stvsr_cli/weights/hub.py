"""Fetching weights from the Hugging Face hub: one commit, every file checked, nothing fetched that is here already.

The hub's own library does it, by way of its cache, so that HF_ENDPOINT, HF_TOKEN, HF_HOME and proxies work as
everywhere and other programs' files serve too. A model's own folder gets hard links to the cache's files, or copies on
another disk. Without a network, a commit that the cache holds is as good.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from stvsr_cli.errors import ModelError, OutputError
from stvsr_cli.weights.places import add_sums, hashes, own_folder

logger = logging.getLogger(__name__)

RECORD = "fetched.json"
"""Says of which commit of which repository a folder is."""
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
TIMEOUT_S = 20
"""For the list of files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Files of a repository on the Hugging Face hub."""

    repo: str
    """OWNER/NAME."""
    revision: str
    """Commit, tag or branch."""
    files: tuple[str, ...]
    """Patterns of the files that are needed; each must match one."""
    folder: str = ""
    """Folder within the model's own that they go into; empty: that itself."""
    sums: tuple[tuple[str, str], ...] = ()
    """SHA-256 of files by name, as they were when this was written, where no commit was known to name."""

    @property
    def url(self) -> str:
        """Where people find it."""
        return f"https://huggingface.co/{self.repo}"

    def wants(self, name: str) -> bool:
        """Whether a file of the repository is one of those needed."""
        return any(fnmatchcase(name, pattern) for pattern in self.files)


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on the hub."""

    name: str
    size: int
    sha256: str | None
    """Of files in large file storage."""
    blob: str | None
    """Git's own checksum, of the others."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What fetching came to."""

    folder: Path
    commit: str
    num_files: int
    num_bytes: int


def pull(model: str, source: Source, *, revision: str | None = None, repo: str | None = None) -> Fetched:
    """Fetch a model's source into its own folder, and write down its commit and checksums.

    revision, repo: other ones than the source's. Files of an earlier commit are replaced; nothing is, until all is
    here. Raises ModelError if the hub cannot be reached, does not have it, or sends other bytes than it promised;
    OutputError if it cannot be written.
    """
    repo, revision = repo or source.repo, revision or source.revision
    root = own_folder(model)
    target = root / source.folder if source.folder else root
    with _failures(source, repo, revision, target), _alone(target):
        commit, files = _listing(source, repo, revision)
        fetched = Fetched(target, commit, len(files), sum(remote.size for remote in files))
        _check_room(target, files, repo, commit)
        sums = _bring(repo, commit, files, target)
        if (repo, revision) == (source.repo, source.revision):
            _compare(source, sums, commit)
        record = {"repo": repo, "revision": revision, "commit": commit}
        part = target.with_name(f".{target.name}.part")
        (part / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        _settle(part, target)
        add_sums(root, sums, below=source.folder)
    return fetched


def fetched_commit(folder: Path) -> str | None:
    """The repository and commit that a folder was fetched from, as OWNER/NAME@COMMIT, or None."""
    path = folder / RECORD
    if not path.is_file():
        return None
    record = json.loads(path.read_text())
    return f"{record['repo']}@{record['commit']}"


def _listing(source: Source, repo: str, revision: str) -> tuple[str, list[Remote]]:
    """The commit of a revision and its files that are wanted: as the hub says, or without one as the cache has them."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except (OSError, *HfHubHTTPError.__bases__) as error:  # the last: of the HTTP client that the version is built on
        known = _cached(source, repo, revision)
        if known is None:
            raise
        logger.warning("%s is taken from the Hugging Face cache as commit %s: %s", repo, known[0], _first_line(error))
        return known
    files = []
    for sibling in info.siblings or []:
        name = sibling.rfilename
        if not source.wants(name):
            continue
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ModelError(f"{repo} holds a file with the name {name!r}, which is refused.")
        large = sibling.lfs.sha256 if sibling.lfs else None
        if sibling.size is None or not (large or sibling.blob_id):
            raise ModelError(f"{repo} gives no checksum for {name}.", hint="Use another HF_ENDPOINT.")
        files.append(Remote(name, sibling.size, large, sibling.blob_id))
    for pattern in source.files:
        if not any(fnmatchcase(remote.name, pattern) for remote in files):
            raise ModelError(f"{repo} at {revision} holds no {pattern}.", hint="Choose another --revision or --repo.")
    if info.sha is None or (COMMIT.fullmatch(revision) and info.sha != revision):
        raise ModelError(
            f"{repo} answers with commit {info.sha} where {revision} was asked for.", hint="Use another HF_ENDPOINT."
        )
    return info.sha, files


def _cached(source: Source, repo: str, revision: str) -> tuple[str, list[Remote]] | None:
    """What `_listing` returns, from the cache, in which a file's name is its checksum; None unless all is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        patterns = list(source.files)
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        return None
    files = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, known = path.relative_to(folder).as_posix(), path.resolve().name
        large, small = SHA256.fullmatch(known) is not None, COMMIT.fullmatch(known) is not None
        if source.wants(name) and (large or small):
            files.append(Remote(name, path.stat().st_size, known if large else None, known if small else None))
    names = {remote.name for remote in files}
    whole = all(any(fnmatchcase(name, pattern) for name in names) for pattern in source.files)
    return (folder.name, files) if whole and names >= {name for name, _ in source.sums} else None


def _compare(source: Source, sums: dict[str, str], commit: str) -> None:
    """Say it if a branch has moved on from the files that the source knows."""
    changed = [name for name, known in source.sums if sums.get(name) != known]
    if changed:
        logger.warning(
            "%s at commit %s has other files than those this program was written for: %s",
            source.repo, commit, ", ".join(changed[:5]),
        )  # fmt: skip


def _bring(repo: str, commit: str, files: list[Remote], target: Path) -> dict[str, str]:
    """Fill the folder that becomes `target` with files of a commit, each checked; return their SHA-256 by name."""
    from huggingface_hub import snapshot_download

    part = target.with_name(f".{target.name}.part")
    if part.exists():
        shutil.rmtree(part)
    names = [remote.name for remote in files]
    logger.info("%d files, %.1f MB", len(files), sum(remote.size for remote in files) / 1e6)
    snapshot = Path(snapshot_download(repo, revision=commit, allow_patterns=names))
    sums = {}
    for remote in files:
        path = snapshot / remote.name
        sums[remote.name] = hashes().of(path.resolve())
        if not _is_whole(path, remote, sums[remote.name]):
            _forget(path)
            raise ModelError(
                f"{remote.name} of {repo} came with a wrong checksum and is refused.",
                hint="Run it again; if that does not help, something on the way changes files (HF_ENDPOINT, a proxy).",
            )
        _link(path.resolve(), part / remote.name)
    return sums


def _is_whole(path: Path, remote: Remote, found: str) -> bool:
    """Whether a file is what the hub says. found: its SHA-256."""
    if path.stat().st_size != remote.size:
        return False
    if remote.sha256:
        return found == remote.sha256
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == remote.blob


def _forget(path: Path) -> None:
    """Remove a damaged file from the cache, so that it is fetched anew."""
    blob = path.resolve()
    path.unlink()
    blob.unlink(missing_ok=True)


def _link(source: Path, path: Path) -> None:
    """Let a path be the file of another, or a copy where they lie on two disks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def _check_room(target: Path, files: list[Remote], repo: str, commit: str) -> None:
    """Raise OutputError unless what is to come has room in the cache, and on the target's disk if that is another."""
    from huggingface_hub import constants, try_to_load_from_cache

    cache = _existing(Path(constants.HF_HUB_CACHE))
    missing = [r.size for r in files if not isinstance(try_to_load_from_cache(repo, r.name, revision=commit), str)]
    wanted = [(cache, sum(missing), "HF_HOME")]
    if (own := _existing(target.parent)).stat().st_dev != cache.stat().st_dev:
        wanted.append((own, sum(remote.size for remote in files), "STVSR_WEIGHTS"))
    for folder, size, variable in wanted:
        if size > (free := shutil.disk_usage(folder).free):
            raise OutputError(
                f"{folder} has {free / 1e9:.1f} GB free and {size / 1e9:.1f} GB are needed.",
                hint=f"Make room, or name another folder with {variable}.",
            )


def _existing(folder: Path) -> Path:
    """The folder, or the first above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _settle(part: Path, target: Path) -> None:
    """Put a finished folder in its place, and in the place of an earlier commit."""
    if target.exists() and not (target / RECORD).exists() and any(target.iterdir()):
        raise OutputError(f"{target} holds weights that were not fetched.", hint="Move them away, and run it again.")
    old = target.with_name(f".{target.name}.old")
    if target.exists():
        target.replace(old)
    part.replace(target)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Let one process at a time fill a folder; the others wait, and then find everything there."""
    from filelock import FileLock, Timeout

    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("another process is fetching these files; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _failures(source: Source, repo: str, revision: str, target: Path) -> Iterator[None]:
    """Say in one line what went wrong with the network, the hub or the disk."""
    from huggingface_hub import constants, errors
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    # The base of the library's own HTTP errors is that of the HTTP client it is built on, whichever its version uses.
    network = (OSError, *errors.HfHubHTTPError.__bases__, getattr(errors, "XetDownloadError", OSError))
    by_hand = (
        f"Or put {', '.join(source.files)} of https://huggingface.co/{repo} into {target}, "
        "or name the folder with --weights."
    )
    try:
        yield
    except HFValidationError as error:
        raise ModelError(f"{repo!r} is not the name of a repository.", hint="It has the form OWNER/NAME.") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{repo} has no revision {revision}.", hint="Choose another --revision.") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"{constants.ENDPOINT} has no {repo}, or hides it.", hint=f"Set HF_TOKEN. {by_hand}"
        ) from error
    except network as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EPERM):
            raise OutputError(f"{error}.", hint="Name another folder with STVSR_WEIGHTS or HF_HOME.") from error
        raise ModelError(
            f"{constants.ENDPOINT} could not be reached, or the transfer broke off: {_first_line(error)}.",
            hint=f"Run it again; files that have come are kept. {by_hand}",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
