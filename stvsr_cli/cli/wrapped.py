"""Lines that begin with a label, broken between words beside it where a person reads them on a terminal."""

import shutil
import sys
import textwrap

import typer


def say(line: str, indent: int) -> None:
    """Write a line to standard output; on a terminal that is too narrow, its rest below, indented by so many columns.

    What another program reads stays one line.
    """
    if sys.stdout.isatty():
        line = fitted(line, shutil.get_terminal_size().columns, indent)
    typer.echo(line)


def fitted(line: str, columns: int, indent: int) -> str:
    """A line in as many as it takes; words, such as paths, stay whole."""
    if len(line) <= columns:
        return line
    head, rest = line[:indent], line[indent:]
    room = max(20, columns - indent)
    lines = textwrap.wrap(rest, room, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * indent}".join([head + lines[0], *lines[1:]]) if lines else line
