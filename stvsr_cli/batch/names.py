"""Names of a batch's outputs, by a template such as "{stem}_x4{suffix}"."""

import os
import string
from collections.abc import Callable, Mapping
from pathlib import Path

from stvsr_cli.errors import UsageError
from stvsr_cli.media.images import is_image
from stvsr_cli.media.write.mux import FORMATS

FALLBACK_SUFFIX = ".mkv"
"""Container of outputs whose input's container is not written here."""
OF_SOURCE = ("stem", "suffix", "ext", "folder")
"""Fields that a source's own path gives."""
FIELDS = (*OF_SOURCE, "scale", "fps", "fps_factor", "model")
"""What a template may contain in braces."""
DISTINCT = ("{stem}_{ext}", "{folder}_{stem}", "{folder}_{stem}_{ext}")
"""What in the place of the stem tells sources apart, the shortest first."""
Values = Mapping[str, str | Callable[[Path], str]]
"""What fields beside `OF_SOURCE` stand for: a text, or what makes it of a source."""


def target_name(source: Path, template: str, values: Values | None = None) -> str:
    """The output's name by a template; one name without folders. Raises UsageError, and what `values` raise."""
    kept = source.suffix.lower() in FORMATS or is_image(source)
    known: dict[str, str | Callable[[Path], str]] = {
        **(values or {}),
        "stem": source.stem,
        "suffix": source.suffix.lower() if kept else FALLBACK_SUFFIX,
        "ext": source.suffix.lstrip("."),
        "folder": _folder(source),
    }
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"--name-template {template!r}: {error}.") from error
    name = ""
    for text, field, spec, conversion in parts:
        name += text
        if field is None:
            continue
        if field not in known or spec or conversion:
            raise UsageError(
                f"--name-template {template!r} has the unknown field {{{field}}}.",
                hint=f"Use {', '.join(f'{{{name}}}' for name in FIELDS)}.",
            )
        value = known[field]
        name += value if isinstance(value, str) else value(source)
    if name in ("", ".", "..") or "/" in name or "\\" in template or "\0" in name or name.startswith("."):
        raise UsageError(
            f"--name-template {template!r} makes {name!r}, which is no file name.",
            hint="Folders are mirrored by themselves; a name must not begin with a dot.",
        )
    return name


def _folder(source: Path) -> str:
    """The folders that lead to a source, in one word."""
    parts = [part for part in source.parent.parts if part not in (source.anchor, "..", ".")]
    return "_".join(parts) or Path(os.path.realpath(source.parent)).name


def telling_apart(sources: list[Path], template: str) -> str | None:
    """A template like the one given that gives sources names of their own, whatever folders they go into, or None."""
    whole = template if "{stem}" in template else "{stem}{suffix}"
    for stem in DISTINCT:
        wanted = f"{stem}{{suffix}}"
        if len({target_name(source, wanted).casefold() for source in sources}) == len(sources):
            return whole.replace("{stem}", stem)
    return None
