"""`stvsr man`: the manual page, made from the commands' own help."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from stvsr_cli import __version__

EXAMPLES = (
    ("x4 in size, x2 in frame rate", "stvsr upscale in.mp4 out.mp4"),
    ("a part, in H.265", "stvsr upscale in.mp4 out.mkv --start 1:30 --end 1:45 --codec libx265"),
    ("a folder of videos", "stvsr upscale DIR OUT/ --recursive --skip-existing"),
    ("see what came out", "stvsr compare in.mp4 out.mp4 --html page.html"),
)


def man(context: typer.Context) -> None:
    """Print the manual page: `stvsr man | man -l -` shows it."""
    root = context.find_root()
    from stvsr_cli.cli import EXIT_CODES

    typer.echo("\n".join(page(root.command, EXIT_CODES)))


def page(root: Any, exit_codes: str) -> Iterator[str]:
    """Lines of the manual page, in roff. root: the command that holds all others."""
    yield f'.TH STVSR 1 "" "stvsr {__version__}" "User Commands"'
    yield ".SH NAME"
    yield f"stvsr \\- {_text(_first(root)).rstrip('.').lower()}"
    yield ".SH SYNOPSIS"
    yield ".B stvsr\n[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]"
    yield from _options(root)
    yield ".SH COMMANDS"
    for words, command in _commands(root, ()):
        yield f".SS stvsr {' '.join(words)}"
        yield from _command(words, command)
    yield ".SH EXIT STATUS"
    for number, meaning in re.findall(r"(\d+) ([^,.]+)", exit_codes):
        yield f".TP\n.B {number}\n{_text(meaning)}"
    yield ".SH EXAMPLES"
    for title, line in EXAMPLES:
        yield f".TP\n{_text(title)}:\n.B {_text(line)}"


def _commands(command: Any, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in command.commands.items():
        if getattr(inner, "commands", None):
            yield from _commands(inner, (*above, name))
        elif not inner.hidden:
            yield (*above, name), inner


def _command(words: tuple[str, ...], command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    names = " ".join(f"\\fI{_text(_value(p))}\\fR" for p in arguments)
    yield f".B stvsr {' '.join(words)}\n[\\fIOPTIONS\\fR] {names}".rstrip()
    yield ".PP"
    yield _text(" ".join((command.help or "").split()))
    for argument in arguments:
        if getattr(argument, "help", None):
            yield f".TP\n\\fI{_text(_value(argument))}\\fR\n{_text(argument.help)}"
    yield from _options(command)


def _options(command: Any) -> Iterator[str]:
    for option in command.params:
        if option.param_type_name != "option" or option.hidden:
            continue
        flags = ", ".join(f"\\fB{_text(flag)}\\fR" for flag in (*option.opts, *option.secondary_opts))
        value = "" if option.is_flag or option.count else f" \\fI{_text(_value(option))}\\fR"
        default = option.default
        said = f" Default: {default}." if isinstance(default, str | int) and not isinstance(default, bool) else ""
        yield f".TP\n{flags}{value}\n{_text((option.help or '') + said)}"


def _value(parameter: Any) -> str:
    """What stands for a parameter's value."""
    return str(parameter.metavar or parameter.name.upper())


def _first(command: Any) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())


def _text(text: str) -> str:
    """A text for roff: backslashes, hyphens and leading dots as themselves, `code` in bold."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text)
    return re.sub(r"^(['.])", r"\\&\1", text)
