"""`stvsr info`: what a file is, and how it was made, if this program made it."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stvsr_cli.cli.failures import reported
from stvsr_cli.cli.progress import displayed
from stvsr_cli.cli.wrapped import say

if TYPE_CHECKING:
    from stvsr_cli.media.read.probe import VideoInfo
    from stvsr_cli.media.record import Record


def info(
    file: Annotated[Path, typer.Argument(help="A video.", metavar="FILE")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
) -> None:
    """Say what a video is, and with what version, model, weights and options it was made here.

    `stvsr upscale --like FILE` takes these options again.
    """
    with displayed("none", 0), reported(traceback=traceback):
        from stvsr_cli.cli.dry_run import LABEL, described
        from stvsr_cli.cli.like import command_line
        from stvsr_cli.job.disk import in_words
        from stvsr_cli.media.read.count import measure
        from stvsr_cli.media.read.probe import probe
        from stvsr_cli.media.record import read_record

        video, record, counted = probe(file), read_record(file), measure(file)
        if as_json:
            typer.echo(json.dumps(_as_dict(video, record, counted.num_frames, float(counted.duration_s)), indent=1))
            return
        typer.echo(f"{file}")
        say(f"video     {described(video)}", LABEL)
        say(f"counted   {counted.num_frames} frames, {float(counted.duration_s):.3f} s", LABEL)
        say(f"file      {in_words(file.stat().st_size)}, {video.container}", LABEL)
        for stream in video.streams:
            parts = [stream.kind, stream.codec, stream.language or "", stream.title or ""]
            say(f"stream {stream.index}  {' '.join(part for part in parts if part)}", LABEL)
        if record is None:
            say("record    none: it was not made by stvsr, or with --no-record", LABEL)
            return
        say(f"made by   stvsr {record.version} on {record.device}, {record.precision}", LABEL)
        say(f"model     {record.model}{_weights(record)}", LABEL)
        typer.echo(f"options   {shlex.join(command_line(record)) or 'the defaults'}")  # one line, to be copied


def _weights(record: "Record") -> str:
    """What is known of the weights: their sum, and whether they are the ones here."""
    if not record.weights:
        return ""
    here = installed_sum(record.model)
    same = (
        "no such weights are here" if here is None else "those here" if here == record.weights else "others than here"
    )
    return f", weights {record.weights} ({same})"


def installed_sum(model: str) -> str | None:
    """What the weights of a model on this machine are known by, as a record has it; None where there are none."""
    from stvsr_cli.durable.manifest import fingerprint
    from stvsr_cli.models.catalogue import MODELS
    from stvsr_cli.weights.places import find_complete, hashes

    entry = MODELS.get(model)
    folder = find_complete(model, entry.needs) if entry is not None and entry.has_weights else None
    return None if folder is None else fingerprint([folder], hashes().of)


def _as_dict(video: "VideoInfo", record: "Record | None", num_frames: int, seconds: float) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "path": str(video.path),
        "container": video.container,
        "codec": video.codec,
        "pixel_format": video.pixel_format,
        "width": video.width,
        "height": video.height,
        "rotation": video.rotation,
        "rate": str(video.average_rate),
        "frames": num_frames,
        "duration_s": round(seconds, 6),
        "streams": [asdict(stream) for stream in video.streams],
        "record": None if record is None else asdict(record),
    }
