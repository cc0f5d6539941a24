"""Where a command's values come from when they are not given: configuration, a word of quality, another file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from stvsr_cli.cli.like import like
from stvsr_cli.errors import StvsrError

EXCLUSIVE = (frozenset({"scale", "width", "height", "fit"}), frozenset({"fps", "fps_factor"}))
"""Options of which one replaces the others: a given one also replaces what others have for defaults."""


class Layered(TyperCommand):
    """A command with further layers of defaults. Each is stronger than the one before it.

    Quality as configured, other configuration, --like, --quality, and last what is given.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the layers together before the arguments are taken."""
        if not ctx.resilient_parsing and not {"-h", "--help"} & set(args):
            given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
            ctx.default_map = failing(lambda: layers(dict(given), ctx.default_map or {}, self._names()))
        return super().parse_args(ctx, args)

    def _names(self) -> frozenset[str]:
        return frozenset(parameter.name for parameter in self.params if parameter.name)


def layers(given: dict[str, Any], configured: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The defaults beneath what is given. Raises StvsrError for a file or a word that is not known."""
    from_file = like(Path(given["like"]), known) if "like" in given else {}
    places = (given, from_file, configured)
    codec = next((place["codec"] for place in places if "codec" in place), None)
    if given.get("quality") or configured.get("quality"):
        codec = _encoder(codec, given.get("paths") or ())
    model = next((place["model"] for place in places if "model" in place), None)
    found: dict[str, Any] = {}
    for layer in (_quality(configured, codec, model), configured, from_file, _quality(given, codec, model)):
        found = _without_rivals(found, layer) | layer
    return _without_rivals(found, given)


def _encoder(codec: str | None, paths: Sequence[str]) -> str:
    """The encoder of a name, or of the output's suffix where none is named."""
    from stvsr_cli.media.write.choice import CODECS, NAMED
    from stvsr_cli.media.write.settings import AUTO, DEFAULT_CODEC

    if codec in (None, AUTO):
        return CODECS.get(Path(paths[-1]).suffix.lower() if paths else "", DEFAULT_CODEC)
    return NAMED.get(str(codec), str(codec))


def _quality(place: dict[str, Any], codec: str | None, model: str | None) -> dict[str, Any]:
    if place.get("quality") is None:
        return {}
    from stvsr_cli.job.quality import settings

    return dict(settings(place["quality"], codec or "", model))


def _without_rivals(defaults: dict[str, Any], stronger: dict[str, Any]) -> dict[str, Any]:
    rivals = {name for group in EXCLUSIVE if group & stronger.keys() for name in group}
    return {name: value for name, value in defaults.items() if name not in rivals}


def failing(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do what may fail before a command has begun; its error becomes one line and an exit code."""
    try:
        return work()
    except StvsrError as error:
        typer.echo(f"stvsr: error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
