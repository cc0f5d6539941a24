"""The comparison as one page that holds everything: both videos, the measures over time, and what moves them."""

import base64
import html
import json
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stvsr_cli import __version__
from stvsr_cli.compare.clip import Clip
from stvsr_cli.compare.compare import Comparison
from stvsr_cli.compare.tracks import MEASURES, Track
from stvsr_cli.errors import OutputError, UsageError
from stvsr_cli.media.write.playable import Playable, make_playable, plays_as_it_is

WEB = Path(__file__).parent / "web"
"""The parts of the page."""
LARGEST_BYTES = 300 * 2**20
"""Of all videos in a page: browsers keep it in memory several times."""
MOST_POINTS = 2000
"""Of one curve; more frames than that are averaged."""


def check_page(target: Path, *, overwrite: bool) -> None:
    """Raise OutputError or UsageError if a page cannot be written there."""
    if target.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--html {target} should end in .html.")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists.", hint="Use --overwrite to replace it.")
    if not target.absolute().parent.is_dir():
        raise OutputError(f"there is no folder {target.absolute().parent}.", hint="Make it first.")


def write_page(result: Comparison, target: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Write the page of a comparison. Raises OutputError, or UsageError if the videos are too large for a page."""
    total = sum(round(c.length_s * c.rate) for c in result.clips.values() if not _is_kept(c))
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, max(total, done))

    with tempfile.TemporaryDirectory(prefix="stvsr_page_") as folder:
        videos = {
            letter: make_playable(clip.info, Path(folder), start=clip.start, end=clip.end, step=step, name=letter)
            for letter, clip in result.clips.items()
        }
        size = sum(video.path.stat().st_size for video in videos.values())
        if size > LARGEST_BYTES:
            raise UsageError(
                f"the videos have {size / 2**20:.0f} MiB, too much for one page.",
                hint="Choose a part with --start and --end.",
            )
        text = _page(result, videos)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}.", hint="Check the disk.") from error
    finally:
        part.unlink(missing_ok=True)


def _is_kept(clip: Clip) -> bool:
    return clip.start is None and clip.end is None and plays_as_it_is(clip.info)


def _page(result: Comparison, videos: dict[str, Playable]) -> str:
    held = "\n".join(
        f'<script type="text/plain" id="video-{letter}">{base64.b64encode(video.path.read_bytes()).decode()}</script>'
        for letter, video in videos.items()
    )
    names = [result.clips[letter].info.path.name for letter in ("A", "B")]
    parts = {
        "__TITLE__": html.escape(" against ".join(names)),
        "__STYLE__": _part("look.css"),
        "__VERSION__": __version__,
        "__DATA__": json.dumps(_data(result, videos)).replace("</", "<\\/"),
        "__SCRIPT__": "\n".join(_part(name) for name in ("player.js", "panel.js")),
        "__VIDEOS__": held,
    }
    text = _part("shell.html")
    for name, value in parts.items():
        before, _, after = text.partition(name)
        text = before + value + after
    return text


def _part(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8").rstrip()


def _data(result: Comparison, videos: dict[str, Playable]) -> dict[str, Any]:
    facts = result.as_dict()
    values: dict[str, dict[str, float]] = {}
    for track in facts["tracks"]:
        values.setdefault(track["video"], {}).update(track["values"])
    return {
        "videos": {letter: _video(facts["videos"][letter], result.clips[letter], videos[letter]) for letter in videos},
        "measures": facts["measures"],
        "values": values,
        "series": [curve for track in result.tracks for curve in curves(track)],
        "notes": facts["notes"],
    }


def _video(facts: dict[str, Any], clip: Clip, video: Playable) -> dict[str, Any]:
    aspect = clip.info.sample_aspect_ratio
    width, height = clip.size
    rate = facts["bits_per_second"]
    return {
        "name": facts["name"],
        "width": width if clip.turns % 2 else round(width * aspect),
        "height": round(height * aspect) if clip.turns % 2 else height,
        "size": f"{width} × {height}",
        "fps": f"{facts['fps']:g}",
        "frames": facts["frames"],
        "duration": f"{facts['duration_s']:.3f} s",
        "bytes": f"{facts['bytes']:,}".replace(",", "\u202f"),
        "bit_rate": "" if rate is None else f"{rate / 1e6:.2f} Mbit/s",
        "codec": f"{facts['codec']}, {facts['pixel_format']}",
        "inside": "the file itself" if video.remade is None else f"encoded anew with {video.remade}",
        "mime": video.mime,
        "times": [round(float(time), 6) for time in video.times],
        "end": round(float(video.end), 6),
    }


def curves(track: Track) -> list[dict[str, Any]]:
    """The measures of a track over time, as at most `MOST_POINTS` points each."""
    found = []
    for name in MEASURES:
        rows = [row for row in track.rows if name in row]
        if not rows:
            continue
        count = min(MOST_POINTS, len(rows))
        parts = [rows[i * len(rows) // count : (i + 1) * len(rows) // count] for i in range(count)]
        found.append(
            {
                "measure": name,
                "video": track.video,
                "times": [round(part[0]["time"], 4) for part in parts],
                "values": [round(sum(row[name] for row in part) / len(part), 5) for part in parts],
            }
        )
    return found
