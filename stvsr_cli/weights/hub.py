"""Fetching weights from the Hugging Face hub: one commit, resumed where it stopped, every file checked.

The hub's own library does the requests, so that HF_ENDPOINT, HF_TOKEN and proxies work as everywhere. Files come over
plain HTTP, in which a broken transfer goes on from its last byte, in the next run too.
"""

import errno
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from stvsr_cli.errors import ModelError, OutputError
from stvsr_cli.weights.catalogue import ModelEntry, Source
from stvsr_cli.weights.hashes import sha256
from stvsr_cli.weights.places import add_sums, own_folder

logger = logging.getLogger(__name__)

RECORD = "fetched.json"
"""Says of which commit of which repository a folder is."""
COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT_S = 20
"""For the list of files."""


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


def pull(entry: ModelEntry, *, revision: str | None = None, repo: str | None = None) -> Fetched:
    """Fetch what can be fetched of a model into its own folder, and write down its commit and checksums.

    revision, repo: other ones than the entry's. Files of an earlier commit are replaced; nothing is, until all is here.
    Raises ModelError if the hub cannot be reached, does not have it, or sends other bytes than it promised;
    OutputError if it cannot be written.
    """
    source = entry.source
    if source is None:
        raise ModelError(
            f"there is nothing to fetch for {entry.name}.", hint=f"{entry.by_hand or 'It has no weights'}."
        )
    repo, revision = repo or source.repo, revision or source.revision
    target = own_folder(entry.name) / source.folder if source.folder else own_folder(entry.name)
    part = target.with_name(f".{target.name}.part")
    with _failures(entry, source, repo, revision):
        commit, files = _listing(source, repo, revision)
        part.mkdir(parents=True, exist_ok=True)
        _check_space(part, files)
        for number, remote in enumerate(files, start=1):
            logger.info("%d of %d: %s, %.1f MB", number, len(files), remote.name, remote.size / 1e6)
            _fetch(remote, part, repo, commit)
        sums = {remote.name: sha256(part / remote.name) for remote in files}
        if (repo, revision) == (source.repo, source.revision):
            _compare(source, sums, commit)
        record = {"repo": repo, "revision": revision, "commit": commit}
        (part / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        _settle(part, target, {*sums, RECORD})
        add_sums(own_folder(entry.name), sums, below=source.folder)
    return Fetched(target, commit, len(files), sum(remote.size for remote in files))


def fetched_commit(entry: ModelEntry, folder: Path) -> str | None:
    """The repository and commit that a model's folder was fetched from, as OWNER/NAME@COMMIT, or None."""
    path = folder / (entry.source.folder if entry.source else "") / RECORD
    if not path.is_file():
        return None
    record = json.loads(path.read_text())
    return f"{record['repo']}@{record['commit']}"


def _listing(source: Source, repo: str, revision: str) -> tuple[str, list[Remote]]:
    """The commit of a revision, and the files of it that are wanted."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
    files = []
    for sibling in info.siblings or []:
        name = sibling.rfilename
        wanted = any(fnmatchcase(name, pattern) for pattern in source.files)
        if not wanted or any(fnmatchcase(name, pattern) for pattern in source.skip):
            continue
        large = sibling.lfs.sha256 if sibling.lfs else None
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ModelError(f"{repo} holds a file with the name {name!r}, which is refused.")
        if sibling.size is None or not (large or sibling.blob_id):
            raise ModelError(f"{repo} gives no checksum for {name}.", hint="Use another HF_ENDPOINT.")
        files.append(Remote(name, sibling.size, large, sibling.blob_id))
    for pattern in source.files:
        if not any(fnmatchcase(remote.name, pattern) for remote in files):
            raise ModelError(f"{repo} at {revision} holds no {pattern}.", hint="Choose another --revision or --repo.")
    if COMMIT.fullmatch(revision) and info.sha != revision:
        raise ModelError(
            f"{repo} answers with commit {info.sha} where {revision} was asked for.", hint="Use another HF_ENDPOINT."
        )
    if info.sha is None:
        raise ModelError(f"{repo} does not say what commit {revision} is.", hint="Use another HF_ENDPOINT.")
    return info.sha, files


def _compare(source: Source, sums: dict[str, str], commit: str) -> None:
    """Say it if a branch has moved on from the files that the entry knows."""
    changed = [name for name, known in source.sums if sums.get(name) != known]
    if changed:
        logger.warning(
            "%s at commit %s has other files than those this program was written for: %s",
            source.repo, commit, ", ".join(changed[:5]),
        )  # fmt: skip


def _fetch(remote: Remote, folder: Path, repo: str, commit: str) -> None:
    """Bring one file into a folder, unless it is there; go on where a transfer broke off."""
    path = folder / remote.name
    if path.is_file() and _is_whole(path, remote):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    incomplete = path.with_name(f".{path.name}.{(remote.sha256 or remote.blob or '')[:12]}.incomplete")
    _download(remote, incomplete, repo, commit)
    if not _is_whole(incomplete, remote):
        incomplete.unlink()
        raise ModelError(
            f"{remote.name} of {repo} came with a wrong checksum and is refused.",
            hint="Run it again; if that does not help, something on the way changes files (HF_ENDPOINT, a proxy).",
        )
    incomplete.replace(path)


def _download(remote: Remote, incomplete: Path, repo: str, commit: str) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    begun = incomplete.stat().st_size if incomplete.exists() else 0
    if begun > remote.size:
        incomplete.unlink()
        begun = 0
    if begun:
        logger.info("going on with %s after %.1f MB", remote.name, begun / 1e6)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # positions in the file, not in its compression
    with incomplete.open("ab") as handle:
        http_get(
            hf_hub_url(repo, remote.name, revision=commit),
            handle,
            resume_size=begun,
            headers=headers,
            expected_size=remote.size,
            displayed_filename=remote.name,
        )


def _is_whole(path: Path, remote: Remote) -> bool:
    if path.stat().st_size != remote.size:
        return False
    if remote.sha256:
        return sha256(path) == remote.sha256
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == remote.blob


def _check_space(folder: Path, files: list[Remote]) -> None:
    here = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    missing = sum(remote.size for remote in files) - here
    if missing > (free := shutil.disk_usage(folder).free):
        raise OutputError(
            f"{folder} has {free / 1e9:.1f} GB free and {missing / 1e9:.1f} GB are to come.",
            hint="Make room, or name another folder with STVSR_WEIGHTS.",
        )


def _settle(part: Path, target: Path, names: set[str]) -> None:
    """Put a finished folder in its place, without what else is in it, and in the place of an earlier commit."""
    for path in part.rglob("*"):
        if path.is_file() and path.relative_to(part).as_posix() not in names:
            path.unlink()
    if target.exists() and not (target / RECORD).exists() and any(target.iterdir()):
        raise OutputError(
            f"{target} holds weights that were not fetched.", hint=f"Move them away; what was fetched is in {part}."
        )
    if target.exists():
        shutil.rmtree(target)
    part.replace(target)


@contextmanager
def _failures(entry: ModelEntry, source: Source, repo: str, revision: str) -> Iterator[None]:
    """Say in one line what went wrong with the network, the hub or the disk."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    # The base of the library's own HTTP errors is that of the HTTP client it is built on, whichever its version uses.
    network = (OSError, *HfHubHTTPError.__bases__)
    by_hand = (
        f"Or put {', '.join(source.files)} of https://huggingface.co/{repo} into "
        f"{own_folder(entry.name) / source.folder}, or name the folder with --weights."
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
            raise OutputError(f"{error}.", hint="Name another folder with STVSR_WEIGHTS.") from error
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(
            f"{constants.ENDPOINT} could not be reached or broke off: {first}.",
            hint=f"Run it again to go on where it stopped. {by_hand}",
        ) from error
