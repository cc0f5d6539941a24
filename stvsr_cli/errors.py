"""What can go wrong, as one tree, with the exit code each kind ends the program with.

StvsrError            1   a fault in the program itself, where nothing more exact fits
├── UsageError        2   options that contradict each other or make no sense
├── InputError        3   the input is missing, unreadable, empty, refused or not a video
├── OutputError       4   the output cannot be written: exists, disk full, unknown encoder
├── ModelError        5   unknown model, weights missing, damaged or of another shape
├── DeviceError       6   no such device, or not enough memory on it
├── BatchError        7   a batch ended with at least one file failed
├── StallError        8   a stage made no progress for too long
└── Interrupted     130   Ctrl-C or SIGTERM
"""


class StvsrError(Exception):
    """A failure the user can act on: one line that says what is wrong, and a hint that says what to do."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return the message and the hint as one line."""
        return f"{self.message} {self.hint}" if self.hint else self.message


class UsageError(StvsrError):
    """Options that contradict each other or lie outside what is possible."""

    exit_code = 2


class InputError(StvsrError):
    """The input is missing, unreadable, empty, refused, or not a video."""

    exit_code = 3


class InputChanged(InputError):
    """The input was written to while it was read: what was made of it is of no use."""


class OutputError(StvsrError):
    """The output cannot be written."""

    exit_code = 4


class ModelError(StvsrError):
    """An unknown model, or weights that are missing, damaged or of another shape."""

    exit_code = 5


class DeviceError(StvsrError):
    """No such device, or not enough memory on it."""

    exit_code = 6


class BatchError(StvsrError):
    """A batch ended with at least one file failed."""

    exit_code = 7


class StallError(StvsrError):
    """A stage made no progress for longer than the stall timeout."""

    exit_code = 8


class Interrupted(StvsrError):
    """The user or the system asked the program to stop."""

    exit_code = 130
