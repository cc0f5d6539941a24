"""`--like FILE`: the options that another file was made with, in place of the defaults."""

import ast
import logging
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stvsr_cli.errors import InputError

if TYPE_CHECKING:
    from stvsr_cli.media.record import Record

logger = logging.getLogger(__name__)

NAMES = {
    "options vae_tile_px": "vae_tile", "encoder options": "encoder_option", "target_fps": "fps", "fps": "input_fps",
}  # fmt: skip
"""Parameters of the command line whose names are not those of a record's fields."""
GROUPS = ("encoder ", "fit ", "options ")
PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
OFF = {"tile": {"0": "off"}, "vae_tile": {"0": "off"}}
"""Values that the command line has words for."""
PART = frozenset({"start", "end"})
"""Options that belong to one input: they are shown, and not taken for another."""


def parameters(record: "Record") -> dict[str, Any]:
    """What a record's options are on the command line: values by name of parameter."""
    found: dict[str, Any] = {"model": record.model}
    if record.precision in PRECISIONS:
        found["precision"] = PRECISIONS[record.precision]
    for field, text in record.options.items():
        name = NAMES.get(field, next((field.removeprefix(g) for g in GROUPS if field.startswith(g)), field))
        if text == "None":
            continue
        if name == "encoder_option":
            found[name] = [f"{key}={value}" for key, value in ast.literal_eval(text)]
        else:
            found[name] = f"{float(Fraction(text)):.9g}" if name in PART else OFF.get(name, {}).get(text, text)
    return found


def command_line(record: "Record") -> list[str]:
    """A record's options as arguments of `stvsr upscale`."""
    words = []
    for name, value in parameters(record).items():
        flag = f"--{name.replace('_', '-')}"
        if value in ("True", "False"):
            words.append(flag if value == "True" else f"--no-{flag[2:]}")
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [flag, one]
    return words


def like(file: Path, known: frozenset[str]) -> dict[str, Any]:
    """What a file was made with, by name of parameter. Raises InputError if it does not say."""
    from stvsr_cli.media.read.probe import check_local
    from stvsr_cli.media.record import read_record

    record = read_record(check_local(file))
    if record is None:
        raise InputError(f"{file} does not say how it was made.", hint="Only files made by stvsr do.")
    wanted = {name: value for name, value in parameters(record).items() if name not in PART}
    for name in sorted(set(wanted) - known):
        logger.warning("%s was made with %s, which is not known here", file, name)
    return {name: value for name, value in wanted.items() if name in known}
