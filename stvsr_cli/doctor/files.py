"""Codecs and disks: encoders that really encode, room where files go, weights as they should be."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import SubprocessError

import torch

from stvsr_cli.doctor.check import BAD, GOOD, WARNING, Check
from stvsr_cli.errors import ModelError, OutputError, StvsrError
from stvsr_cli.job.disk import in_words
from stvsr_cli.media.ffmpeg import how_to_get
from stvsr_cli.media.health import HARDWARE, binary_version, encoder_fault, library_version
from stvsr_cli.media.vmaf import has_vmaf
from stvsr_cli.models.catalogue import MODELS
from stvsr_cli.models.entry import ModelEntry
from stvsr_cli.weights.places import cache_folder, find_weights, lacking, num_bytes, verify

ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks")
NEEDED = "libx264"
"""The encoder that is used unless another is asked for."""
LITTLE, TOO_LITTLE = 10 * 2**30, 2**30
"""Free bytes below which a disk is worth a word, and below which little can be made."""


def check_codecs() -> Iterator[Check]:
    """Look at PyAV, FFmpeg's binary, and every encoder."""
    yield Check("codecs", "PyAV", GOOD, library_version())
    try:
        number, path = binary_version()
        vmaf = "with VMAF" if has_vmaf() else "without VMAF"
        yield Check("codecs", "ffmpeg", GOOD, f"{number}, {vmaf}, {path}")
    except (OSError, SubprocessError) as error:
        yield Check("codecs", "ffmpeg", WARNING, f"{error}: no VMAF, no --clip, no converted subtitles", how_to_get())
    for name in ENCODERS:
        fault = encoder_fault(name)
        if fault is None:
            yield Check("codecs", name, GOOD, "encodes")
        else:
            advice = "Install PyAV again: pip install --force-reinstall av."
            yield Check("codecs", name, BAD if name == NEEDED else WARNING, fault, advice, OutputError)
    faults = {name: encoder_fault(name) for name in HARDWARE}
    working = [name for name, fault in faults.items() if fault is None]
    if working:
        yield Check("codecs", "NVENC", GOOD, f"{', '.join(working)} encode")
    elif torch.cuda.is_available():
        advice = "Nothing depends on it. Some cards have none; a container needs the driver's video part."
        yield Check("codecs", "NVENC", WARNING, next(fault for fault in faults.values() if fault), advice)
    else:
        yield Check("codecs", "NVENC", GOOD, "none, as there is no NVIDIA card")


def check_weights(*, again: bool = False) -> Iterator[Check]:
    """Look for each model's weights, and at their checksums; again: read every byte."""
    for entry in MODELS.values():
        if entry.has_weights:
            yield _weights(entry, again)


def _weights(entry: ModelEntry, again: bool) -> Check:
    needed = entry.name == "compact"
    get = entry.by_hand if entry.source is None else f"`stvsr models pull {entry.name}`"
    try:
        folder = find_weights(entry.name, entry.needs)
    except ModelError:
        if needed:
            return Check("model", entry.name, BAD, "no weights", f"{get}.", ModelError)
        return Check("model", entry.name, GOOD, f"not installed; `stvsr models show {entry.name}` says how to get it")
    missing = lacking(folder, entry.needs)
    if missing:
        said = f"{folder} lacks {missing[0].replace('|', ' or ')}"
        return Check("model", entry.name, BAD if needed else WARNING, said, f"{get}.", ModelError)
    try:
        checked = verify(folder, again=again)
    except StvsrError as error:
        return Check("model", entry.name, BAD, error.message, error.hint or "", ModelError)
    sums = f"{len(checked)} checksums are right" if checked else "no checksums to check by"
    return Check("model", entry.name, GOOD, f"{in_words(num_bytes(folder))} in {folder}, {sums}")


def check_disks() -> Iterator[Check]:
    """Look at the folders that are written to: the one here, the cache, the temporary one."""
    for name, folder in (("here", Path.cwd()), ("cache", cache_folder()), ("temporary", Path(tempfile.gettempdir()))):
        if folder is None:
            yield Check("disk", name, WARNING, "this user has no home folder", "Set XDG_CACHE_HOME.", OutputError)
        else:
            yield _disk(name, folder)


def _disk(name: str, folder: Path) -> Check:
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not os.access(there, os.W_OK):
        advice = {"here": "Write elsewhere.", "cache": "Set STVSR_WEIGHTS to a folder of yours."}.get(
            name, "Set TMPDIR."
        )
        return Check("disk", name, WARNING, f"{folder} cannot be written to", advice, OutputError)
    free = shutil.disk_usage(there).free
    said = f"{in_words(free)} free in {folder}"
    if free < TOO_LITTLE:
        return Check("disk", name, BAD if name == "here" else WARNING, said, "Free some space.", OutputError)
    if free < LITTLE:
        return Check("disk", name, WARNING, said, "Enough for short videos; `--dry-run` says what a long one takes.")
    return Check("disk", name, GOOD, said)
