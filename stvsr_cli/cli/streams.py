"""Standard output and error that cannot end the work: their reader may go, their disk may fill, they may be closed.

What is shown is written to the descriptor at once. Where that fails, or a reader takes nothing for `PATIENCE_S`, it is
lost, and how much was lost is said at the end, if that can be said.
"""

import errno
import io
import os
import select
import sys
from typing import TextIO, cast

from stvsr_cli.errors import OutputError

PATIENCE_S = 2.0
"""How long a reader that takes nothing is waited for; the next lines are not waited for until it takes one."""
PIECE = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe takes without waiting when it has any room."""


class Shown(io.TextIOBase):
    """A stream of text that never fails; it stands in for `sys.stderr`."""

    def __init__(self, stream: TextIO | None, number: int) -> None:
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._number, self._patience_s = number, PATIENCE_S
        self.lost = 0
        """Lines that could not be shown."""
        self.reason = ""
        """Why, in words."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream it stands for."""
        return self._encoding

    def write(self, text: str, /) -> int:
        """Show a text, or count it as lost."""
        try:
            self._put(text.encode(self._encoding, errors="backslashreplace"))
        except (OSError, ValueError) as error:
            self.lost += text.count("\n")
            self.reason = getattr(error, "strerror", None) or str(error)
        return len(text)

    def _put(self, data: bytes) -> None:
        while data:
            if not self._has_room():
                raise OSError(errno.EAGAIN, "the reader stopped reading")
            try:
                data = data[os.write(self._number, data[:PIECE]) :]
            except BlockingIOError:  # it is non-blocking, and has filled since
                continue

    def _has_room(self) -> bool:
        if not hasattr(select, "poll"):
            return True
        poll = select.poll()
        poll.register(self._number, select.POLLOUT)
        ready = bool(poll.poll(1000 * self._patience_s))
        self._patience_s = PATIENCE_S if ready else 0.0
        return ready

    def flush(self) -> None:
        """Nothing is held back."""

    def fileno(self) -> int:
        """The descriptor."""
        return self._number

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._number)

    def writable(self) -> bool:
        """Always."""
        return True


class Data(Shown):
    """Standard output: a reader that has gone wants no more, but what is lost in any other way is an error."""

    def write(self, text: str, /) -> int:
        """Write a text. Raises OutputError unless it is the reader that has gone."""
        try:
            self._put(text.encode(self._encoding, errors="surrogateescape"))
        except BrokenPipeError:
            return len(text)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputError(f"writing standard output failed: {reason}.", hint="Check where it goes.") from error
        return len(text)

    def _has_room(self) -> bool:
        return True


def guard_streams() -> None:
    """Make `sys.stdout` and `sys.stderr` such streams, and see to it that descriptors 0, 1 and 2 are open.

    A closed one would be given to the next file that is opened. In its place comes one that cannot be read, or
    written; only standard error takes everything.
    """
    for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    sys.stdout, sys.stderr = cast(TextIO, Data(sys.stdout, 1)), cast(TextIO, Shown(sys.stderr, 2))


def tell_losses() -> None:
    """Say how much could not be shown, on standard error, or else on a terminal that is standard output."""
    shown = sys.stderr
    if not isinstance(shown, Shown) or not shown.reason:
        return
    before = shown.lost
    what = "a line" if before <= 1 else f"{before} lines"
    line = f"stvsr: {what} could not be shown: {shown.reason}.\n"
    shown.write(line)
    if shown.lost > before and sys.stdout.isatty():
        sys.stdout.write(line)
