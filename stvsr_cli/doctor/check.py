"""What a look at one thing found."""

from dataclasses import dataclass

from stvsr_cli.errors import StvsrError

GOOD, WARNING, BAD = "good", "warning", "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """A line of the doctor's."""

    group: str
    """system, device, codecs, model or disk."""
    name: str
    state: str
    """good; warning: something is slower, or missing until it is asked for; bad: upscaling fails."""
    said: str
    """What was found."""
    advice: str = ""
    """What to do about it; empty where there is nothing to do."""
    kind: type[StvsrError] = StvsrError
    """The error that upscaling would end with, if this is bad."""


def exit_code(checks: list[Check]) -> int:
    """0 if nothing is bad, or the exit code of the first bad thing's kind."""
    return next((check.kind.exit_code for check in checks if check.state == BAD), 0)
